"""What is done, as messages tell it and as the ledger says it: two witnesses, one count."""

from __future__ import annotations

from dataclasses import dataclass, field

from midasdl.progress.snapshot import Reading, Tally

BELIEVED_AFTER_S = 2.0
"""A reading of the ledger counts after this: by then every message has come that tells the same."""


@dataclass(slots=True)
class Count:
    """What the ledger had, and what messages have told since."""

    base: int = 0
    told: int = 0

    @property
    def shown(self) -> int:
        """Both together."""
        return self.base + self.told

    def believe(self, ledger: int, before: int) -> None:
        """Catch up with what the ledger says; go back only where it went back itself, as after ``midasdl retry``."""
        if ledger > self.shown or ledger < before:
            self.base = ledger - self.told

    def settle(self, ledger: int) -> None:
        """The ledger has the last word."""
        self.base = ledger - self.told


@dataclass(slots=True)
class Both:
    """A count of tasks with that of the files that they stand for."""

    tasks: Count
    files: Count


@dataclass(slots=True)
class Counts:
    """Files, tasks and bytes of a job.

    Messages come at once and may be lost, and tell only of this run; the ledger is a second behind and knows
    everything. So what it said is believed a little later: what it says more by then, nobody has told.

    Attributes
    ----------
    tasks_total, files_total : int
    done, failed : Both
    bytes_done : Count
        Of distinct contents.
    """

    tasks_total: int
    files_total: int
    done: Both
    failed: Both
    bytes_done: Count = field(default_factory=Count)
    latest: Reading | None = None
    waiting: tuple[float, Reading] | None = None

    @property
    def room(self) -> int:
        """How many more tasks can end."""
        return self.tasks_total - self.done.tasks.shown - self.failed.tasks.shown

    @property
    def tasks(self) -> Tally:
        """Tasks by how they stand."""
        return Tally(self.tasks_total, self.done.tasks.shown, self.failed.tasks.shown)

    @property
    def files(self) -> Tally:
        """Files by how they stand; never more than there are, whatever messages say."""
        done = min(self.done.files.shown, self.files_total)
        return Tally(self.files_total, done, min(self.failed.files.shown, self.files_total - done))

    def finish(self, files: int, size_bytes: int) -> None:
        """A task is done."""
        self.done.tasks.told += 1
        self.done.files.told += files
        self.bytes_done.told += size_bytes

    def fail(self, files: int) -> None:
        """A task has failed for good."""
        self.failed.tasks.told += 1
        self.failed.files.told += files

    def hear(self, reading: Reading, now_s: float, *, at_once: bool = False) -> None:
        """The first reading is believed at once, for little can have been told before it; later ones have to wait.

        Parameters
        ----------
        at_once : bool
            Everything that the reading knows has been told before.
        """
        if at_once or self.latest is None:
            known = [0] * len(self._pairs(reading)) if self.latest is None else self._known()
            self._believe(reading, known)
            self.waiting = None
            return
        self.believe_what_is_due(now_s)
        if self.waiting is None:
            self.waiting = (now_s, reading)

    def believe_what_is_due(self, now_s: float) -> None:
        """Catch up with a reading that has waited for long enough."""
        if self.waiting is None or self.latest is None or now_s < self.waiting[0] + BELIEVED_AFTER_S:
            return
        self._believe(self.waiting[1], self._known())
        self.waiting = None

    def settle(self, reading: Reading) -> None:
        """Every worker has ended: nothing is under way any more."""
        self.tasks_total, self.files_total = reading.tasks.total, reading.files.total
        for count, ledger in self._pairs(reading):
            count.settle(ledger)
        self.latest, self.waiting = reading, None

    def _known(self) -> list[int]:
        return [] if self.latest is None else [ledger for _, ledger in self._pairs(self.latest)]

    def _believe(self, reading: Reading, before: list[int]) -> None:
        self.tasks_total, self.files_total = reading.tasks.total, reading.files.total
        for (count, ledger), was in zip(self._pairs(reading), before, strict=True):
            count.believe(ledger, was)
        self.latest = reading

    def _pairs(self, reading: Reading) -> list[tuple[Count, int]]:
        return [
            (self.done.tasks, reading.tasks.done),
            (self.done.files, reading.files.done),
            (self.failed.tasks, reading.tasks.failed),
            (self.failed.files, reading.files.failed),
            (self.bytes_done, reading.bytes_done),
        ]


def counts_at_start(total: int, done: int, failed: int, files: int | None) -> Counts:
    """Before the ledger was read: a file for each task, unless somebody knows better."""
    return Counts(
        total,
        total if files is None else files,
        Both(Count(done), Count(done)),
        Both(Count(failed), Count(failed)),
    )
