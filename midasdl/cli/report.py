"""`midasdl report`: one HTML file that shows what there is, what is missing, and how it was fetched."""

from __future__ import annotations

import argparse
from pathlib import Path

from midasdl.cli.context import Subparsers, ledger_path, size
from midasdl.cli.output import Output
from midasdl.cli.wording import HelpFormatter
from midasdl.disk import write_whole
from midasdl.errors import ExitCode, StorageError

EXAMPLES = """examples:
  midasdl report
  midasdl report --output coverage.html

The file needs nothing beside it and no network: open it in a browser, send it to a colleague. It can be made while a
run is on, and afterwards.
"""


def add_to(commands: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "report",
        parents=[shared],
        help="show coverage, gaps, speed and politeness in one HTML file",
        description="Write one HTML file with pictures of what there is, what is missing and how it was fetched.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--output", metavar="FILE", type=Path, default=Path("report.html"), help="default: report.html"
    )
    parser.set_defaults(act=act)


def act(options: argparse.Namespace, output: Output) -> ExitCode:
    """Write the report."""
    from midasdl.cli.summary import ADVICE
    from midasdl.ledger.ledger import Ledger, data_root_of
    from midasdl.ledger.library import may_be_written
    from midasdl.report.facts import gather
    from midasdl.report.page import page_of

    path = ledger_path(options)
    with Ledger.open(path, read_only=not may_be_written(path), tell=output.note) as ledger:
        facts = gather(ledger, str(data_root_of(ledger)))
    page = page_of(facts, {str(name): cure for name, cure in ADVICE.items()})
    written = write(options.output.expanduser().absolute(), page.encode())
    if not written.is_file():  # a pipe or a device: whoever reads there wants the page alone
        return ExitCode.DONE
    output.record(
        "report",
        {
            "path": written,
            "bytes": written.stat().st_size,
            "files": facts.files,
            "done": facts.files_done,
            "failed": facts.files_failed,
        },
    )
    output.say(f"{written} ({size(written.stat().st_size)}): open it in a browser.")
    return ExitCode.DONE


def write(path: Path, page: bytes) -> Path:
    """Write the file, which is whole at every moment.

    Raises
    ------
    StorageError
        It cannot be written; what stood there stays.
    """
    try:
        write_whole(path, page)
    except OSError as error:
        raise StorageError(
            f"The report {path} cannot be written: {error.strerror}.", "Choose another place with --output."
        ) from error
    return path
