"""`midasdl retry`: put failures back into the queue."""

from __future__ import annotations

import argparse

from midasdl.cli.context import Subparsers, ledger_path, plural
from midasdl.cli.output import Output
from midasdl.cli.wording import HelpFormatter
from midasdl.errors import ExitCode
from midasdl.models import ErrorClass

EXAMPLES = """examples:
  midasdl retry
  midasdl retry --class timeout --class connection && midasdl run
"""


def add_to(commands: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "retry",
        parents=[shared],
        help="put failed files back into the queue",
        description="Put failed files back into the queue, with a fresh set of attempts.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--class",
        dest="classes",
        action="append",
        metavar="CLASS",
        choices=[name.value for name in ErrorClass],
        help=f"only failures of this class (repeatable): {', '.join(ErrorClass)}",
    )
    parser.set_defaults(act=act)


def act(options: argparse.Namespace, output: Output) -> ExitCode:
    """Requeue failures."""
    from midasdl.ledger.ledger import Ledger
    from midasdl.ledger.tasks import TaskQueue

    with Ledger.open(ledger_path(options), tell=output.note) as ledger:
        requeued = TaskQueue(ledger).requeue([ErrorClass(name) for name in options.classes or ErrorClass])
    output.record("retry", {"requeued": requeued})
    output.say(
        f"{plural(requeued, 'failed file')} put back into the queue."
        + (" Next: midasdl run" if requeued else "")
    )
    return ExitCode.DONE
