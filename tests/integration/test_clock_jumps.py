"""C6 I3 I7: the wall clock is set back or forward, or a laptop sleeps: nothing stalls, and no work is lost."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from midasdl.cache import CacheStore
from midasdl.ceda.classify import LONGEST_RETRY_AFTER_S
from midasdl.ceda.connect import connect
from midasdl.config import resolve
from midasdl.errors import ServerUnavailableError
from midasdl.identity import ProcessIdentity
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.outcomes import Postponed
from midasdl.ledger.overview import Overview
from midasdl.ledger.runs import RunRegistry
from midasdl.ledger.tasks import TaskQueue
from midasdl.models import ErrorClass
from midasdl.policy import WorkerPolicy, longest_wait_us
from midasdl.politeness.backoff import Backoff
from midasdl.politeness.breaker import Answer
from midasdl.politeness.gate import SHORT_WAIT_S, Gate
from midasdl.politeness.limiter import CLOCK_SLACK_US, Limits, rules_from
from midasdl.politeness.state import Report
from midasdl.progress.events import DownloadAbandoned, Event
from midasdl.simulator import Fault, Simulator
from midasdl.worker import DownloadWorker
from tests.conftest import Archive
from tests.support.access import LOGIN, settings_for
from tests.support.clock import FakeClock

HOUR_S, DAY_S = 3_600, 86_400
SLACK_S = CLOCK_SLACK_US / 1e6
POLICY = WorkerPolicy(max_retries=3, backoff=Backoff(200.0, 300.0, 2.0, 0.0), workers=1)
LONGEST_LEGAL_S = LONGEST_RETRY_AFTER_S + SLACK_S
HOST = "dap.ceda.example"
GONE = Report("connection", Answer.DOWN, is_error=True)
CAME = Report("ok", Answer.GOOD, is_error=False)

Load = Callable[..., Any]


class JumpingClock(FakeClock):
    """The wall clock is set by `jump_s` as soon as somebody waits."""

    jump_s = 0.0

    def wait(self, seconds: float) -> bool:
        if seconds > 0:
            self.jump(self.jump_s)
            self.jump_s = 0.0
        return super().wait(seconds)


@pytest.fixture
def clock() -> JumpingClock:
    return JumpingClock()


def gate_of(ledger: Ledger, limits: Limits, **settings: Any) -> Gate:
    """A gate with a worker of its own, under the usual rules but for some."""
    worker_id = RunRegistry(ledger).register(None, "worker", "worker", ProcessIdentity.current())
    return Gate(ledger, worker_id, limits, random.uniform, rules=rules_from(resolve(settings)))


def ask(gate: Gate, report: Report) -> None:
    with gate.request(HOST) as ticket:
        ticket.report = report


def ask_again_and_again(gate: Gate, report: Report) -> None:
    for _ in range(100):
        ask(gate, report)


class Desk:
    """One worker with all that it needs, for an archive of the simulator's."""

    def __init__(self, ledger: Ledger, simulator: Simulator, folder: Path) -> None:
        self.events: list[Event] = []
        self.worker_id = RunRegistry(ledger).register(None, "worker", "w", ProcessIdentity.current())
        gate = Gate(ledger, self.worker_id, Limits(0, 4), random.uniform)
        self.access = connect(settings_for(simulator, folder), LOGIN, gate, ledger.clock)
        self.store = CacheStore(folder / "midas-open")
        self.store.prepare()
        queue = TaskQueue(ledger, longest_wait_us=longest_wait_us(POLICY))
        parts: list[Any] = [self.worker_id, queue, self.store, self.access.client, gate, POLICY, ledger.clock]
        self.worker = DownloadWorker(*parts, self.events.append, random.uniform)

    def close(self) -> None:
        self.access.close()


@pytest.fixture
def new_desk(ledger: Ledger, simulator: Simulator, tmp_path: Path) -> Iterator[Callable[[], Desk]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(Desk(ledger, simulator, tmp_path)))


def requests_for_files(simulator: Simulator) -> int:
    return sum(record.route == "download" for record in simulator.requests)


# --- retries


def waited_for_a_claim(ledger: Ledger, clock: FakeClock) -> float:
    """Seconds until the task can be claimed, looking as often as workers do at most."""
    queue = TaskQueue(ledger, longest_wait_us=longest_wait_us(POLICY))
    began_s = clock.monotonic()
    while not queue.settle(1, [], want=1).claims:
        clock.advance(1.0)
    return clock.monotonic() - began_s


@pytest.mark.parametrize(
    "wait_s", [10, 300, HOUR_S], ids=["backoff", "longest-backoff", "longest-Retry-After"]
)
@pytest.mark.parametrize("jump_s", [-DAY_S, -HOUR_S, -30, 0, HOUR_S, DAY_S])
def test_no_retry_waits_longer_than_the_longest_legal_pause_however_the_clock_is_set(
    ledger: Ledger, clock: FakeClock, load: Load, jump_s: int, wait_s: int
) -> None:
    """C6 L4: a retry that lies impossibly far ahead is due at once; one that may be true keeps its time."""
    load("a" * 32 + "  data/a.csv")
    queue = TaskQueue(ledger)
    [claim] = queue.settle(1, [], want=1).claims
    due_us = clock.now_us() + wait_s * 1_000_000
    queue.settle(1, [Postponed(claim, due_us, ErrorClass.TIMEOUT, "no answer")], want=0)
    clock.jump(jump_s)

    ahead_s = max(0, wait_s - jump_s)
    assert waited_for_a_claim(ledger, clock) == (ahead_s if ahead_s <= LONGEST_LEGAL_S else 0)


def test_a_worker_that_waits_for_a_retry_when_the_clock_is_set_back_goes_on_at_once(
    ledger: Ledger,
    clock: JumpingClock,
    small_archive: Archive,
    simulator: Simulator,
    new_desk: Any,
    load: Load,
) -> None:
    """C6: a file that had to wait five minutes does not wait for an hour and five."""
    load(*(f"{md5}  {path}" for md5, path in small_archive.lines[:3]))
    simulator.add_fault(Fault("status", status=500, route="download"))
    clock.jump_s = -HOUR_S

    new_desk().worker.run()

    assert Overview(ledger).counts().done == 3
    assert sum(clock.waits) < 300
    assert clock.jump_s == 0, "somebody waited, and the clock was set"


# --- slots, breaker, patience


@pytest.mark.parametrize("jump_s", [-DAY_S, -HOUR_S, -1, 1, HOUR_S, DAY_S])
def test_a_clock_set_while_a_worker_waits_for_its_slot_delays_it_by_no_more_than_a_few_slots(
    ledger: Ledger, clock: JumpingClock, jump_s: int
) -> None:
    """C5 C6: it holds a permit meanwhile, so that its wait would be everybody's."""
    spacing_s = 0.5
    first, gate = (gate_of(ledger, Limits(int(spacing_s * 1e6), 1)) for _ in range(2))
    with first.request(HOST):
        pass
    clock.jump_s = jump_s
    began_s = clock.monotonic()
    with gate.request(HOST):
        assert spacing_s - SHORT_WAIT_S <= clock.monotonic() - began_s <= 2 * spacing_s + SHORT_WAIT_S


@pytest.mark.parametrize("jump_s", [-DAY_S, -HOUR_S, HOUR_S, DAY_S])
def test_a_breaker_that_is_open_when_the_clock_is_set_closes_as_soon_as_the_server_answers(
    ledger: Ledger, clock: FakeClock, jump_s: int
) -> None:
    """C6 C10: two answers close it, although its own end now lies an hour ahead."""
    gate = gate_of(ledger, Limits(0, 4))
    for _ in range(5):
        ask(gate, GONE)
    assert gate.is_down(HOST)
    clock.jump(jump_s)
    began_s = clock.monotonic()

    ask(gate, CAME)
    ask(gate, CAME)

    assert not gate.is_down(HOST)
    assert clock.monotonic() - began_s <= 60


def test_a_day_of_sleep_in_the_middle_of_an_outage_does_not_use_up_the_patience(
    ledger: Ledger, clock: FakeClock
) -> None:
    """C10: the server has been away for a day by the clock, and for a minute of work."""
    gate = gate_of(ledger, Limits(0, 4), run={"server_patience_seconds": 600})
    for _ in range(5):
        ask(gate, GONE)
    clock.advance(30)
    clock.jump(DAY_S)
    woken_s = clock.monotonic()

    with pytest.raises(ServerUnavailableError, match="not been available"):
        ask_again_and_again(gate, GONE)

    assert 500 <= clock.monotonic() - woken_s <= 700


@pytest.mark.parametrize("retry_after_us", [None, 60_000_000], ids=["growing-pauses", "Retry-After"])
def test_a_server_that_refuses_for_ever_ends_the_run_after_its_patience(
    ledger: Ledger, clock: FakeClock, retry_after_us: int | None
) -> None:
    """C6 W6: a 429 costs no file an attempt, so that something else has to bring the run to its end."""
    gate = gate_of(ledger, Limits(0, 4), run={"server_patience_seconds": 600})
    refused = Report(
        "throttled",
        Answer.UNSURE,
        is_error=True,
        asks_to_wait=True,
        http_status=429,
        retry_after_us=retry_after_us,
    )
    clock.advance(2 * HOUR_S)
    began_s = clock.monotonic()
    ask(gate, refused)
    ask(gate, CAME)

    with pytest.raises(ServerUnavailableError, match=r"refused every request for 1[0-9] minutes"):
        ask_again_and_again(gate, refused)

    assert 600 <= clock.monotonic() - began_s <= 1_200


# --- leases


@pytest.mark.parametrize("jump_s", [HOUR_S, DAY_S], ids=["set-forward", "a-day-of-sleep"])
@pytest.mark.parametrize("moment", ["fetched", "published"])
def test_a_living_worker_whose_lease_seems_to_have_ended_costs_one_request_more_at_most(
    ledger: Ledger,
    clock: FakeClock,
    small_archive: Archive,
    simulator: Simulator,
    new_desk: Callable[[], Desk],
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    jump_s: int,
) -> None:
    """I2 I3 L3: another run takes its file over; the late worker's record is fenced off, and nothing is lost."""
    md5, path = small_archive.lines[0]
    load(f"{md5}  {path}")
    slow, other = new_desk(), new_desk()

    def fall_behind() -> None:
        clock.jump(jump_s)
        registry = RunRegistry(ledger)
        registry.beat([other.worker_id])
        assert registry.recover().tasks == 1
        other.worker.run()
        registry.beat([slow.worker_id])

    place, name = {"fetched": (slow.access.client, "fetch"), "published": (slow.store, "publish")}[moment]
    monkeypatch.setattr(place, name, and_then(getattr(place, name), fall_behind))
    slow.worker.run()

    Overview(ledger).require_that_all_adds_up()
    assert Overview(ledger).counts().done == 1
    assert requests_for_files(simulator) == {"fetched": 2, "published": 1}[moment]
    assert slow.store.check((path,), md5).size_bytes is not None
    abandoned = [event.reason for event in slow.events if isinstance(event, DownloadAbandoned)]
    assert abandoned == ["the claim was lost"]


def and_then(act: Callable[..., Any], happens: Callable[[], None]) -> Callable[..., Any]:
    """The same action, after which something happens."""

    def acts(*arguments: Any) -> Any:
        result = act(*arguments)
        happens()
        return result

    return acts
