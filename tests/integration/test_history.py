"""Promises about what the ledger remembers of the way of each task (L1)."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midasdl.ledger.ledger import Ledger
from midasdl.ledger.load import ManifestLoader
from midasdl.ledger.outcomes import Claim, Failed, Finished, Outcome, Postponed, Released
from midasdl.ledger.overview import Overview
from midasdl.ledger.tasks import TaskQueue
from midasdl.manifest import ManifestParser
from midasdl.models import ErrorClass
from midasdl.selection import Selection
from tests.support.clock import FakeClock

Move = tuple[int, str | None, str, str]
"""When, from, to, why."""

Load = Callable[..., Any]
ME = 1


def history(ledger: Ledger) -> dict[int, list[Move]]:
    moves: dict[int, list[Move]] = defaultdict(list)
    query = "SELECT task_id, at_us, from_state, to_state, reason FROM history ORDER BY task_id, seq"
    with ledger.read() as connection:
        for task_id, *move in connection.exec_driver_sql(query):
            moves[task_id].append(tuple(move))  # type: ignore[arg-type]
    return dict(moves)


def time_in_state(ledger: Ledger) -> dict[tuple[int, str], int]:
    """Microseconds by task and state."""
    with ledger.read() as connection:
        rows = connection.exec_driver_sql("SELECT task_id, state, seconds FROM time_in_state").all()
    return {(task_id, state): round(seconds * 1e6) for task_id, state, seconds in rows}


def stays(moves: dict[int, list[Move]]) -> dict[tuple[int, str], int]:
    """The same from a list of moves, by plain addition."""
    total: dict[tuple[int, str], int] = defaultdict(int)
    for task_id, way in moves.items():
        for (came, _, state, _), (left, *_) in itertools.pairwise(way):
            total[task_id, state] += left - came
    return dict(total)


def claim_one(ledger: Ledger, *, keep_all: bool = False) -> Claim:
    [claim] = TaskQueue(ledger, keep_all_history=keep_all).settle(ME, [], want=1).claims
    return claim


def settle(ledger: Ledger, outcome: Outcome, *, keep_all: bool = False) -> None:
    assert not TaskQueue(ledger, keep_all_history=keep_all).settle(ME, [outcome], want=0).lost


def test_a_first_claim_that_fails_and_a_second_that_succeeds(
    ledger: Ledger, load: Load, clock: FakeClock
) -> None:
    """L1: loaded, claimed, failed for the moment, claimed again, done: each with its moment and reason."""
    start_us = clock.now_us()
    load("a" * 32 + "  p")
    clock.advance(10)
    claim = claim_one(ledger)
    clock.advance(0.000003)
    settle(ledger, Postponed(claim, 0, ErrorClass.TIMEOUT, "no answer"))
    clock.advance(5)
    claim = claim_one(ledger)
    clock.advance(2)
    settle(ledger, Finished(claim, 1, from_cache=False))
    assert history(ledger) == {
        1: [
            (start_us, None, "pending", "loaded"),
            (start_us + 10_000_000, "pending", "in_progress", "claimed"),
            (start_us + 10_000_003, "in_progress", "pending", "timeout"),
            (start_us + 15_000_003, "pending", "in_progress", "claimed"),
            (start_us + 17_000_003, "in_progress", "done", "finished"),
        ]
    }
    assert time_in_state(ledger) == {(1, "pending"): 15_000_000, (1, "in_progress"): 2_000_003}


@pytest.mark.parametrize("keep_all", [False, True])
def test_a_task_that_is_claimed_for_the_first_time_shows_it_at_once(
    ledger: Ledger, load: Load, clock: FakeClock, keep_all: bool
) -> None:
    """L1: what is going on now can be asked too, once and not twice."""
    load("a" * 32 + "  p")
    clock.advance(4)
    claim = claim_one(ledger, keep_all=keep_all)
    assert [way[2] for way in history(ledger)[1]] == ["pending", "in_progress"]
    assert time_in_state(ledger) == {(1, "pending"): 4_000_000}
    clock.advance(1)
    settle(ledger, Finished(claim, 1, from_cache=True), keep_all=keep_all)
    assert [way[2] for way in history(ledger)[1]] == ["pending", "in_progress", "done"]


@pytest.mark.parametrize(("keep_all", "rows"), [(False, 0), (True, 2)])
def test_what_goes_straight_to_done_costs_rows_only_if_everything_is_kept(
    ledger: Ledger, load: Load, keep_all: bool, rows: int
) -> None:
    """L1: two million good downloads need no history of their own; the view shows it all the same."""
    load("a" * 32 + "  p")
    settle(ledger, Finished(claim_one(ledger, keep_all=keep_all), 1, from_cache=False), keep_all=keep_all)
    with ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM transition").scalar() == rows
    assert [way[1:] for way in history(ledger)[1]] == [
        (None, "pending", "loaded"),
        ("pending", "in_progress", "claimed"),
        ("in_progress", "done", "finished"),
    ]


def test_moves_of_the_same_moment_keep_their_order(ledger: Ledger, load: Load, clock: FakeClock) -> None:
    """L1: released and waiting for 7 s is pending for 7 s, even if the claim took no time at all."""
    load("a" * 32 + "  p")
    settle(ledger, Released(claim_one(ledger), "stopped"))
    clock.advance(7)
    settle(ledger, Released(claim_one(ledger), "stopped"))
    assert time_in_state(ledger) == {(1, "pending"): 7_000_000, (1, "in_progress"): 0}


def test_a_clock_that_is_set_back_does_not_mix_up_the_order(
    ledger: Ledger, load: Load, clock: FakeClock
) -> None:
    """L1, C6: the order is that of the writes."""
    load("a" * 32 + "  p")
    claim = claim_one(ledger)
    clock.advance(-3_600)
    settle(ledger, Failed(claim, ErrorClass.TLS, "the certificate is not valid yet"))
    assert [way[2] for way in history(ledger)[1]] == ["pending", "in_progress", "failed"]


def test_the_history_is_bounded(ledger: Ledger, load: Load, clock: FakeClock) -> None:
    """L1: only the newest moves are kept; times that are no longer known are left out, not guessed."""
    load("a" * 32 + "  p", "b" * 32 + "  q")
    straight = claim_one(ledger)
    clock.advance(1)
    settle(ledger, Finished(straight, 1, from_cache=False))
    for _ in range(10):
        clock.advance(2)
        claim = claim_one(ledger)
        clock.advance(3)
        settle(ledger, Postponed(claim, 0, ErrorClass.TIMEOUT, "no answer"))
    assert time_in_state(ledger)[2, "pending"] == 21_000_000
    queue = TaskQueue(ledger)
    queue.trim_history(100)
    assert len(history(ledger)[2]) == 1 + 20
    queue.trim_history(5)
    assert [way[2] for way in history(ledger)[2]] == ["pending", *["pending", "in_progress"] * 2, "pending"]
    times = time_in_state(ledger)
    assert (times[2, "pending"], times[2, "in_progress"]) == (4_000_000, 6_000_000)
    assert (times[1, "pending"], times[1, "in_progress"]) == (0, 1_000_000)
    queue.trim_history(0)
    assert len(history(ledger)[2]) == 1
    assert len(history(ledger)[1]) == 3
    assert (2, "pending") not in time_in_state(ledger)


def test_trimming_leaves_whole_what_went_straight_to_done(
    ledger: Ledger, load: Load, clock: FakeClock
) -> None:
    """L1: of a task all of whose moves were kept, those that are trimmed away still stand in its row."""
    load("a" * 32 + "  p")
    claim = claim_one(ledger, keep_all=True)
    clock.advance(2)
    settle(ledger, Finished(claim, 1, from_cache=False), keep_all=True)
    before = history(ledger)
    for keep in (1, 0):
        TaskQueue(ledger).trim_history(keep)
        assert history(ledger) == before
        assert time_in_state(ledger) == {(1, "pending"): 0, (1, "in_progress"): 2_000_000}


# --- any way through the states


@dataclass
class Recorder:
    """Does to a ledger what it is told, and writes down what should be remembered."""

    ledger: Ledger
    clock: FakeClock
    keep_all: bool
    moves: dict[int, list[Move]] = field(default_factory=lambda: defaultdict(list))
    held: dict[int, tuple[int, Claim]] = field(default_factory=dict)
    md5s: dict[int, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    @property
    def queue(self) -> TaskQueue:
        return TaskQueue(self.ledger, keep_all_history=self.keep_all)

    def move(self, task_id: int, to: str, why: str) -> None:
        way = self.moves[task_id]
        way.append((self.clock.now_us(), way[-1][2] if way else None, to, why))

    def state(self, task_id: int) -> str:
        return self.moves[task_id][-1][2]

    def load(self, letter: str) -> None:
        """Another path for a task: a new one, or one that has it already."""
        self.lines.append(f"{letter * 32}  data/{len(self.lines)}\n")
        with self.ledger.write() as connection:
            parser = ManifestParser([line.encode() for line in self.lines])
            ManifestLoader(self.ledger, "m", Selection()).load(connection, parser)
        known = {md5: task_id for task_id, md5 in self.md5s.items()}
        if letter not in known:
            task_id = len(self.md5s) + 1
            self.md5s[task_id] = letter
            self.move(task_id, "pending", "loaded")
        elif self.state(known[letter]) in {"done", "in_progress"}:
            self.held.pop(known[letter], None)
            self.move(known[letter], "pending", "new destination")

    def claim(self, worker: int) -> None:
        for claim in self.queue.settle(worker, [], want=2).claims:
            self.held[claim.task_id] = (worker, claim)
            self.move(claim.task_id, "in_progress", "claimed")

    def settle(self, kind: int) -> None:
        if not self.held:
            return
        task_id = min(self.held)
        worker, claim = self.held.pop(task_id)
        outcome, to, why = (
            (Finished(claim, 1, from_cache=False), "done", "finished"),
            (Failed(claim, ErrorClass.CHECKSUM, "wrong"), "failed", "checksum"),
            (Postponed(claim, 0, ErrorClass.TIMEOUT, "slow"), "pending", "timeout"),
            (Released(claim, "stopped"), "pending", "stopped"),
        )[kind]
        assert not self.queue.settle(worker, [outcome], want=0).lost
        self.move(task_id, to, why)

    def take_back(self, worker: int) -> None:
        with self.ledger.write() as connection:
            TaskQueue(self.ledger).take_back(connection, [worker], "worker died")
        for task_id, (holder, _) in sorted(self.held.items()):
            if holder == worker:
                del self.held[task_id]
                self.move(task_id, "pending", "worker died")

    def requeue(self) -> None:
        self.queue.requeue()
        for task_id in sorted(self.md5s):
            if self.state(task_id) == "failed":
                self.move(task_id, "pending", "requeued")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("load"), st.sampled_from("abc")),
        st.tuples(st.just("claim"), st.sampled_from([1, 2])),
        st.tuples(st.just("settle"), st.integers(0, 3)),
        st.tuples(st.just("take_back"), st.sampled_from([1, 2])),
        st.tuples(st.just("requeue")),
        st.tuples(st.just("wait"), st.sampled_from([0.000001, 0.5, 60.0])),
    ),
    max_size=30,
)


@settings(max_examples=60)
@given(steps=STEPS, keep_all=st.booleans())
def test_every_way_through_the_states_can_be_asked(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]], keep_all: bool
) -> None:
    """L1, I3, I4: each change with its moment and reason, and the time in each state to the microsecond."""
    clock = FakeClock()
    with Ledger.create(tmp_path_factory.mktemp("history") / "progress.db", clock) as ledger:
        recorder = Recorder(ledger, clock, keep_all)
        recorder.load("a")
        recorder.load("b")
        for name, *words in steps:
            if name == "wait":
                clock.advance(*words)
            else:
                getattr(recorder, name)(*words)
        assert history(ledger) == recorder.moves
        assert time_in_state(ledger) == stays(recorder.moves)
        with ledger.read() as connection:
            rows = connection.exec_driver_sql("SELECT id, state, finished_at, attempts FROM task").all()
        assert {row.id: row.state for row in rows} == {n: recorder.state(n) for n in recorder.md5s}
        assert all((row.finished_at is not None) == (row.state in {"done", "failed"}) for row in rows)
        Overview(ledger).require_that_all_adds_up()
