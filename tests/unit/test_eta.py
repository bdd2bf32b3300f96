"""P3, P7: when a run will end, told from streams of messages; time is imagined, nobody waits."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midasdl.progress.eta import FEWEST_FILES, Left, Pace, eta_of
from midasdl.progress.events import DownloadCompleted, DownloadStarted, Event
from midasdl.progress.pace import LONGEST_WINDOW_S, Meter, Window
from midasdl.progress.sizes import MOST_GROUPS, Group, SizeBook, key_of, usual_bytes
from midasdl.progress.snapshot import Confidence, Reading, Snapshot, Tally
from midasdl.progress.tracker import Tracker
from tests.support.imagined import Line, Thing, reading_of, run, tracker_of, tree

WORKERS = 4
FILES = 6_000


def pictures(
    things: Sequence[Thing], story: Sequence[tuple[float, Event]], moments_s: Sequence[float]
) -> list[Snapshot]:
    """What is shown at some moments of a story."""
    tracker, waiting, shown = tracker_of(things), sorted(moments_s), []
    for now_s, event in story:
        while waiting and now_s > waiting[0]:
            shown.append(tracker.snapshot(waiting.pop(0), WORKERS))
        tracker.follow(event, now_s)
    return [*shown, *(tracker.snapshot(moment_s, WORKERS) for moment_s in waiting)]


def moment_at(story: Sequence[tuple[float, Event]], share: float) -> float:
    """When so many of the files have ended."""
    ends = [now_s for now_s, event in story if not isinstance(event, DownloadStarted)]
    return ends[int(len(ends) * share)]


def predicted(things: Sequence[Thing], line: Line, share: float) -> float:
    """The end as it is predicted after a share of the files, as a multiple of the true one."""
    story = list(run(things, line, WORKERS))
    now_s = moment_at(story, share)
    (shown,) = pictures(things, story, [now_s])
    assert shown.eta_s is not None
    return (now_s + shown.eta_s) / story[-1][0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "line",
    [Line(), Line(latency_s=0.08, spacing_s=0), Line(spacing_s=0.5), Line(bytes_per_s=3e5, spacing_s=0)],
    ids=["default pace", "no spacing", "two files a second", "a slow line"],
)
def test_p3_after_a_twentieth_of_a_real_tree_the_end_is_known_to_a_fifth(seed: int, line: Line) -> None:
    """Sizes, datasets and order as in a release; of the sizes of its files nobody knew anything."""
    assert predicted(tree(2 * FILES, seed), line, 0.05) == pytest.approx(1, abs=0.2)


def test_p3_an_archive_unlike_the_real_one_is_understood_by_what_came() -> None:
    """Files twenty times smaller than MIDAS Open's, in any order."""
    assert predicted(tree(2 * FILES, 7, scale=0.05), Line(), 0.05) == pytest.approx(1, abs=0.2)


def test_p3_small_files_first_promise_no_early_end() -> None:
    """Sorted by size: the large ones, of which none has come, are reckoned with, and the doubt is told."""
    things = tree(FILES, 1, unsorted=False)
    story = list(run(things, Line(), WORKERS))
    early, late = pictures(things, story, [moment_at(story, 0.1), moment_at(story, 0.97)])
    expected = sum(thing.size_bytes for thing in things)
    assert early.eta_s is not None
    assert early.elapsed_s + early.eta_s >= story[-1][0]
    assert early.eta_confidence is Confidence.LOW
    assert early.bytes_expected == pytest.approx(expected, rel=0.5)
    assert late.bytes_expected == pytest.approx(expected, rel=0.15)
    assert late.elapsed_s + (late.eta_s or 0) == pytest.approx(story[-1][0], rel=0.15)


def test_p3_a_stall_lets_the_speed_fade_and_the_end_recede_without_a_leap() -> None:
    """The line is dead for four minutes: the shown speed is the truth, the prediction rests on a longer window."""
    things = tree(FILES, 2)
    story = list(run(things, Line(stalls=[(120, 360)]), WORKERS))
    before, within, at_its_end, later = pictures(things, story, [119, 200, 355, 450])
    assert before.bytes_per_s > 0
    assert within.bytes_per_s == at_its_end.bytes_per_s == 0
    seen = [shown.eta_s or 0 for shown in (before, within, at_its_end, later)]
    assert 0 < seen[0] < seen[1] < seen[2] < 10 * seen[0]
    assert within.eta_confidence is at_its_end.eta_confidence is Confidence.LOW
    assert later.elapsed_s + seen[3] == pytest.approx(story[-1][0], rel=0.25)


def test_p3_after_ten_dead_minutes_nobody_pretends_to_know() -> None:
    things = tree(FILES, 2)
    story = list(run(things, Line(stalls=[(100, 1_000)]), WORKERS))
    (shown,) = pictures(things, story, [100 + LONGEST_WINDOW_S + 60])
    assert shown.eta_s is None


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_p3_failures_are_left_out_of_what_is_to_come(share: float) -> None:
    """Part of the release is not there: its files cost time and bring nothing, and the end is known all the same."""
    chance = random.Random(3)
    things = [
        replace(thing, fate="missing") if chance.random() < share else thing for thing in tree(2 * FILES, 3)
    ]
    story = list(run(things, Line(), WORKERS))
    moments = [moment_at(story, at) for at in (0.1, 0.3, 0.5, 0.7)]
    ends = [shown.elapsed_s + (shown.eta_s or 0) for shown in pictures(things, story, moments)]
    assert sum(ends) / len(ends) == pytest.approx(story[-1][0], rel=0.2)


def test_p3_nothing_but_failures_is_no_basis() -> None:
    things = [replace(thing, fate="missing") for thing in tree(1_000, 4)]
    story = list(run(things, Line(), WORKERS))
    (shown,) = pictures(things, story, [moment_at(story, 0.5)])
    assert shown.eta_s is None
    assert shown.files.failed >= 500


def test_p3_what_is_on_disk_promises_no_fast_end_of_what_is_not() -> None:
    """A ledger that was lost: half of the tree is found within seconds, the other half has to be fetched."""
    things = tree(2 * FILES, 5)
    here, missing = things[:FILES], things[FILES:]
    things = [*(replace(thing, fate="on disk") for thing in here), *missing]
    story = list(run(things, Line(), WORKERS))
    finding, fetching = pictures(things, story, [1.0, moment_at(story, 0.55)])
    assert (finding.eta_s, finding.cached > 1_000, finding.bytes_per_s) == (None, True, 0)
    assert fetching.elapsed_s + (fetching.eta_s or 0) == pytest.approx(story[-1][0], rel=0.2)


def test_p3_a_restart_knows_the_sizes_of_earlier_runs() -> None:
    """P6: the second run predicts by what the first one fetched, as soon as ten files have come."""
    things = tree(FILES, 6, scale=0.3)
    done = things[: FILES // 2]
    tracker = Tracker(len(things), len(done), 0, 0.0)
    tracker.learn(reading_of(things, done), 0.0)
    begin = tracker.snapshot(0.0, WORKERS)
    assert begin.tasks.done == len(done)
    assert begin.bytes_expected == pytest.approx(sum(thing.size_bytes for thing in things), rel=0.05)


def test_p3_lost_messages_are_caught_up_with_when_the_ledger_is_read() -> None:
    """P1: every third message is lost; the ledger, read now and then, makes up for it."""
    things = tree(2_000, 8)
    story = list(run(things, Line(), WORKERS))
    tracker = tracker_of(things)
    done: list[Thing] = []
    by_task = {thing.task_id: thing for thing in things}
    read_s, worst = 0.0, 0
    for number, (now_s, event) in enumerate(story):
        if not isinstance(event, DownloadStarted):
            done.append(by_task[event.task_id])  # type: ignore[union-attr]
        if number % 3:
            tracker.follow(event, now_s)
        if now_s - read_s >= 2:
            read_s = now_s
            tracker.learn(replace(reading_of(things, done), groups=None), now_s)
        shown = tracker.snapshot(now_s, WORKERS)
        assert shown.tasks.done <= len(done), "nothing is counted twice"
        if now_s > 10:
            worst = max(worst, len(done) - shown.tasks.done)
    assert worst <= 45, "what four workers do in the four seconds in which a reading is made and believed"
    tracker.settle(reading_of(things, done), story[-1][0])
    end = tracker.snapshot(story[-1][0])
    assert (end.tasks.done, end.files.done, end.eta_s) == (2_000, 2_000, 0.0)
    assert end.bytes_done == end.bytes_expected == sum(thing.size_bytes for thing in things)


def test_p3_near_the_end_the_last_large_file_is_not_forgotten() -> None:
    """Nine hundred small files, then one that takes a minute by itself: as long as it is on its way, it is not over."""
    small = [Thing(number, f"data/{number}.csv", 20_000) for number in range(1, 900)]
    large = Thing(900, "data/large.csv", 200_000_000)
    things = [*small, large]
    story = list(run(things, Line(), WORKERS))
    for shown in pictures(things, story, [story[-2][0] + wait_s for wait_s in (1, 10, 30)]):
        assert shown.tasks.left == 1
        assert shown.eta_s is None or shown.eta_s >= 1


def test_p3_the_end_comes_not_before_a_retry_that_waits_or_a_pause() -> None:
    things = tree(1_000, 9)
    story = list(run(things[:-1], Line(), WORKERS))
    tracker = tracker_of(things)
    for now_s, event in story:
        tracker.follow(event, now_s)
    end_s = story[-1][0]
    tracker.learn(replace(reading_of(things), not_before_s=90.0), end_s)
    assert tracker.snapshot(end_s + 10, WORKERS).eta_s == pytest.approx(80)


def test_p3_others_who_work_on_the_ledger_shorten_the_end() -> None:
    """W5: eight workers are alive, four of them of another run: half of what is left is theirs."""
    things = tree(FILES, 10)
    story = list(run(things, Line(), WORKERS))
    now_s = moment_at(story, 0.3)
    tracker = tracker_of(things)
    for then_s, event in story:
        if then_s <= now_s:
            tracker.follow(event, then_s)
    alone = tracker.snapshot(now_s, WORKERS).eta_s
    tracker.learn(replace(reading_of(things), workers=2 * WORKERS, groups=None), now_s)
    tracker.snapshot(now_s + 3, WORKERS)
    assert tracker.snapshot(now_s + 3, WORKERS).eta_s == pytest.approx((alone or 0) / 2, rel=0.15)


def test_p3_the_formula_is_seven_tenths_bytes_and_three_tenths_files() -> None:
    pace = Pace(Window(60.0, 6_000_000, 600, 0.05), file_s=0.4, workers=4)
    eta = eta_of(Left(tasks=1_000, size_bytes=20_000_000), pace)
    assert eta is not None
    assert eta.seconds == pytest.approx(0.7 * (20_000_000 / 100_000) + 0.3 * (1_000 * 0.4 / 4))
    assert eta.confidence is Confidence.HIGH


@pytest.mark.parametrize(
    "window",
    [Window(60, 10**6, FEWEST_FILES - 1), Window(4, 10**6, 100), Window(600, 0, 100)],
    ids=["few files", "little time", "no bytes"],
)
def test_p3_while_little_is_known_nothing_is_said(window: Window) -> None:
    assert eta_of(Left(100, 1e6), Pace(window, 0.1, 4)) is None


@given(
    st.floats(0, 1e7),
    st.floats(0, 1e13),
    st.floats(0, 1),
    st.floats(-100, 1e5),
    st.floats(1, 600),
    st.integers(-(10**9), 10**12),
    st.integers(0, 10**6),
    st.floats(0, 100),
    st.integers(0, 64),
)
def test_p3_an_end_is_always_a_time(
    tasks: float,
    size: float,
    guessed: float,
    not_before_s: float,
    seconds: float,
    came: int,
    files: int,
    file_s: float,
    workers: int,
) -> None:
    """Whatever is put in, what comes out is finite, not negative, and not over while anything is left."""
    eta = eta_of(
        Left(tasks, size, guessed, not_before_s), Pace(Window(seconds, came, files), file_s, workers)
    )
    if eta is not None:
        assert (1 if tasks > 0 else 0) <= eta.seconds < float("inf")


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(-5_000, 50_000), st.integers(0, 1)), max_size=200))
def test_p7_a_meter_is_bounded_and_never_negative(story: list[tuple[float, int, int]]) -> None:
    meter, now_s = Meter(), 0.0
    for later_s, size, files in story:
        now_s += later_s
        meter.add(now_s, size, files)
        window = meter.window_with_enough(now_s)
        assert window.bytes_per_s >= 0
        assert 1 <= window.seconds <= LONGEST_WINDOW_S
        assert window.files <= sum(count for _, _, count in story)
    assert len(meter._seconds) <= LONGEST_WINDOW_S + 2


def test_p7_a_strange_manifest_makes_no_more_groups_than_there_is_room_for() -> None:
    book = SizeBook(Group(f"uk-strange-{n}-obs", "data", 0, 0, 10) for n in range(5_000))
    for number in range(5_000):
        book.came(
            f"data/uk-odd-{number}-obs/dataset-version-202407/midas-open_uk-odd-{number}-obs_dv-202407_change_log.txt",
            1,
        )
    assert len(book._known) <= MOST_GROUPS + 1
    assert book.expected_bytes(100) > 0


@pytest.mark.parametrize(
    ("path", "key", "usual"),
    [
        (tree(1, 0)[0].path, ("uk-soil-temperature-obs", "data"), 42_000),
        ("data/strange.bin", ("", "other"), 100_000),
        (
            "data/uk-radiation-obs/dataset-version-202407/midas-open_uk-radiation-obs_dv-202407_change_log.txt",
            ("uk-radiation-obs", "change-log"),
            20_000,
        ),
    ],
    ids=["data", "unknown shape", "change log"],
)
def test_p3_a_path_tells_its_dataset_and_kind(path: str, key: tuple[str, str], usual: int) -> None:
    assert key_of(path) == key
    assert usual_bytes(key) == usual


def test_p3_an_estimate_moves_from_what_is_usual_to_what_came() -> None:
    dataset = "uk-daily-rain-obs"
    path = next(thing.path for thing in tree(50, 0) if key_of(thing.path) == (dataset, "data"))
    book = SizeBook([Group(dataset, "data", 0, 0, 1_000)])
    assert book.expected_bytes(1_000) == 55_000_000
    assert book.guessed_share() == 1
    for _ in range(200):
        book.came(path, 40_000)
    assert book.expected_bytes(800) == pytest.approx(800 * 40_000, rel=0.02)
    assert book.guessed_share() == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 10**6)),
        max_size=30,
    ),
    st.lists(st.integers(1, 40), max_size=60),
)
def test_p1_readings_never_turn_anything_back_unless_the_ledger_goes_back(
    readings: list[tuple[int, int, int, int]], ends: list[int]
) -> None:
    """Any readings that only grow, mixed with messages of the same tasks: counts only grow, and end as the ledger's."""
    tracker = Tracker(80, 0, 0, 0.0)
    done = failed = size = 0
    now_s, before = 0.0, tracker.snapshot(0.0)
    last = None
    for number, (more_done, more_failed, wait_s, more_bytes) in enumerate(readings):
        done, failed = min(60, done + more_done), min(20, failed + more_failed)
        size += more_bytes
        now_s += wait_s
        last = Reading(Tally(80, done, failed), Tally(80, done, failed), size)
        tracker.learn(last, now_s)
        for task in ends[number : number + 2]:
            tracker.follow(DownloadCompleted(task, f"data/{task}", 10, 10, 1), now_s)
        now = tracker.snapshot(now_s)
        assert now.tasks.done >= before.tasks.done
        assert now.tasks.failed >= before.tasks.failed
        assert now.bytes_done >= before.bytes_done
        assert now.files.done + now.files.failed <= 80
        before = now
    if last is not None:
        tracker.settle(last, now_s)
        end = tracker.snapshot(now_s)
        assert (end.tasks, end.files, end.bytes_done) == (last.tasks, last.files, last.bytes_done)
