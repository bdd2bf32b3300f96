"""`midasdl resume`: go on where the last run stopped, with its settings."""

from __future__ import annotations

import argparse

from midasdl.cli.context import Subparsers, ledger_path
from midasdl.cli.output import Output
from midasdl.cli.run import add_options, run_job
from midasdl.cli.wording import HelpFormatter
from midasdl.errors import ExitCode, UsageError

EXAMPLES = """examples:
  midasdl resume
  midasdl resume --retry-failed
  midasdl resume --workers 2

Settings come from the last run; options, the environment and --config beat them. Files that are on disk already are
checked, not fetched again.
"""


def add_to(commands: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "resume",
        parents=[shared],
        help="go on after a break or a crash",
        description="Continue the last run with its recorded settings.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    add_options(parser)
    parser.set_defaults(act=act)


def act(options: argparse.Namespace, output: Output) -> ExitCode:
    """Continue the last run."""
    from midasdl.ledger.ledger import Ledger
    from midasdl.ledger.runs import RunRegistry

    with Ledger.open(ledger_path(options), tell=output.note) as ledger:
        last = RunRegistry(ledger).last_run()
    if last is None:
        raise UsageError("There is no run to resume.", "Start one with: midasdl run")
    return run_job(options, output, "resume", last.settings)
