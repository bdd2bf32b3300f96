"""Reading again what the ledger calls done, to see that it is on disk and what the manifest says.

Files are looked at in the order of their paths, by several processes, some thousands at a time. What was looked at is
recorded after each batch, so that an interrupted verification can go on where it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from midasdl.crew import Crew
from midasdl.errors import ExitCode, StoppedError, StorageError
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.verification import Bookmark, Damage, Verification, Wanted
from midasdl.look import Look, is_text, look_at, look_at_all, mark_of
from midasdl.manifest import OWN_FOLDER

BATCH = 1_000
"""Files between two records: seconds of work, and little memory."""

CHUNK = 20
"""Files that a process reads before it reports: a fraction of a second."""

DATA = "data"
"""The folder of the archive below which files that no manifest names are looked for."""


@dataclass(frozen=True, slots=True)
class VerifyPlan:
    """What to look at, and what to do about it.

    Attributes
    ----------
    workers : int
        Processes that read.
    share : float
        Of the files, drawn at random; 1 is all of them.
    resume : bool
        Go on where the last verification stopped, after another look at what it found.
    repair : bool
        Make the tasks of damaged files pending again.
    """

    workers: int
    share: float = 1.0
    resume: bool = False
    repair: bool = False


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification found.

    Attributes
    ----------
    files : int
        That the ledger calls done; `looked_at` of them were read or missed.
    changed : int
        Files that a run took up meanwhile; they were left alone.
    put_back : int
        Tasks that are pending again.
    unknown : int or None
        Files that no manifest names; None where nobody looked for them.
    interrupted_by : int or None
        The exit code of a wish for an early end.
    """

    files: int = 0
    looked_at: int = 0
    ok: int = 0
    bytes_ok: int = 0
    missing: int = 0
    corrupt: int = 0
    unreadable: int = 0
    changed: int = 0
    put_back: int = 0
    unknown: int | None = None
    interrupted_by: int | None = None

    @property
    def damaged(self) -> int:
        """Files that are not as they must be."""
        return self.missing + self.corrupt + self.unreadable


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of some files."""

    files: Sequence[Wanted]
    ok: int
    bytes_ok: int
    changed: int
    damage: tuple[Damage, ...]


class Sampler:
    """Draws a share of a known number of things, each as likely as any other.

    Parameters
    ----------
    share : float
        Above 0 and up to 1.
    total : int
    uniform : callable
        Source of randomness, such as `random.uniform`.
    """

    def __init__(self, share: float, total: int, uniform: Callable[[float, float], float]) -> None:
        self.wanted = min(total, max(1, round(share * total)))
        self._missing = self.wanted
        self._left = total
        self._uniform = uniform

    def takes_next(self) -> bool:
        """Whether the next thing is drawn."""
        taken = self._missing > 0 and self._uniform(0, max(1, self._left)) < self._missing
        self._left -= 1
        self._missing -= int(taken)
        return taken


class Verifier:
    """One verification.

    Parameters
    ----------
    ledger : Ledger
    root : Path
        The data root.
    plan : VerifyPlan
    uniform : callable
        Source of randomness, for samples.
    on_damage, on_unknown : callable
        Take each file that is not as it must be, and the path of each that no manifest names.
    on_progress : callable
        Takes the `Verified` so far, and how many files there are to look at.

    Notes
    -----
    Concurrency: a run may be on; tasks that it holds are not looked at. `stop` may be called from any thread and
    from signal handlers. Crash safety: each batch is recorded in one transaction, after which it is not looked at
    again by whoever resumes.
    """

    def __init__(
        self,
        ledger: Ledger,
        root: Path,
        plan: VerifyPlan,
        uniform: Callable[[float, float], float],
        on_damage: Callable[[Damage], None] = lambda _: None,
        on_unknown: Callable[[str], None] = lambda _: None,
        on_progress: Callable[[Verified, int], None] = lambda *_: None,
    ) -> None:
        self._clock = ledger.clock
        self._records = Verification(ledger)
        self._root = root
        self._plan = plan
        self._uniform = uniform
        self._on_damage = on_damage
        self._on_unknown = on_unknown
        self._on_progress = on_progress
        self._stop: int | None = None
        self._so_far = Verified()
        self._to_look_at = 0

    def stop(self, exit_code: int = ExitCode.INTERRUPTED) -> None:
        """Ask for an early end; what was recorded is kept."""
        self._stop = exit_code

    def run(self) -> Verified:
        """Look at everything that the plan names.

        Raises
        ------
        StorageError
            The data root is not there: without its disk everything would seem to be missing.
        LedgerError, WorkerCrashedError
        """
        self._so_far = Verified(files=self._records.count(damaged=False))
        if not self._so_far.files:
            return self._so_far
        require_data_root(self._root)
        try:
            with Crew(self._plan.workers, look_at_all.__module__, lambda: self._stop is not None) as crew:
                if self._plan.share < 1:
                    self._verify_sample(crew)
                else:
                    self._verify_all(crew)
        except StoppedError:
            return replace(self._so_far, interrupted_by=self._stop)
        return self._so_far

    def _verify_sample(self, crew: Crew) -> None:
        sampler = Sampler(self._plan.share, self._so_far.files, self._uniform)
        self._to_look_at = sampler.wanted
        for files in self._batches(""):
            self._keep(self._look_at(crew, [wanted for wanted in files if sampler.takes_next()]), None)

    def _verify_all(self, crew: Crew) -> None:
        bookmark = (self._records.bookmark() if self._plan.resume else None) or Bookmark(self._clock.now_us())
        todo = 0 if bookmark.ended_us else self._records.count(damaged=False, after=bookmark.after)
        again = self._records.count(damaged=True) if self._plan.resume else 0
        self._to_look_at = todo + again
        for files in self._batches("", damaged=True) if again else ():
            self._keep(self._look_at(crew, files), None)
        if bookmark.ended_us:
            return
        for files in self._batches(bookmark.after):
            batch = self._look_at(crew, files)
            bookmark = replace(bookmark, after=files[-1].path, looked_at=bookmark.looked_at + len(files))
            self._keep(batch, bookmark)
        self._look_for_unknown()
        ended = replace(bookmark, ended_us=self._clock.now_us())
        self._records.record([], [], ended, repair=False)

    def _batches(self, after: str, *, damaged: bool = False) -> Iterator[list[Wanted]]:
        while files := self._records.next_files(after, BATCH, damaged=damaged):
            yield files
            after = files[-1].path

    def _look_at(self, crew: Crew, files: Sequence[Wanted]) -> Batch:
        """Read some files; what is not as it must be is believed only of files that nobody works on."""
        looks = crew.map(look_at_all, [str(self._root / wanted.path) for wanted in files], CHUNK)
        seen = {
            wanted: look if is_right(wanted, look) else self._second_look(wanted, look)
            for wanted, look in zip(files, looks, strict=True)
        }
        sizes = [look.size_bytes or 0 for wanted, look in seen.items() if is_right(wanted, look)]
        wrong = [wanted for wanted, look in seen.items() if not is_right(wanted, look)]
        standing = self._records.unchanged(wrong)
        damage = tuple(damage_seen(wanted, seen[wanted]) for wanted in wrong if wanted in standing)
        return Batch(files, len(sizes), sum(sizes), len(wrong) - len(damage), damage)

    def _second_look(self, wanted: Wanted, look: Look) -> Look:
        """Read a file again that was replaced or written to since."""
        path = self._root / wanted.path
        return look if mark_of(path) == look.mark else look_at(path)

    def _keep(self, batch: Batch, bookmark: Bookmark | None) -> None:
        """Record, count and tell what became of some files."""
        put_back = self._records.record(batch.files, batch.damage, bookmark, repair=self._plan.repair)
        for damage in batch.damage:
            self._on_damage(damage)
        self._so_far = _added(self._so_far, batch, put_back)
        self._on_progress(self._so_far, self._to_look_at)

    def _look_for_unknown(self) -> None:
        """Find files below the archive's folder that no manifest names."""
        found = 0
        names = files_below(self._root, DATA)
        while some := list(islice(names, BATCH)):
            if self._stop is not None:
                raise StoppedError("The command was asked to stop.")
            named = self._records.named([name for name in some if is_text(name)])
            for name in some:
                if name not in named:
                    found += 1
                    self._on_unknown(name)
        self._so_far = replace(self._so_far, unknown=found)


def require_data_root(root: Path) -> None:
    """See that a run has worked there.

    Raises
    ------
    StorageError
    """
    if not (root / OWN_FOLDER).is_dir():
        raise StorageError(
            f"{root} is not the data root that it was, or its disk is not mounted: it has no folder {OWN_FOLDER}.",
            f"Mount it. If its files are really gone, make {root / OWN_FOLDER} and type the command again.",
        )


def is_right(wanted: Wanted, look: Look) -> bool:
    """Whether a file holds what the manifest says."""
    return look.md5 == wanted.md5


def damage_seen(wanted: Wanted, look: Look) -> Damage:
    """What is wrong with a file that does not hold what the manifest says."""
    if look.trouble is not None:
        return Damage(wanted, "unreadable", look.trouble)
    if look.md5 is None:
        return Damage(wanted, "missing", "there is no such file")
    if look.size_bytes == 0:
        return Damage(wanted, "corrupt", "it is empty")
    if look.page is not None:
        return Damage(wanted, "corrupt", f"it is {look.page}")
    return Damage(wanted, "corrupt", f"its md5 is {look.md5}, not {wanted.md5}")


def files_below(root: Path, folder: str) -> Iterator[str]:
    """The path below `root` of every file in a folder of it, in order; linked folders are not entered."""
    for place, folders, names in os.walk(root / folder):
        folders.sort()
        for name in sorted(names):
            yield (Path(place) / name).relative_to(root).as_posix()


def _added(so_far: Verified, batch: Batch, put_back: int) -> Verified:
    found = [damage.found for damage in batch.damage]
    return replace(
        so_far,
        looked_at=so_far.looked_at + len(batch.files),
        ok=so_far.ok + batch.ok,
        bytes_ok=so_far.bytes_ok + batch.bytes_ok,
        missing=so_far.missing + found.count("missing"),
        corrupt=so_far.corrupt + found.count("corrupt"),
        unreadable=so_far.unreadable + found.count("unreadable"),
        changed=so_far.changed + batch.changed,
        put_back=so_far.put_back + put_back,
    )
