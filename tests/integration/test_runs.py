"""Promises about runs and workers: who is alive, and what comes back from those who are not (W3, I3, I7)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from midasdl.identity import ProcessIdentity, start_mark
from midasdl.ledger import gate_statements
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.outcomes import Finished
from midasdl.ledger.overview import Overview
from midasdl.ledger.runs import BEAT_S, LEASE_S, LastRun, Recovered, RunRegistry, beating
from midasdl.ledger.tasks import TaskQueue
from tests.support.clock import FakeClock

ME = ProcessIdentity.current()
ELSEWHERE = replace(ME, host="another-host.example")
LATER_PROCESS_OF_THIS_NUMBER = replace(ME, started="another boot:1")


@pytest.fixture
def registry(ledger: Ledger, load: Callable[..., Any]) -> RunRegistry:
    """Over a ledger with ten tasks."""
    load(*(f"{n:032x}  data/{n}.csv" for n in range(1, 11)))
    return RunRegistry(ledger)


@pytest.fixture
def gone() -> ProcessIdentity:
    """A process that ran on this host and has ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = ProcessIdentity(ME.host, process.pid, str(start_mark(process.pid)))
        process.communicate(b"\n")
    return started


def working(ledger: Ledger, identity: ProcessIdentity, name: str = "worker-1", claims: int = 2) -> int:
    """A worker with claims and a permit."""
    worker_id = RunRegistry(ledger).register(None, "worker", name, identity)
    TaskQueue(ledger).settle(worker_id, [], want=claims)
    permit = {"worker": worker_id, "new_host": "server", "now": 0, "new_start_at": 0}
    with ledger.write() as connection:
        connection.execute(gate_statements.TAKE_PERMIT, permit)
    return worker_id


def row(ledger: Ledger, worker_id: int) -> dict[str, Any]:
    with ledger.read() as connection:
        found = connection.exec_driver_sql("SELECT * FROM worker WHERE id = ?", (worker_id,))
        return dict(found.mappings().one())


def holds(ledger: Ledger, worker_id: int) -> tuple[int, int]:
    """Claims and permits of a worker."""
    with ledger.read() as connection:
        ask = connection.exec_driver_sql
        claims = ask("SELECT count(*) FROM task WHERE state = 'in_progress' AND worker_id = ?", (worker_id,))
        permits = ask("SELECT count(*) FROM permit WHERE worker_id = ?", (worker_id,))
        return int(claims.scalar_one()), int(permits.scalar_one())


# --- recovering


@pytest.mark.parametrize("which", ["ended", "number-was-given-again"])
def test_a_process_that_is_gone_from_this_host_loses_everything_at_once(
    registry: RunRegistry, ledger: Ledger, gone: ProcessIdentity, which: str
) -> None:
    """W3: claims and permit come back although the lease is fresh; a later process of its number is another."""
    dead = working(ledger, gone if which == "ended" else LATER_PROCESS_OF_THIS_NUMBER)
    assert registry.recover() == Recovered(workers=1, tasks=2, permits=1)
    assert holds(ledger, dead) == (0, 0)
    assert (row(ledger, dead)["state"], row(ledger, dead)["ended_at"]) == ("dead", ledger.clock.now_us())
    assert Overview(ledger).counts().pending == 10
    assert not registry.recover()
    with ledger.read() as connection:
        moves = connection.exec_driver_sql(
            "SELECT to_state, reason FROM history WHERE task_id = 1 ORDER BY seq"
        )
        assert moves.all() == [("pending", "loaded"), ("in_progress", "claimed"), ("pending", "worker died")]


def test_whoever_sees_its_workers_end_says_itself_how(
    registry: RunRegistry, ledger: Ledger, gone: ProcessIdentity
) -> None:
    """W1: a worker that has said goodbye and ended is not taken for dead before the goodbye is read."""
    ended = working(ledger, gone)
    assert registry.recover([ended]) == Recovered()
    registry.retire([ended], dead=False)
    assert row(ledger, ended)["state"] == "stopped"


def test_a_living_worker_keeps_its_claims(registry: RunRegistry, ledger: Ledger, clock: FakeClock) -> None:
    """I3: as long as its lease lasts, to the microsecond."""
    alive = working(ledger, ME)
    clock.advance(LEASE_S)
    assert registry.recover() == Recovered()
    assert not Recovered()
    assert holds(ledger, alive) == (2, 1)


def test_a_process_of_another_host_keeps_its_claims_until_its_lease_ends(
    registry: RunRegistry, ledger: Ledger, clock: FakeClock
) -> None:
    """W3: nobody can see from here whether it lives."""
    far = working(ledger, replace(ELSEWHERE, pid=1, started="unknown"))
    clock.advance(LEASE_S)
    assert not registry.recover()
    assert holds(ledger, far) == (2, 1)
    clock.advance(0.000001)
    assert registry.recover() == Recovered(workers=1, tasks=2, permits=1)
    assert holds(ledger, far) == (0, 0)


def test_a_worker_of_this_host_that_nobody_vouches_for_loses_its_claims(
    registry: RunRegistry, ledger: Ledger, clock: FakeClock
) -> None:
    """W3: its process may hang; when it wakes its writes are fenced off."""
    hanging = working(ledger, ME, claims=1)
    [claim] = TaskQueue(ledger).settle(hanging, [], want=1).claims
    clock.advance(LEASE_S + 1)
    assert registry.recover() == Recovered(workers=1, tasks=2, permits=1)
    assert TaskQueue(ledger).settle(hanging, [Finished(claim, 1, from_cache=False)], want=0).lost == {2}


def test_a_beat_renews_leases(registry: RunRegistry, ledger: Ledger, clock: FakeClock) -> None:
    """W3: of those that are named, and of no others; many beats fit into a lease."""
    mine, not_mine = working(ledger, ME), working(ledger, ELSEWHERE)
    assert LEASE_S / BEAT_S > 10
    clock.advance(LEASE_S - 1)
    assert registry.beat([mine]) == 1
    assert row(ledger, mine)["heartbeat_at"] == clock.now_us()
    clock.advance(LEASE_S - 1)
    assert registry.recover() == Recovered(workers=1, tasks=2, permits=1)
    assert holds(ledger, mine) == (2, 1)
    assert holds(ledger, not_mine) == (0, 0)


def test_w3_who_waits_for_long_vouches_for_itself(
    registry: RunRegistry, ledger: Ledger, clock: FakeClock
) -> None:
    """W3: a command that waits for a token or a listing is not taken for dead; afterwards nobody beats for it."""
    worker_id = working(ledger, ELSEWHERE)
    clock.advance(100)
    with beating(registry, worker_id, every_s=0.01):
        while row(ledger, worker_id)["heartbeat_at"] < clock.now_us():
            time.sleep(0.01)
    clock.advance(100)
    assert registry.recover().workers == 0
    clock.advance(100)
    assert registry.recover().workers == 1


def test_a_machine_that_slept_goes_on_where_it_was(
    registry: RunRegistry, ledger: Ledger, clock: FakeClock
) -> None:
    """I7: workers that were taken for dead are alive again with the next beat; those that stopped are not."""
    sleeper, stopped = working(ledger, ME), working(ledger, ME)
    registry.retire([stopped], dead=False)
    clock.advance(3_600)
    registry.recover()
    assert row(ledger, sleeper)["state"] == "dead"
    assert registry.beat([sleeper, stopped]) == 1
    assert (row(ledger, sleeper)["state"], row(ledger, sleeper)["ended_at"]) == ("alive", None)
    assert row(ledger, stopped)["state"] == "stopped"
    TaskQueue(ledger).settle(sleeper, [], want=1)
    assert not registry.recover()
    assert holds(ledger, sleeper)[0] == 1


@pytest.mark.parametrize("how", ["dead", "stopped"])
def test_no_claim_is_stuck_with_a_worker_that_was_written_off(
    registry: RunRegistry, ledger: Ledger, gone: ProcessIdentity, how: str
) -> None:
    """I7: one that was taken for gone, claimed all the same and then died gives everything back too."""
    worker_id = working(ledger, gone)
    registry.retire([worker_id], dead=how == "dead")
    TaskQueue(ledger).settle(worker_id, [], want=3)
    recovered = registry.recover()
    assert recovered == Recovered(workers=0, tasks=3, permits=0)
    assert recovered
    permit = {"worker": worker_id, "new_host": "server", "now": 0, "new_start_at": 0}
    with ledger.write() as connection:
        connection.execute(gate_statements.TAKE_PERMIT, permit)
    assert registry.recover() == Recovered(permits=1)


def test_two_that_recover_at_once_take_each_claim_back_once(
    registry: RunRegistry, ledger: Ledger, gone: ProcessIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W5: both have seen the dead worker; the second finds nothing left, and history says it once."""
    working(ledger, gone, claims=3)
    second: list[Recovered] = []
    retire = RunRegistry.retire

    def overtaken(self: RunRegistry, workers: Any, *, dead: bool) -> Recovered:
        monkeypatch.setattr(RunRegistry, "retire", retire)
        second.append(RunRegistry(ledger).recover())
        return retire(self, workers, dead=dead)

    monkeypatch.setattr(RunRegistry, "retire", overtaken)
    first = registry.recover()
    assert (second, first) == ([Recovered(workers=1, tasks=3, permits=1)], Recovered())
    with ledger.read() as connection:
        died = connection.exec_driver_sql("SELECT count(*) FROM transition WHERE reason = 'worker died'")
        assert died.scalar() == 3


def test_a_worker_that_stops_gives_back_what_it_holds(registry: RunRegistry, ledger: Ledger) -> None:
    """W4: retiring is for those of whom the caller knows that they have ended; doing it twice is harmless."""
    worker_id = working(ledger, ME)
    assert registry.retire([], dead=False) == Recovered()
    assert registry.retire([worker_id], dead=False) == Recovered(workers=1, tasks=2, permits=1)
    assert registry.retire([worker_id], dead=True) == Recovered()
    assert row(ledger, worker_id)["state"] == "stopped"


# --- runs


def test_the_last_run_is_the_one_that_resume_takes_up(
    registry: RunRegistry, ledger: Ledger, clock: FakeClock
) -> None:
    """W2: with its settings as they were, whether it has ended or was killed."""
    assert registry.last_run() is None
    settings = {"performance": {"workers": {"count": 8}}, "note": "föhn"}
    first = registry.start_run("run", settings)
    assert registry.last_run() == LastRun(first, settings, ended=False, exit_code=None)
    clock.advance(90)
    registry.end_run(first, 1)
    assert registry.last_run() == LastRun(first, settings, ended=True, exit_code=1)
    second = registry.start_run("resume", {})
    assert registry.last_run() == LastRun(second, {}, ended=False, exit_code=None)
    shown = Overview(ledger).last_run()
    assert shown is not None
    assert (shown["run"], shown["command"], shown["ended_at"]) == (second, "resume", None)


def test_every_process_has_a_number_of_its_own(registry: RunRegistry, ledger: Ledger) -> None:
    """I3: a restarted worker of the same name is another worker."""
    run_id = registry.start_run("run", {})
    numbers = [registry.register(run_id, "worker", "worker-1", ME) for _ in range(3)]
    assert len(set(numbers)) == 3
    registry.retire(numbers[:2], dead=True)
    assert registry.register(run_id, "coordinator", "coordinator", ME) > max(numbers)
    shown = Overview(ledger).workers_now()
    assert [(each["worker"], each["pid"], each["run"]) for each in shown] == [
        ("worker-1", os.getpid(), run_id)
    ]
