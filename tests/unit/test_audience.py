"""P1, I8: everybody who watches a run sees the same picture, and hurts nobody."""

from __future__ import annotations

from midasdl.progress.audience import Audience
from midasdl.progress.events import CacheHit, Event
from midasdl.progress.snapshot import Snapshot
from midasdl.progress.tracker import Tracker
from tests.support.clock import FakeClock


class Remembers:
    """A watcher that keeps what it was shown."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.pictures: list[Snapshot] = []

    def follow(self, event: Event) -> None:
        self.events.append(event)

    def show(self, snapshot: Snapshot) -> None:
        self.pictures.append(snapshot)


class Crashes:
    """A watcher that can do nothing."""

    def follow(self, event: Event) -> None:
        raise RuntimeError

    def show(self, snapshot: Snapshot) -> None:
        raise OSError


def test_all_watchers_are_shown_the_same_picture_also_beside_one_that_crashes() -> None:
    """I8: what one of them raises keeps nothing from the others, nor from the run."""
    first, last, clock = Remembers(), Remembers(), FakeClock()
    audience = Audience(Tracker(2, 0, 0, clock.monotonic()), [first, Crashes(), last], clock)

    audience.follow(CacheHit(1, "data/a.csv", 10, 1))
    audience.tick(3)

    assert first.events == last.events == [CacheHit(1, "data/a.csv", 10, 1)]
    assert first.pictures == last.pictures
    assert (first.pictures[0].tasks.done, first.pictures[0].workers) == (1, 3)
