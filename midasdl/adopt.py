"""Taking over files that other tools have fetched, or that an archive mounted here holds: no request is made.

What a file is its md5 tells; its name, whatever folders it lies in, only whether it is worth reading. A task is claimed
like by any worker, so a run may be on; each file is brought, checked, made durable and renamed like a download.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from itertools import islice
from pathlib import Path

from midasdl.cache import CacheStore
from midasdl.crew import Crew
from midasdl.disk import hard_link, reflink
from midasdl.errors import ExitCode, StoppedError, UsageError
from midasdl.identity import ProcessIdentity
from midasdl.ledger.adoption import Adoption, Names, Unfetched
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.outcomes import Claim, Finished, Outcome, Released
from midasdl.ledger.runs import RunRegistry, beating
from midasdl.ledger.tasks import TaskQueue
from midasdl.look import Look, is_text, look_at_all
from midasdl.manifest import OWN_FOLDER
from midasdl.models import TaskState

BATCH = 500
"""Files between two records: few enough that an end within seconds is possible while they are placed."""

CHUNK = 20
"""Files that a process takes at a time."""

ADDED_BY_WGET = re.compile(r"[?@]download=1$|\.[1-9]\d?$")
"""What wget puts behind a name: the query of a link, and a number where the name was taken."""


class How(StrEnum):
    """How bytes come into the data root."""

    COPY = "copy"
    """A file of its own, sharing its blocks where the file system can: nobody else's writing changes it."""
    LINK = "link"
    """A further name of the same file: no space, no copying; who edits one edits both."""
    MOVE = "move"
    """The file itself; its old name goes when the new one is durable."""


class Why(StrEnum):
    """Why a file was left alone."""

    DIFFERENT = "different"
    PAGE = "page"
    UNKNOWN = "unknown"
    UNREADABLE = "unreadable"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class Left:
    """A file that was left alone, and why."""

    path: str
    why: Why
    detail: str


@dataclass(frozen=True, slots=True)
class Adopted:
    """What came of a tree.

    Attributes
    ----------
    seen : int
        Files (of `fill`: contents) that were considered.
    adopted, bytes_adopted : int
        Contents that are done by this, and their size.
    already : int
        Files whose contents were done before.
    interrupted_by : int or None
        The exit code of a wish for an early end.
    """

    seen: int = 0
    adopted: int = 0
    bytes_adopted: int = 0
    already: int = 0
    different: int = 0
    page: int = 0
    unknown: int = 0
    unreadable: int = 0
    busy: int = 0
    interrupted_by: int | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """Where files go, how they come to a first and to further names, and what copies must leave of the disk."""

    root: Path
    duplicates: str
    how: How
    min_free_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """A file that may finish a claimed task."""

    source: str
    claim: Claim


class Adopter:
    """Brings files into the data root of a ledger.

    Parameters
    ----------
    ledger : Ledger
    site : Site
    workers : int
        Processes that read and copy.
    on_left : callable
        Takes each file that was left alone.
    on_progress : callable
        Takes what has come of it so far, and how much there is to look at (None: nobody knows).

    Notes
    -----
    Concurrency: runs may be on; `stop` may be called from any thread and from signal handlers. Crash safety: a
    task is recorded as done after its bytes are durable at every path; what was placed and not recorded is found by
    whoever looks next.
    """

    def __init__(
        self,
        ledger: Ledger,
        site: Site,
        workers: int,
        on_left: Callable[[Left], None] = lambda _: None,
        on_progress: Callable[[Adopted, int | None], None] = lambda *_: None,
    ) -> None:
        self._ledger = ledger
        self._site = site
        self._workers = workers
        self._on_left = on_left
        self._on_progress = on_progress
        self._questions = Adoption(ledger)
        self._queue = TaskQueue(ledger)
        self._registry = RunRegistry(ledger)
        self._stop: int | None = None
        self._so_far = Adopted()

    def stop(self, exit_code: int = ExitCode.INTERRUPTED) -> None:
        """Ask for an early end; what was recorded is kept."""
        self._stop = exit_code

    def adopt(self, folder: Path) -> Adopted:
        """Take over the files below a folder, wherever below it they are.

        Raises
        ------
        UsageError, StorageError, LedgerError, WorkerCrashedError
        """
        _require_folder(folder)
        _refuse_to_move_within(folder, self._site)
        with Names(self._ledger) as names:
            return self._work(lambda crew, me: self._adopt(crew, me, folder, names))

    def fill(self, folder: Path) -> Adopted:
        """Take what a folder holds at the archive's own paths, for everything that is not done.

        Raises
        ------
        UsageError, StorageError, LedgerError, WorkerCrashedError
        """
        _require_folder(folder)
        return self._work(lambda crew, me: self._fill(crew, me, folder))

    def _work(self, work: Callable[[Crew, int], None]) -> Adopted:
        """Do it with a crew, as somebody whom the ledger knows."""
        CacheStore(self._site.root).prepare()
        self._registry.recover()
        me = self._registry.register(None, "command", "adopt", ProcessIdentity.current())
        try:
            with (
                beating(self._registry, me),
                Crew(self._workers, __name__, lambda: self._stop is not None) as crew,
            ):
                work(crew, me)
        except StoppedError:
            return replace(self._so_far, interrupted_by=self._stop)
        finally:
            self._registry.retire([me], dead=False)
        return self._so_far

    def _adopt(self, crew: Crew, me: int, folder: Path, names: Names) -> None:
        files = files_below(folder, self._site.root, self._leave_folder)
        while paths := list(islice(files, BATCH)):
            worth = self._worth_reading(paths, names)
            looks = crew.map(look_at_all, list(worth), CHUNK)
            self._place(crew, me, self._wanted(dict(zip(worth, looks, strict=True)), worth))
            self._add(seen=len(paths))
            self._on_progress(self._so_far, None)

    def _fill(self, crew: Crew, me: int, folder: Path) -> None:
        total = self._questions.count_unfetched()
        for tasks in self._questions.unfetched(BATCH):
            sources = crew.map(partial(sources_of, str(folder)), tasks, CHUNK)
            found = {task.task_id: source for task, source in zip(tasks, sources, strict=True) if source}
            self._place(crew, me, found)
            self._add(seen=len(tasks), unknown=len(tasks) - len(found))
            self._on_progress(self._so_far, total)

    def _worth_reading(self, paths: Sequence[str], names: Names) -> dict[str, str]:
        """The files that may be wanted, each with the path of the archive that has its name, if only one has."""
        spelt = {path: spellings(Path(path).name) for path in paths}
        known = names.known({spelling for some in spelt.values() for spelling in some})
        standing = self._questions.standing([number for number in known.values() if number is not None])
        worth: dict[str, str] = {}
        for path, some in spelt.items():
            spelling = next((spelling for spelling in some if spelling in known), None)
            if spelling is None:
                self._leave(path, Why.UNKNOWN, "no manifest names it")
                continue
            held = standing.get(known[spelling] or 0)
            if held is not None and held.state is TaskState.DONE:
                self._add(already=1)
            else:
                worth[path] = held.path if held else spelling
        return worth

    def _wanted(self, looks: dict[str, Look], names: dict[str, str]) -> dict[int, str]:
        """By task that lacks its bytes: a file that has them."""
        tasks = self._questions.tasks_of({look.md5 for look in looks.values() if look.md5})
        found: dict[int, str] = {}
        for path, look in looks.items():
            number, state = tasks.get(look.md5 or "", (0, None))
            if state is None:
                self._leave(path, *why_not(look, names[path]))
            elif state is TaskState.DONE or number in found:
                self._add(already=1)
            else:
                found[number] = path
        return found

    def _place(self, crew: Crew, me: int, found: dict[int, str]) -> None:
        """Claim tasks, put their bytes in place, and record what came of it."""
        claims = self._queue.claim_these(me, list(found)) if found else ()
        deliveries = [Delivery(found[claim.task_id], claim) for claim in claims]
        sizes = crew.map(partial(place_all, self._site), deliveries, CHUNK, to_the_end=True)
        outcomes = [_outcome(delivery.claim, size) for delivery, size in zip(deliveries, sizes, strict=True)]
        lost = self._queue.settle(me, outcomes, want=0).lost if outcomes else frozenset()
        for number in set(found) - {claim.task_id for claim in claims} | lost:
            self._leave(found[number], Why.BUSY, "a run is fetching it just now")
        for delivery, size in zip(deliveries, sizes, strict=True):
            if size is None:
                self._leave(delivery.source, Why.DIFFERENT, f"it is not {delivery.claim.paths[0]}")
            elif delivery.claim.task_id not in lost:
                self._add(adopted=1, bytes_adopted=size)

    def _leave(self, path: str, why: Why, detail: str) -> None:
        self._add(**{why.value: 1})
        self._on_left(Left(path, why, detail))

    def _leave_folder(self, error: OSError) -> None:
        self._leave(str(error.filename), Why.UNREADABLE, error.strerror or str(error))

    def _add(self, **more: int) -> None:
        sums = {name: getattr(self._so_far, name) + count for name, count in more.items()}
        self._so_far = replace(self._so_far, **sums)


# --- what the crew does


def sources_of(folder: str, tasks: Sequence[Unfetched]) -> list[str | None]:
    """For each task, a file of the folder that lies at one of its paths."""
    return [
        next((str(Path(folder, path)) for path in task.paths if Path(folder, path).is_file()), None)
        for task in tasks
    ]


def place_all(site: Site, deliveries: Sequence[Delivery]) -> list[int | None]:
    """Put files in place; the size of each, or None where its bytes are not the right ones.

    All names are durable when this returns, and only then do files that are moved lose their old ones.
    """
    store = CacheStore(site.root, site.duplicates, site.min_free_bytes)
    checked = [store.check(delivery.claim.paths, delivery.claim.md5) for delivery in deliveries]
    sizes: list[int | None] = []
    for delivery, held in zip(deliveries, checked, strict=True):
        if held.size_bytes is None:
            sizes.append(_bring(store, delivery, site.how))
        else:
            store.complete(held)
            sizes.append(held.size_bytes)
    store.sync_folders()
    if site.how is How.MOVE:
        for delivery, held, size in zip(deliveries, checked, sizes, strict=True):
            if held.size_bytes is None and size is not None:
                _forget(Path(delivery.source))
    return sizes


def _bring(store: CacheStore, delivery: Delivery, how: How) -> int | None:
    source = Path(delivery.source).resolve()
    if not _is_readable(source):
        return None
    if how is How.COPY:
        store.require_room(delivery.claim.paths[0])
    bring = reflink if how is How.COPY else hard_link
    return store.take_in(source, delivery.claim.paths, delivery.claim.md5, bring)


def _is_readable(source: Path) -> bool:
    """Whether it is still there; what is wrong with somebody else's file is no trouble of ours."""
    try:
        with source.open("rb"):
            return True
    except OSError:
        return False


def _forget(source: Path) -> None:
    """Remove the old name of a file that has moved; a link to one elsewhere stays."""
    if not source.is_symlink():
        try:
            source.unlink()
        except OSError:
            return


# --- decisions


def spellings(name: str) -> tuple[str, ...]:
    """What a file may be called in a manifest: its name, without what wget puts behind it."""
    if not is_text(name):
        return ()
    shorter = ADDED_BY_WGET.sub("", name)
    return (name,) if shorter == name else (name, shorter, ADDED_BY_WGET.sub("", shorter))


def why_not(look: Look, name: str) -> tuple[Why, str]:
    """Why a file with a name that is wanted is not wanted itself."""
    if look.md5 is None:
        return Why.UNREADABLE, look.trouble or "it has gone"
    if look.page is not None:
        return Why.PAGE, f"it is {look.page}, saved under the name of data"
    if look.size_bytes == 0:
        return Why.DIFFERENT, "it is empty"
    return Why.DIFFERENT, f"its bytes are not those of {name} in the manifest"


def _outcome(claim: Claim, size: int | None) -> Outcome:
    return Released(claim, "other bytes") if size is None else Finished(claim, size, from_cache=True)


# --- the tree


def files_below(folder: Path, data_root: Path, on_error: Callable[[OSError], None]) -> Iterator[str]:
    """Every file below a folder, and what links to one; without what midasdl keeps for itself.

    A data root inside the folder is left out; the folder may be the data root, or inside it.
    """
    root = data_root.resolve()
    holds_root = root != folder.resolve() and root.is_relative_to(folder.resolve())
    for place, folders, names in os.walk(folder, onerror=on_error):
        folders[:] = sorted(name for name in folders if name != OWN_FOLDER)
        if holds_root:
            folders[:] = [name for name in folders if Path(place, name).resolve() != root]
        for name in sorted(names):
            path = Path(place, name)
            if path.is_file():
                yield str(path)


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is not a folder that can be read.",
            "Name the folder that holds the files, as it is mounted here.",
        )


def _refuse_to_move_within(folder: Path, site: Site) -> None:
    if site.how is How.MOVE and folder.resolve().is_relative_to(site.root.resolve()):
        raise UsageError(
            f"{folder} lies in the data root {site.root}: files there cannot be moved away from their paths.",
            "Leave out --move: files at their own paths are recorded where they are.",
        )
