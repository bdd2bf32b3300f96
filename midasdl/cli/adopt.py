"""`midasdl adopt`: take over a tree that other tools have fetched."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midasdl.cli.context import Subparsers, ledger_path, number, plural, settings_from, size
from midasdl.cli.output import Output
from midasdl.cli.wording import HelpFormatter
from midasdl.errors import ExitCode

if TYPE_CHECKING:
    from midasdl.adopt import Adopted, Adopter, How, Left
    from midasdl.ledger.ledger import Ledger

EXAMPLES = """examples:
  midasdl adopt ./dap.ceda.ac.uk
  midasdl adopt ~/old-midas --move
  midasdl adopt /data/shared/midas --link --json > adopted.jsonl

Load a manifest first, with 'midasdl init'. Files are known by their names, in whatever folders they lie, and taken
by their md5: each goes to every path at which the manifest has those bytes, and is done without a request. The tree
itself is not touched; what is in the data root already is recorded where it is. Files with other bytes, web pages
saved as data and unknown files are told and left alone.

By default files are copied, sharing their blocks where the file system can, so that later changes in the old tree
change nothing here. --link makes hard links: no copying, but whoever edits one edits both. --move takes the old names
away when the new ones are on disk. Typing the command again goes on where it was.

exit codes: 0 the tree was gone through; 2 no such folder; 4 local storage; 130, 143 interrupted
"""

TOLD_ONLY_WHEN_VERBOSE = frozenset({"unknown", "busy"})


def add_to(commands: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "adopt",
        parents=[shared],
        help="take over files that other tools have fetched",
        description="Take over the files of a folder that the ledger wants, checked by md5, without a request.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="the folder with the files")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--link", action="store_true", help="make hard links instead of copies")
    ways.add_argument("--move", action="store_true", help="move the files instead of copying them")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that read and copy (default: 4)")
    parser.set_defaults(act=act)


def act(options: argparse.Namespace, output: Output) -> ExitCode:
    """Adopt, and tell what came of it."""
    from midasdl.adopt import How
    from midasdl.ledger.ledger import Ledger

    how = How.LINK if options.link else How.MOVE if options.move else How.COPY
    settings = settings_from(options)
    with Ledger.open(ledger_path(options), tell=output.note) as ledger:
        adopted = bring(
            ledger, settings, output, how, "adopting", lambda it: it.adopt(options.folder.expanduser())
        )
        unfetched = unfetched_in(ledger)
    exit_code = ExitCode(adopted.interrupted_by or ExitCode.DONE)
    output.record("adopt", {**facts_of(adopted), "exit_code": exit_code})
    for line in _lines(adopted, unfetched):
        output.say(line)
    return exit_code


def fill(ledger: Ledger, settings: Any, output: Output, source: Path) -> int | None:
    """Before a run: take what a mounted archive holds.

    Returns
    -------
    int or None
        The exit code of a wish for an early end.
    """
    from midasdl.adopt import How

    adopted = bring(ledger, settings, output, How.COPY, "copying", lambda it: it.fill(source.expanduser()))
    facts = facts_of(adopted)
    facts["not_there"] = facts.pop("unknown")
    output.record("fill", {**facts, "source": source})
    output.say(
        f"Copied {plural(adopted.adopted, 'file')} ({size(adopted.bytes_adopted)}) from {source}; of "
        f"{number(adopted.seen)} that were wanted {number(adopted.unknown)} are not there, "
        f"{number(adopted.different)} have other bytes there."
    )
    if adopted.seen and adopted.unknown == adopted.seen:
        output.note(f"Nothing that is wanted lies below {source}: name the folder that holds 'data'.")
    return adopted.interrupted_by


def bring(
    ledger: Ledger, settings: Any, output: Output, how: How, doing: str, work: Callable[[Adopter], Adopted]
) -> Adopted:
    """Let an adopter work, with progress on the screen and an ear for signals."""
    from midasdl.adopt import Adopter, Site
    from midasdl.cli.counting import Counting
    from midasdl.cli.signals import stopping_on_signals
    from midasdl.ledger.ledger import data_root_of

    storage = settings.storage
    with Counting(output, doing, ledger.clock) as counting:
        adopter = Adopter(
            ledger,
            Site(data_root_of(ledger), storage.duplicates, how, storage.min_free_bytes),
            settings.performance.workers.count,
            lambda left: _tell_left(output, left),
            lambda so_far, total: counting.show(so_far.seen, total, f"{number(so_far.adopted)} taken over"),
        )
        with stopping_on_signals(adopter, ledger.patience):
            return work(adopter)


def unfetched_in(ledger: Ledger) -> int:
    """Contents that still have to be fetched."""
    from midasdl.ledger.overview import Overview

    counts = Overview(ledger).counts()
    return counts.unfinished + counts.failed


def facts_of(adopted: Adopted) -> dict[str, Any]:
    """What came of it, for programs."""
    facts = asdict(adopted)
    return {**facts, "interrupted": facts.pop("interrupted_by") is not None}


def _tell_left(output: Output, left: Left) -> None:
    from midasdl.look import presentable

    output.record("adopt-file", {"path": left.path, "found": left.why, "detail": left.detail})
    if output.verbose or left.why not in TOLD_ONLY_WHEN_VERBOSE:
        output.say(f"{left.why:<10}  {presentable(left.path)}: {left.detail}")


def _lines(adopted: Adopted, unfetched: int) -> list[str]:
    """What happened, and what to type next."""
    left = [
        (adopted.different, "with other bytes"),
        (adopted.page, "web pages saved as data"),
        (adopted.unreadable, "unreadable"),
        (adopted.unknown, "unknown"),
        (adopted.busy, "being fetched by a run"),
    ]
    named = ", ".join(f"{number(count)} {what}" for count, what in left if count)
    lines = [
        f"Looked at {plural(adopted.seen, 'file')}: took over {plural(adopted.adopted, 'distinct content')} "
        f"({size(adopted.bytes_adopted)}), had {number(adopted.already)} already"
        + (f"; left alone: {named}." if named else ".")
    ]
    if adopted.interrupted_by is not None:
        return [*lines, "Go on with the same command."]
    if unfetched:
        return [*lines, f"Still to be fetched: {number(unfetched)}. Next: midasdl run"]
    return [*lines, "Everything is here; nothing has to be fetched."]
