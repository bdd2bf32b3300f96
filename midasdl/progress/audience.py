"""Who follows a run: the tracker makes one picture of it, and everybody who watches is shown the same one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from midasdl.clock import Clock
from midasdl.errors import MidasdlError
from midasdl.progress.events import Event
from midasdl.progress.snapshot import Reading, Snapshot
from midasdl.progress.tracker import Tracker

SHOWN_EVERY_S = 0.3
"""A little less than the time between two words of a worker, so that each of those is seen at once: two or three
pictures a second."""


class Listener(Protocol):
    """What a run tells of itself."""

    def follow(self, event: Event) -> None:
        """Take in one message of a worker."""

    def tick(self, workers: int) -> None:
        """Called a few times a second with the number of living workers."""


class Watcher(Protocol):
    """One way to show a run: a display, a log, an endpoint.

    Notes
    -----
    Called from the coordinator's thread, which waits meanwhile: whatever may take long belongs into a thread of the
    watcher's own. What it raises is nobody's concern (invariant I8).
    """

    def follow(self, event: Event) -> None:
        """Take in one message, after the tracker has."""

    def show(self, snapshot: Snapshot) -> None:
        """Show how things stand; called a few times a second."""


class Audience:
    """A tracker, and everybody who watches what it makes of a run.

    Parameters
    ----------
    tracker : Tracker
    watchers : sequence of Watcher
    clock : Clock
    take_reading : callable, optional
        What the ledger says, where there is news of it; must not take long.
    """

    def __init__(
        self,
        tracker: Tracker,
        watchers: Sequence[Watcher],
        clock: Clock,
        take_reading: Callable[[], Reading | None] = lambda: None,
    ) -> None:
        self._tracker = tracker
        self._watchers = tuple(watchers)
        self._clock = clock
        self._take_reading = take_reading
        self._due_s = clock.monotonic()
        self._come_what_may = suppress(Exception)

    def follow(self, event: Event) -> None:
        """Take in one message of a worker, and pass it on."""
        self._tracker.follow(event, self._clock.monotonic())
        for watcher in self._watchers:
            with self._come_what_may:
                watcher.follow(event)

    def tick(self, workers: int) -> None:
        """Show everybody how things stand; `workers` are alive."""
        if self._clock.monotonic() < self._due_s:
            return
        self._due_s = self._clock.monotonic() + SHOWN_EVERY_S
        reading = self._take_reading()
        if reading is not None:
            self._tracker.learn(reading, self._clock.monotonic())
        self._show(self._tracker.snapshot(self._clock.monotonic(), workers))

    def end(self, read: Callable[[], Reading]) -> Snapshot:
        """The run has ended: show everybody the last picture, which is the ledger's own where it can be read."""
        with suppress(MidasdlError):
            self._tracker.settle(read(), self._clock.monotonic())
        snapshot = self._tracker.snapshot(self._clock.monotonic(), ended=True)
        self._show(snapshot)
        return snapshot

    def _show(self, snapshot: Snapshot) -> None:
        for watcher in self._watchers:
            with self._come_what_may:
                watcher.show(snapshot)


class Nobody:
    """A listener that does not listen."""

    def follow(self, event: Event) -> None:
        """Nothing."""

    def tick(self, workers: int) -> None:
        """Nothing."""
