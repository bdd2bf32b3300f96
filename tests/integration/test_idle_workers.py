"""Who finds nothing to do sleeps until there is a reason to look again, and keeps no run from its end."""

from __future__ import annotations

import multiprocessing
import random
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from midasdl import worker, worker_process
from midasdl.berth import Berth
from midasdl.channel import Bye, Hello
from midasdl.clock import SystemClock
from midasdl.config import Settings
from midasdl.coordinator import Coordinator
from midasdl.identity import ProcessIdentity
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.outcomes import Finished, Released
from midasdl.ledger.runs import RunRegistry
from midasdl.ledger.tasks import TaskQueue
from midasdl.policy import WorkerPolicy
from midasdl.politeness.backoff import Backoff
from midasdl.progress.audience import Nobody
from midasdl.simulator import Simulator
from midasdl.worker import DownloadWorker
from midasdl.worker_process import LOOK, REST, Doze, Standing, WorkerOrder
from tests.support.access import LOGIN, settings_for
from tests.support.background import eventually
from tests.support.clock import FakeClock
from tests.support.desk import Desk, line, simulator

__all__ = ["simulator"]

LONG_S = 3_600.0
HANGS_S = 60.0


def test_who_waits_for_others_dozes_for_longer_each_time_and_wakes_to_what_they_give_back(
    ledger: Ledger, load: Callable[..., Any], simulator: Simulator, tmp_path: Path
) -> None:
    """L4: naps grow while others hold all that is left; what ends one is a reason to look, not to end."""
    load(line("data/a.csv"))
    clock = FakeClock()
    with closing(Desk(ledger, clock, simulator, tmp_path)) as desk:
        other = RunRegistry(ledger).register(None, "worker", "other", ProcessIdentity.current())
        [claim] = desk.queue.settle(other, [], want=1).claims
        naps: list[float] = []

        def doze(seconds: float) -> bool:
            naps.append(seconds)
            if len(naps) == 3:
                desk.queue.settle(other, [Released(claim, "stopped")], want=0)
            return False

        policy = WorkerPolicy(3, Backoff(1.0, 300.0, 2.0, 0.0), 1)
        parts: list[Any] = [desk.worker_id, desk.queue, desk.store, desk.access.client, desk.gate, policy]
        began_s = clock.monotonic()
        DownloadWorker(*parts, clock, desk.events.append, random.uniform, doze=doze).run()
        assert naps == [0.05, 0.1, 0.2]
        assert clock.monotonic() == began_s, "nobody else's sleep was needed"
        assert desk.states() == {"done"}


@pytest.mark.parametrize(("word", "is_asked_to_stop"), [(LOOK, False), (REST, True), (None, True)])
def test_a_word_of_the_coordinator_ends_a_doze(
    word: str | None, is_asked_to_stop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W1: also the end of the coordinator, which says nothing any more."""
    monkeypatch.setattr(worker_process.os, "_exit", lambda _: None)
    monkeypatch.setattr(worker_process, "GRACE_S", 0.0)
    ours, theirs = multiprocessing.Pipe()
    clock = SystemClock()
    doze = Doze(clock)
    answers: list[bool] = []
    sleeper = threading.Thread(target=lambda: answers.append(doze.sleep(LONG_S)), daemon=True)
    sleeper.start()
    listener = threading.Thread(
        target=worker_process._obey, args=(theirs, clock, Standing(Settings()), doze), daemon=True
    )
    listener.start()
    if word is None:
        ours.close()
    else:
        ours.send(word)
    sleeper.join(HANGS_S)
    assert answers == [is_asked_to_stop]
    ours.close()
    listener.join(HANGS_S)


def test_a_worker_that_dozes_in_its_own_process_goes_home_at_a_word(
    ledger: Ledger,
    load: Callable[..., Any],
    simulator: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """W1: what wakes it reaches it there, though it would have slept for an hour."""
    load(line("data/a.csv"))
    registry, queue = RunRegistry(ledger), TaskQueue(ledger)
    run_id = registry.start_run("run", {})
    other = registry.register(run_id, "worker", "other", ProcessIdentity.current())
    [claim] = queue.settle(other, [], want=1).claims
    for name, value in [("FIRST_IDLE_NAP_S", LONG_S), ("LONGEST_IDLE_NAP_S", LONG_S)]:
        monkeypatch.setattr(worker, name, value)
    monkeypatch.setattr(worker_process, "ignore_signals", lambda: None)
    monkeypatch.setattr(worker_process.os, "_exit", lambda _: None)
    monkeypatch.setattr(worker_process, "GRACE_S", 0.0)
    ours, theirs = multiprocessing.Pipe()
    settings = settings_for(simulator, tmp_path)
    order = WorkerOrder(ledger.path, run_id, "w", tmp_path / "midas-open", settings, LOGIN, 0)
    process = threading.Thread(target=worker_process.work, args=(order, theirs), daemon=True)
    process.start()
    assert isinstance(ours.recv(), Hello)
    queue.settle(other, [Finished(claim, 1, from_cache=True)], want=0)

    def said_goodbye() -> bool:
        ours.send(LOOK)
        return ours.poll(0.05) and isinstance(ours.recv(), Bye)

    eventually(said_goodbye)
    process.join(HANGS_S)
    ours.close()


def test_a_word_that_comes_before_the_doze_is_not_lost() -> None:
    """L4: between a look in vain and the sleep that follows it, the last of the others may say goodbye."""
    doze = Doze(SystemClock())
    doze.end()
    answers: list[bool] = []
    sleeper = threading.Thread(target=lambda: answers.append(doze.sleep(LONG_S)), daemon=True)
    sleeper.start()
    sleeper.join(HANGS_S)
    assert answers == [False]


def test_when_one_worker_finds_that_nothing_is_left_the_others_look_at_once(ledger: Ledger) -> None:
    """W1: otherwise a run would end as late as the longest of their naps."""
    coordinator = Coordinator(ledger, lambda name: pytest.fail(f"{name} is started"), Settings(), 1, Nobody())
    first, second, third = (Berth(f"worker-{number}") for number in (1, 2, 3))
    coordinator._berths = [first, second, third]
    ends = []
    for berth in (first, second):
        theirs, berth.pipe = multiprocessing.Pipe()
        berth.process = cast("Any", SimpleNamespace(join=lambda timeout: None))
        ends.append(theirs)
    coordinator._hear(first, Bye(None))
    assert ends[1].poll()
    assert ends[1].recv() == LOOK
    assert (first.ended, second.ended, third.ended) == (True, False, True)
