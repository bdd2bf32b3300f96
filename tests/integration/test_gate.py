"""C5, C6, I5: spacing and permits over every process that shares a ledger, whatever happens to them."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from midasdl.config import Settings
from midasdl.identity import ProcessIdentity
from midasdl.ledger import schema
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.runs import RunRegistry
from midasdl.policy import ROUND_S
from midasdl.politeness.breaker import Answer
from midasdl.politeness.gate import FIRST_LEAD_US, LONGEST_PAUSED_NAP_S, Gate, StoppedError
from midasdl.politeness.limiter import Go, Limits, Wait, rules_from
from midasdl.politeness.state import HostState, Report
from midasdl.politeness.tally import UNTOLD
from midasdl.worker import FORBIDDEN_S
from tests.support.clock import FakeClock

HOST = "dap.ceda.example"


def register(ledger: Ledger) -> int:
    return RunRegistry(ledger).register(None, "worker", "worker", ProcessIdentity.current())


def gate_of(ledger: Ledger, limits: Limits, **options: Any) -> Gate:
    return Gate(ledger, register(ledger), limits, random.uniform, **options)


def permits(ledger: Ledger) -> list[Any]:
    with ledger.read() as connection:
        return list(connection.execute(select(schema.permit)).all())


# --- one process, time in hand


def test_c5_a_permit_is_held_during_the_request_and_given_back_after_it(ledger: Ledger) -> None:
    gate = gate_of(ledger, Limits(1000, 1))
    with gate.request(HOST):
        assert [row.host for row in permits(ledger)] == [HOST]
    assert permits(ledger) == []
    with pytest.raises(ZeroDivisionError), gate.request(HOST):
        raise ZeroDivisionError
    assert permits(ledger) == []


def test_c5_requests_of_one_worker_keep_their_spacing(ledger: Ledger, clock: FakeClock) -> None:
    gate = gate_of(ledger, Limits(100_000, 3))
    starts = []
    for _ in range(5):
        with gate.request(HOST):
            starts.append(clock.now_us())
    assert [later - earlier for earlier, later in pairwise(starts)] == [100_000] * 4


@pytest.mark.parametrize(("limits", "lead_us"), [(Limits(100_000, 3), FIRST_LEAD_US), (Limits(0, 3), 0)])
def test_c5_only_the_first_slot_of_a_worker_lies_ahead_and_only_where_starts_are_spaced(
    ledger: Ledger, clock: FakeClock, limits: Limits, lead_us: int
) -> None:
    """Or its first request would come late, and the next one of somebody else too soon behind it."""
    gate = gate_of(ledger, limits)
    for expected_us in (lead_us, 0):
        asked_us = clock.now_us()
        with gate.request(HOST):
            assert clock.now_us() - asked_us == expected_us
        clock.advance(1)


def test_c5_hosts_have_slots_of_their_own_and_share_the_permits(ledger: Ledger, clock: FakeClock) -> None:
    """A request for a token keeps its distance to other requests for tokens, and counts among all in flight."""
    limits = Limits(100_000, 2)
    first, second, third = (gate_of(ledger, limits) for _ in range(3))
    assert first.ask(HOST) == second.ask("services.ceda.example") == Go(clock.now_us() + FIRST_LEAD_US)
    assert third.ask(HOST) == Wait(None, "all permits are taken")


class OversleepingClock(FakeClock):
    """A busy machine: the first wait is overslept by half a slot, and `meanwhile` things happen."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], object] = lambda: None

    def wait(self, seconds: float) -> bool:
        if seconds <= 0 or self.waits:
            return super().wait(seconds)
        self.meanwhile()
        return super().wait(seconds + 0.05)


@pytest.mark.parametrize("others_behind", [0, 1])
def test_c5_a_slot_reached_late_is_asked_for_anew(tmp_path: Path, others_behind: int) -> None:
    """Real starts keep their distance, not only reservations; where nobody comes behind, no time is lost."""
    clock = OversleepingClock()
    with Ledger.create(tmp_path / "progress.db", clock) as ledger:
        first, gate, behind = (gate_of(ledger, Limits(100_000, 3)) for _ in range(3))
        earlier = first.ask(HOST)
        clock.meanwhile = lambda: [behind.ask(HOST) for _ in range(others_behind)]
        with gate.request(HOST):
            assert isinstance(earlier, Go)
            missed_us = earlier.at_us + 100_000
            begun_us = missed_us + (200_000 if others_behind else 50_000)
            assert clock.now_us() == begun_us
            assert [row.start_at for row in permits(ledger) if row.worker_id == 2] == [begun_us]
        assert gate.state(HOST).next_start_at == begun_us + 100_000
        assert gate.state(HOST).requests == 2 + 2 * others_behind


def test_c6_a_pause_holds_everybody_up_to_its_end_and_work_is_recorded_before(
    ledger: Ledger, clock: FakeClock
) -> None:
    recorded: list[float] = []
    gate = gate_of(ledger, Limits(100_000, 3), before_long_wait=lambda: recorded.append(clock.monotonic()))
    began_us = clock.now_us()
    gate_of(ledger, Limits(100_000, 3)).pause(HOST, began_us + 100_000_000, "CEDA asked to wait")
    with gate.request(HOST):
        assert clock.now_us() - began_us == 100_000_000
    assert max(clock.waits) == LONGEST_PAUSED_NAP_S
    assert recorded[0] == began_us / 1e6


def test_who_naps_for_a_permit_records_its_work_before_others_take_it_for_none(
    ledger: Ledger, clock: FakeClock
) -> None:
    """C6 C13: whoever is forbidden a file tries for so long to hear of one that has come; a round comes before."""
    busy = gate_of(ledger, Limits(0, 1)).request(HOST)
    busy.__enter__()
    recorded: list[float] = []

    def record() -> None:
        recorded.append(clock.monotonic())
        if len(recorded) == 1:
            busy.__exit__(None, None, None)

    began_s = clock.monotonic()
    with gate_of(ledger, Limits(0, 1), before_long_wait=record).request(HOST):
        assert 0 < recorded[0] - began_s <= FORBIDDEN_S - ROUND_S


class InterruptedClock(FakeClock):
    """While somebody waits, something happens."""

    happens: Callable[[], None] | None = None

    def wait(self, seconds: float) -> bool:
        if seconds > 0 and self.happens is not None:
            happens, self.happens = self.happens, None
            happens()
        return super().wait(seconds)


def test_c6_a_pause_that_begins_while_a_worker_waits_for_its_slot_holds_it_too(tmp_path: Path) -> None:
    clock = InterruptedClock()
    with Ledger.create(tmp_path / "progress.db", clock) as ledger:
        first, gate = gate_of(ledger, Limits(500_000, 3)), gate_of(ledger, Limits(500_000, 3))
        first.ask(HOST)
        until_us = clock.now_us() + 60_000_000
        clock.happens = lambda: first.pause(HOST, until_us, "429")
        with gate.request(HOST):
            assert clock.now_us() >= until_us


def test_c6_without_limits_asking_costs_nothing_and_pauses_hold_all_the_same(
    ledger: Ledger, clock: FakeClock
) -> None:
    gate, other = gate_of(ledger, Limits(0, None)), gate_of(ledger, Limits(0, None))
    for _ in range(3):
        with gate.request(HOST):
            assert permits(ledger) == []
    assert clock.waits == []
    assert gate.state(HOST).requests == 0, "nothing was written"
    with other.request(HOST):
        until_us = clock.now_us() + 10_000_000
        other.pause(HOST, until_us, "503")
    with other.request(HOST):
        assert clock.now_us() >= until_us, "who was told waits at once"
    other.pause(HOST, clock.now_us() + 10_000_000, "503")
    clock.advance(0.2)
    with gate.request(HOST):
        assert clock.now_us() >= until_us + 10_000_000, "and the others as soon as they look"


@pytest.mark.parametrize(
    "limits", [Limits(0, 1), Limits(100_000, 3), Limits(0, None)], ids=["permits", "spacing", "none"]
)
def test_c6_who_is_asked_to_stop_while_waiting_leaves_no_permit_behind(
    ledger: Ledger, clock: FakeClock, limits: Limits
) -> None:
    holder = gate_of(ledger, limits)
    if not limits.are_none:
        holder.ask(HOST)
    held = len(permits(ledger))
    clock.stop()
    with pytest.raises(StoppedError), gate_of(ledger, limits).request(HOST):
        pytest.fail("a request started after the wish to stop")
    assert len(permits(ledger)) == held


def test_c6_trouble_while_waiting_leaves_no_permit_behind(tmp_path: Path) -> None:
    clock = InterruptedClock()

    def trouble() -> None:
        raise OSError("the disk is gone")

    with Ledger.create(tmp_path / "progress.db", clock) as ledger:
        first, gate = gate_of(ledger, Limits(500_000, 3)), gate_of(ledger, Limits(500_000, 3))
        first.ask(HOST)
        clock.happens = trouble
        with pytest.raises(OSError, match="the disk is gone"), gate.request(HOST):
            pytest.fail("unreachable")
        assert [row.worker_id for row in permits(ledger)] == [1]


def test_c6_the_permit_of_a_dead_worker_comes_back_with_it(ledger: Ledger) -> None:
    dead, alive = gate_of(ledger, Limits(0, 1)), gate_of(ledger, Limits(0, 1))
    dead.ask(HOST)
    assert isinstance(alive.ask(HOST), Wait)
    assert RunRegistry(ledger).retire([1], dead=True).permits == 1
    assert isinstance(alive.ask(HOST), Go)


def test_c15_what_a_host_bears_is_counted_by_its_own_requests(ledger: Ledger) -> None:
    """C5 C15: requests to one host take no room at another, unless the limit is over all hosts."""

    def gates(busy: Limits, other: Limits) -> tuple[Gate, Gate]:
        per_host = {"busy": busy, "other": other}
        made = [Gate(ledger, register(ledger), per_host.__getitem__, random.uniform) for _ in range(2)]
        return made[0], made[1]

    first, second = gates(Limits(0, None, at_host=1), Limits(0, None, at_host=1))
    with first.request("busy"):
        assert isinstance(second.ask("busy"), Wait)
        assert isinstance(second.ask("other"), Go)
    RunRegistry(ledger).retire([1, 2], dead=False)
    first, second = gates(Limits(0, 1, at_host=16), Limits(0, 1))
    with first.request("busy"):
        assert isinstance(second.ask("other"), Wait)


# --- what is told, counted and kept

OK = Report("ok", Answer.GOOD, is_error=False, latency_us=50_000)
TIMEOUT = Report("timeout", Answer.DOWN, is_error=True)
LISTED = Report("unavailable", Answer.DOWN, is_error=True, asks_to_wait=True, is_only_counted=True)


def one_request(gate: Gate, report: Report | None) -> None:
    with gate.request(HOST) as ticket:
        ticket.report = report


def writes(ledger: Ledger, gate: Gate, reports: list[Report]) -> list[bool]:
    """Which of some requests wrote to the ledger."""
    wrote = []
    with closing(ledger.library.module.connect(ledger.path)) as bystander:

        def version() -> int:
            """Another number after each commit of somebody else."""
            return int(bystander.execute("PRAGMA data_version").fetchone()[0])

        for report in reports:
            before = version()
            one_request(gate, report)
            wrote.append(version() != before)
    return wrote


def test_c6_without_limits_silence_returns_when_the_trouble_is_past(ledger: Ledger, clock: FakeClock) -> None:
    """C6 C7: one error is told, and good news only until the error no longer counts."""
    gate = gate_of(ledger, Limits(0, None))
    assert writes(ledger, gate, [OK, TIMEOUT, OK]) == [False, True, True]
    assert gate.state(HOST).consecutive_errors == 0
    assert gate.state(HOST).throttle.window_errors == 1
    told = writes(ledger, gate, [OK] * 120)
    assert told == [True] * 98 + [False] * 22
    assert gate.state(HOST).is_calm


def test_c6_without_limits_a_good_answer_ends_refusals_that_the_others_have_left_behind(
    ledger: Ledger, clock: FakeClock
) -> None:
    """C7: also where it has nothing to tell them; whoever was refused long ago does not give up hours later."""
    gate, other = gate_of(ledger, Limits(0, None)), gate_of(ledger, Limits(0, None))
    one_request(gate, Report("rate_limited", Answer.UNSURE, is_error=True, asks_to_wait=True))
    for _ in range(150):
        clock.advance(5)
        one_request(other, OK)
    assert other.state(HOST).is_calm
    for _ in range(2):
        one_request(gate, OK)
        clock.advance(3_600)


def test_f3_limits_that_begin_hold_from_the_next_request_on(ledger: Ledger, clock: FakeClock) -> None:
    """F3 C5: not only from the next look on."""
    limits = [Limits(0, None)]
    gate = Gate(ledger, register(ledger), lambda _: limits[-1], random.uniform)
    one_request(gate, OK)
    limits.append(Limits(1_000, 1))
    gate.follow(rules_from(Settings()))
    with gate.request(HOST):
        assert len(permits(ledger)) == 1


class LateGate(Gate):
    """Between its look at a pause and its question the pause ends."""

    def ask(self, host: str, missed_us: int | None = None) -> Go | Wait:
        assert isinstance(self._clock, FakeClock)
        self._clock.advance(10)
        return super().ask(host, missed_us)


def test_c6_without_limits_a_permit_that_was_asked_for_goes_back(ledger: Ledger, clock: FakeClock) -> None:
    """C5 C6: also where all was well again by then, so that nobody would have to be told."""
    gate = LateGate(ledger, register(ledger), Limits(0, None), random.uniform)
    gate.pause(HOST, clock.now_us() + 5_000_000, "the connection cannot be trusted")
    with gate.request(HOST) as ticket:
        assert len(permits(ledger)) == 1
        ticket.report = OK
    assert permits(ledger) == []


@pytest.mark.parametrize("limits", [Limits(0, None), Limits(1_000, 2)], ids=["no-limits", "limits"])
def test_c14_each_request_that_was_made_is_counted_and_none_that_was_not(
    ledger: Ledger, clock: FakeClock, limits: Limits
) -> None:
    """C14: also the good ones that nobody has to be told of, and those that were given up on this side."""
    gate = gate_of(ledger, limits)
    for report in (OK, OK, TIMEOUT, LISTED):
        one_request(gate, report)
    with pytest.raises(ZeroDivisionError), gate.request(HOST):
        raise ZeroDivisionError
    clock.stop()
    gate.pause(HOST, clock.now_us() + 10_000_000, "503")
    with pytest.raises(StoppedError):
        one_request(gate, OK)

    counted = {(each.outcome, each.up_to_us): each.count for each in gate.tally.counted()}
    assert counted == {("ok", 50_000): 2, ("timeout", 0): 1, ("unavailable", 0): 1, (UNTOLD, 0): 1}
    for _ in range(2):
        gate.record()
    assert gate.tally.counted() == ()
    with ledger.read() as connection:
        rows = connection.execute(select(schema.response)).all()
    assert {(row.outcome, row.up_to_us): row[-1] for row in rows} == counted
    assert {row.run_id for row in rows} == {0}, "no run, but a command"
    later = gate_of(ledger, Limits(0, None), clock=FakeClock())
    one_request(later, OK)
    later.record()
    with ledger.read() as connection:
        found = connection.exec_driver_sql("SELECT requests FROM responses WHERE outcome = 'ok'").all()
    assert found == [(3,)]


def test_c14_what_is_only_counted_pauses_nobody(ledger: Ledger) -> None:
    """C14: the listing's trouble is in the figures; the row of its host stays as it was."""
    gate = gate_of(ledger, Limits(0, None))
    one_request(gate, LISTED)
    assert gate.state(HOST) == HostState()


def test_c10_steps_are_kept_with_the_change_and_agree_with_what_health_says(
    ledger: Ledger, clock: FakeClock
) -> None:
    """C7 C10 C14: at every moment the last step of each kind is the state that people see."""
    gate = gate_of(ledger, Limits(0, None))
    down = [TIMEOUT] * 5
    for report in [*down, OK, OK, *[TIMEOUT, OK] * 10]:
        one_request(gate, report)
        with ledger.read() as connection:
            steps = connection.exec_driver_sql("SELECT what, to_value FROM steps ORDER BY step").all()
            [seen] = connection.exec_driver_sql("SELECT breaker, throttle_share FROM health").all()
        latest = {"breaker": "closed", "throttle": "100%", **dict(map(tuple, steps))}
        assert latest["breaker"] == seen.breaker
        assert latest["throttle"] == f"{seen.throttle_share * 100:.4g}%"
    assert [value for what, value in steps if what == "breaker"] == [
        *("open", "half-open"),
        "closed",
    ]
    assert "50%" in [value for what, value in steps if what == "throttle"]
