"""`midasdl sql`: ask the ledger."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from midasdl.cli.context import Subparsers, ledger_path
from midasdl.cli.output import Output, columns_of, printing
from midasdl.cli.wording import HelpFormatter
from midasdl.errors import ExitCode, UsageError

EXAMPLES = """examples:
  midasdl sql "SELECT * FROM progress"
  midasdl sql "SELECT path, class, message FROM failures" --format csv > failures.csv
  midasdl sql "SELECT county, count(*) AS files FROM downloads WHERE state = 'done' GROUP BY county"

Views: progress, failures, waiting, damaged, downloads, stations, throughput, workers_now, history, time_in_state,
health, responses, steps, runs.
Nothing can be written, and a run that is on is not slowed. The sqlite3 shell does as well:
  sqlite3 -readonly progress.db
More questions and their queries: docs/cookbook.md
"""


def add_to(commands: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "sql",
        parents=[shared],
        help="ask the ledger in SQL, read-only",
        description="Run one read-only SQL query on the ledger.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("query", metavar="QUERY", help='such as "SELECT * FROM progress"')
    parser.add_argument(
        "--format",
        choices=("table", "csv", "json"),
        help="how to print rows (default: table)",
    )
    parser.set_defaults(act=act)


def act(options: argparse.Namespace, output: Output) -> ExitCode:
    """Run the query and print its rows."""
    from sqlalchemy.exc import DBAPIError, ResourceClosedError

    from midasdl.errors import NotALedgerError
    from midasdl.ledger.ledger import Ledger
    from midasdl.ledger.sqlite_errors import is_interrupted, translate, way_back
    from midasdl.ledger.views import spoilt_views

    style = options.format or ("records" if output.json_lines else "table")
    with (
        Ledger.open(ledger_path(options), read_only=True, tell=output.note) as ledger,
        ledger.read() as connection,
    ):
        try:
            result = connection.exec_driver_sql(options.query)
            names = tuple(result.keys())
            if sys.stdout is not None:  # a closed one has no reader
                with printing():
                    PRINTERS[style](output, names, (tuple(row) for row in result))
        except DBAPIError as error:
            if is_interrupted(error):
                raise
            if isinstance(damaged := translate(error, ledger.path), NotALedgerError):
                raise damaged from error
            if spoilt := spoilt_views(connection):
                why = f"The ledger {ledger.path} is damaged (the view {spoilt[0]} is not what it was)."
                raise NotALedgerError(why, way_back(ledger.path)) from error
            raise UsageError(
                f"The query cannot be run: {error.orig}.",
                'Tables and views: midasdl sql "SELECT name FROM sqlite_schema"',
            ) from None
        except ledger.library.module.Warning:
            raise UsageError(
                "One query at a time, please.", "Leave out what follows the semicolon."
            ) from None
        except ResourceClosedError:
            raise UsageError("The query gives no rows.", "Ask with SELECT.") from None
    return ExitCode.DONE


def print_table(_: Output, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Columns for people, numbers to the right; a block for each row where columns would not fit the terminal."""
    from midasdl.cli.table import table_lines

    for line in table_lines(names, list(rows), columns_of(sys.stdout)):
        sys.stdout.write(line + "\n")


def print_csv(_: Output, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Comma-separated values with a header, as they come."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)


def print_json(_: Output, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """One JSON object a row, as they come."""
    for row in rows:
        sys.stdout.write(json.dumps(dict(zip(names, row, strict=True)), default=str) + "\n")


def print_records(output: Output, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """One record a row, in the form of every ``--json`` output."""
    for row in rows:
        output.record("row", {"row": dict(zip(names, row, strict=True))})


PRINTERS = {"records": print_records, "table": print_table, "csv": print_csv, "json": print_json}
