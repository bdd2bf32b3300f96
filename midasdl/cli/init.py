"""`midasdl init`: load a manifest into the ledger."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from midasdl.cli.context import Subparsers, ledger_path, number, plural, settings_from
from midasdl.cli.output import Output
from midasdl.cli.wording import HelpFormatter
from midasdl.errors import ExitCode, UsageError
from midasdl.models import Kind, Reject

LATEST = "latest"

if TYPE_CHECKING:
    from midasdl.ledger.ledger import Ledger
    from midasdl.ledger.merge import LoadSummary
    from midasdl.ledger.overview import Counts
    from midasdl.selection import Selection

EXAMPLES = """examples:
  midasdl init latest --dest ./midas-open
  midasdl init midas-open-v202407-md5s.txt --dest /data/midas-open
  midasdl init manifest.txt --county devon --county 'corn*' --year 1990:2020 --qc 1
  midasdl init manifest.txt.gz --dataset uk-daily-temperature-obs --kind data --kind capability
  md5sum -b data/*/*.csv | midasdl init -

'latest' fetches the manifest of the latest release into this folder first, as 'midasdl manifest fetch' does; a file
of that name is ./latest. Loading again is safe: new files are added, files with a new md5 are fetched again, finished
work is kept. Options of different names must all match, repeats of one are alternatives. Files that have no such field
(a change log has no county) do not match a selection on it.
"""

SELECTION = (
    ("--dataset", "NAME", "such as uk-daily-rain-obs"),
    ("--release", "YYYYMM", "dataset version, such as 202407"),
    ("--qc", "0|1", "quality control version"),
    ("--county", "NAME", "historic county as in the paths, such as devon"),
    ("--station", "ID|NAME", "such as 01381, 1381 or twist"),
    ("--year", "YEARS", "1998, 1990:2020, 1990: or :2020"),
    ("--kind", "KIND", ", ".join(kind.value for kind in Kind)),
)


def add_to(commands: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "init",
        parents=[shared],
        help="load a manifest into the ledger",
        description="Load an md5 manifest into the ledger, or merge a newer one.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "manifest", metavar="MANIFEST", help="a file of md5sum output, also .gz; - is stdin; latest"
    )
    parser.add_argument("--dest", metavar="DIR", help="where the files go (default: ./midas-open)")
    parser.add_argument("--strict", action="store_true", help="load nothing if any line cannot be used")
    group = parser.add_argument_group("selection (repeatable, * and ? allowed; default: everything)")
    for option, metavar, text in SELECTION:
        group.add_argument(option, action="append", default=[], metavar=metavar, help=text)
    parser.set_defaults(act=act)


def act(options: argparse.Namespace, output: Output) -> ExitCode:
    """Load the manifest."""
    from midasdl.selection import Selection

    selection = Selection.parse(**{name[2:]: getattr(options, name[2:]) for name, *_ in SELECTION})
    settings = settings_from(options)
    if options.manifest == LATEST:
        from midasdl.cli.manifest import fetch_manifest

        options.manifest = str(fetch_manifest(options, output, LATEST))
    path = ledger_path(options)
    batch_lines = settings.performance.batching.manifest_batch_size
    loaded = _load(options, path, selection, batch_lines, output.note)
    _tell(output, path, *loaded)
    return ExitCode.DONE


def _load(
    options: argparse.Namespace,
    path: Path,
    selection: Selection,
    batch_lines: int,
    tell: Callable[[str], None],
) -> tuple[LoadSummary, Reject | None, Counts, Path]:
    from midasdl.ledger.ledger import DATA_ROOT, Ledger
    from midasdl.ledger.ledger_file import has_content
    from midasdl.ledger.load import ManifestLoader
    from midasdl.ledger.new_ledger import new_ledger
    from midasdl.ledger.overview import Overview
    from midasdl.manifest import ManifestParser, open_manifest
    from midasdl.processes import let_garbage_wait

    let_garbage_wait()
    stdin = sys.stdin.buffer if sys.stdin else None
    make_or_open = Ledger.open if has_content(path) else new_ledger
    with open_manifest(options.manifest, stdin) as stream, make_or_open(path, tell=tell) as ledger:
        root = _data_root(ledger, options.dest)
        loader = ManifestLoader(
            ledger, options.manifest, selection, strict=options.strict, batch_lines=batch_lines
        )
        with ledger.write() as connection:
            ledger.set_setting(connection, DATA_ROOT, str(root))
            loader.load(connection, ManifestParser(stream))
        return loader.summary, loader.first_reject, Overview(ledger).counts(), root


def _data_root(ledger: Ledger, wanted: str | None) -> Path:
    """The data root on record, or the one asked for; a ledger has only one.

    Raises
    ------
    UsageError
        When another one is on record.
    """
    from midasdl.ledger.ledger import DATA_ROOT

    recorded = ledger.setting(DATA_ROOT)
    asked = None if wanted is None else Path(wanted).expanduser().absolute()
    if recorded is None:
        return asked or Path("midas-open").absolute()
    if asked is not None and asked != Path(recorded):
        raise UsageError(
            f"The files of the ledger {ledger.path} are in {recorded}; they cannot go to {asked} as well.",
            f"Leave --dest out, or make another ledger with: midasdl --ledger NAME.db init … --dest {wanted}",
        )
    return Path(recorded)


def _tell(
    output: Output, path: Path, summary: LoadSummary, first_reject: Reject | None, counts: Counts, root: Path
) -> None:
    facts = {
        **asdict(summary),
        "accepted": summary.accepted,
        "tasks": counts.tasks,
        "pending": counts.pending,
    }
    output.record("init", {**facts, "files": counts.files, "ledger": path, "data_root": root})
    output.say(
        f"Read {plural(summary.lines, 'line')}: {plural(summary.added, 'new file')}, "
        f"{number(summary.changed)} changed, {number(summary.unchanged)} unchanged, {number(summary.gone)} gone."
    )
    if summary.not_selected or summary.repeated:
        output.say(
            f"  {number(summary.not_selected)} outside the selection, {number(summary.repeated)} repeated."
        )
    if first_reject is not None:
        output.say(
            f"  {plural(summary.rejected, 'line')} cannot be used; the first is line {first_reject.line_no}: "
            f"{first_reject.reason}.\n"
            '  All of them: midasdl sql "SELECT line_no, reason, text FROM reject"'
        )
    output.say(
        f"The ledger {path} holds {plural(counts.files, 'file')}, {plural(counts.tasks, 'distinct content')}; "
        f"to be fetched into {root}: {number(counts.pending)}."
    )
    output.say("Next: midasdl run" if counts.pending else "Nothing to do: everything is fetched.")
