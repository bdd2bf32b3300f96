"""P1, P7: what is made of messages that may be repeated, late or lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midasdl.models import ErrorClass
from midasdl.progress.busy import MOST_ACTIVE
from midasdl.progress.events import (
    CacheHit,
    DownloadAbandoned,
    DownloadCompleted,
    DownloadFailed,
    DownloadStarted,
    Event,
    PaceChanged,
)
from midasdl.progress.pace import LONGEST_WINDOW_S
from midasdl.progress.snapshot import Active, Snapshot, Tally
from midasdl.progress.tracker import ENDS_REMEMBERED, Tracker


def started(task: int) -> Event:
    return DownloadStarted(task, f"data/{task}.csv")


def completed(task: int, size: int = 1_000) -> Event:
    return DownloadCompleted(task, f"data/{task}.csv", size, 5_000, 1)


def hit(task: int) -> Event:
    return CacheHit(task, f"data/{task}.csv", 1_000, 1)


def failed(task: int, *, retried: bool) -> Event:
    return DownloadFailed(task, f"data/{task}.csv", ErrorClass.TIMEOUT, "late", retried)


def followed(*events: Event, total: int = 10, done: int = 0, was_failed: int = 0) -> Snapshot:
    tracker = Tracker(total, done, was_failed, 0.0)
    for event in events:
        tracker.follow(event, 1.0)
    return tracker.snapshot(2.0)


def test_f5_a_pause_is_told_until_it_ends() -> None:
    """Other notices pass; the end of a pause is what somebody who looks in wants to know."""
    tracker = Tracker(10, 0, 0, 0.0)
    tracker.follow(PaceChanged("profile", "balanced", "pause", "Paused until 06:00.", paused=True), 1.0)
    assert tracker.snapshot(40_000.0).notice == "Paused until 06:00."
    tracker.follow(PaceChanged("profile", "pause", "balanced", "Balanced holds."), 40_001.0)
    assert tracker.snapshot(40_002.0).notice == "Balanced holds."
    assert tracker.snapshot(50_000.0).notice is None


def test_p1_the_tracker_counts_what_workers_tell() -> None:
    now = followed(
        *(started(1), completed(1, 700), hit(2), started(3), failed(3, retried=True)),
        *(started(4), failed(4, retried=False), started(5)),
        total=20,
        done=3,
        was_failed=1,
    )
    assert now.tasks == now.files == Tally(20, 5, 2)
    assert now.failures == ((ErrorClass.TIMEOUT, 1),)
    assert (now.fetched, now.cached, now.retrying, now.bytes_fetched) == (1, 1, 1, 700)
    assert now.active == (Active("data/5.csv", 0, 1.0),)
    assert now.elapsed_s == 2.0


@pytest.mark.parametrize(
    "event", [completed(1), hit(1), failed(1, retried=False)], ids=["completed", "hit", "failed"]
)
def test_p1_a_repeated_message_counts_once(event: Event) -> None:
    assert followed(event, event, event) == followed(event)


def test_p1_a_second_end_of_a_task_changes_nothing() -> None:
    now = followed(completed(1), failed(1, retried=False), hit(1))
    assert (now.tasks, now.fetched, now.cached) == (Tally(10, 1, 0), 1, 0)


def test_p1_progress_never_passes_the_total() -> None:
    """More ends than there are tasks: the manifest grew, or a message of another ledger came."""
    now = followed(*(completed(task) for task in range(50)), total=10, done=4, was_failed=2)
    assert (now.tasks, now.fetched) == (Tally(10, 8, 2), 4)


def test_p1_a_start_that_comes_after_the_end_shows_no_ghost() -> None:
    assert followed(completed(1), started(1)).active == ()


@pytest.mark.parametrize(
    "end",
    [
        completed(1),
        hit(1),
        failed(1, retried=True),
        failed(1, retried=False),
        DownloadAbandoned(1, "stopped"),
    ],
)
def test_p1_whatever_ends_a_file_takes_it_off_the_display(end: Event) -> None:
    assert followed(started(1), end).active == ()


def test_p1_a_lost_start_costs_nothing() -> None:
    assert followed(completed(1)).tasks.done == 1


def test_p7_lost_ends_do_not_fill_the_display_or_the_memory() -> None:
    now = followed(*(started(task) for task in range(5_000)), total=5_000)
    assert len(now.active) == MOST_ACTIVE
    assert now.active[-1].path == "data/4999.csv"


def test_p7_memory_is_the_same_for_a_hundred_tasks_and_for_many() -> None:
    tracker = Tracker(10**6, 0, 0, 0.0)
    for task in range(4 * ENDS_REMEMBERED):
        tracker.follow(completed(task), task / 100)
    assert len(tracker._ended) == ENDS_REMEMBERED
    assert len(tracker._meter._seconds) <= LONGEST_WINDOW_S + 2, (
        "one figure a second, also if nobody ever looks"
    )
    assert tracker.snapshot(400.0).tasks.done == 4 * ENDS_REMEMBERED


def test_p3_speed_is_that_of_the_last_minute() -> None:
    tracker = Tracker(1_000, 0, 0, 0.0)
    for second in range(120):
        tracker.follow(completed(second, 6_000 if second < 60 else 3_000), float(second))
    assert tracker.snapshot(120.0).bytes_per_s == pytest.approx(3_000, rel=0.02)
    assert tracker.snapshot(1_000.0).bytes_per_s == 0.0


def test_p3_the_first_moment_shows_no_absurd_speed() -> None:
    tracker = Tracker(10, 0, 0, 5.0)
    tracker.follow(completed(1, 1_000_000), 5.0001)
    assert tracker.snapshot(5.0002).bytes_per_s == 1_000_000


messages = st.one_of(
    st.builds(started, st.integers(0, 12)),
    st.builds(completed, st.integers(0, 12), st.integers(0, 10_000)),
    st.builds(hit, st.integers(0, 12)),
    st.builds(lambda task, retried: failed(task, retried=retried), st.integers(0, 12), st.booleans()),
    st.builds(DownloadAbandoned, st.integers(0, 12), st.just("lost")),
)


@given(
    st.lists(st.tuples(messages, st.floats(0, 40)), max_size=80),
    st.integers(0, 15),
    st.integers(0, 15),
    st.integers(0, 15),
)
def test_p1_nothing_ever_goes_backwards_or_above_the_total(
    story: list[tuple[Event, float]], done: int, was_failed: int, more: int
) -> None:
    """Any messages, in any order, any number of times."""
    total = done + was_failed + more
    tracker = Tracker(total, done, was_failed, 0.0)
    now_s, before = 0.0, tracker.snapshot(0.0)
    for event, later_s in story:
        now_s += later_s
        tracker.follow(event, now_s)
        now = tracker.snapshot(now_s)
        for name in ("fetched", "cached", "retrying", "bytes_fetched", "bytes_done", "elapsed_s"):
            assert getattr(now, name) >= getattr(before, name)
        for one, other in ((before.tasks, now.tasks), (before.files, now.files)):
            assert other.done >= one.done
            assert other.failed >= one.failed
            assert other.done + other.failed <= other.total == total
        assert now.fetched + now.cached == now.tasks.done - done
        assert sum(count for _, count in now.failures) == now.tasks.failed - was_failed
        assert now.bytes_per_s >= 0
        before = now
