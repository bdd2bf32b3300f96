"""A worker is born quickly: what each would make ready for itself is made ready once, before it is forked."""

from __future__ import annotations

import json
import multiprocessing
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Executable

from midasdl import rehearsal, worker_process
from midasdl.config import Settings
from midasdl.ledger import brief
from midasdl.ledger import ledger as ledger_module
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.texts import Text, text_of
from midasdl.politeness.gate import Gate
from midasdl.politeness.limiter import Limits
from midasdl.simulator import Simulator
from midasdl.worker_process import WorkerOrder
from tests.support.access import LOGIN
from tests.support.clock import FakeClock
from tests.support.desk import Desk, line, simulator

__all__ = ["simulator"]


def test_a_worker_that_nothing_happens_to_puts_no_statement_together(
    ledger: Ledger,
    load: Callable[..., Any],
    simulator: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From its registration to its last record, with a slot to wait for and without."""
    needed: set[Executable] = set()

    def noting(statement: Executable) -> Text:
        needed.add(statement)
        return text_of(statement)

    for module in (ledger_module, brief):
        monkeypatch.setattr(module, "text_of", noting)
    load(line("data/a.csv"), line("data/b.csv"))
    with closing(Desk(ledger, FakeClock(), simulator, tmp_path)) as desk:
        desk.worker.run()
        assert desk.states() == {"done"}
        spaced = Gate(ledger, desk.worker_id, Limits(100_000, 4), random.uniform)
        for _ in range(2):
            with spaced.request(desk.access.client.host):
                pass
    assert needed == set(rehearsal.NEEDED)


def test_a_worker_that_nothing_happens_to_does_without_sqlalchemys_engine(
    ledger: Ledger, load: Callable[..., Any], simulator: Simulator, tmp_path: Path
) -> None:
    """What an engine needs is memory that each of eight workers would have to itself: 2 MB."""
    load(line("data/a.csv"), line("data/b.csv"))
    clock = FakeClock()
    with Ledger.open(ledger.path, clock) as own, closing(Desk(own, clock, simulator, tmp_path)) as desk:
        spaced = Gate(own, desk.worker_id, Limits(100_000, 4), random.uniform)
        with spaced.request(desk.access.client.host):
            pass
        desk.worker.run()
        spaced.record()
        assert own._engine_made is None
        assert desk.states() == {"done"}


def test_the_thread_that_was_forked_off_does_nothing_but_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be given its memory in holes of shared pages, which would become the worker's own: 2 MB."""
    lives: list[threading.Thread] = []
    monkeypatch.setattr(worker_process, "ignore_signals", lambda: None)
    monkeypatch.setattr(worker_process, "_live", lambda *_: lives.append(threading.current_thread()))
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        worker_process.work(WorkerOrder(tmp_path, 1, "w", tmp_path, Settings(), LOGIN, 0), theirs)
    assert len(lives) == 1
    assert lives[0] is not threading.current_thread()
    assert not lives[0].is_alive()


LOOK_AT_A_WORKER = """
import json, sys
from midasdl.coordinator import MADE_READY
from midasdl.processes import process_context, start, warm_up

def look(pipe):
    imported = set(sys.modules)
    from midasdl.ledger.library import best_library
    from midasdl.ledger.texts import text_of
    pipe.send([text_of.cache_info().currsize, best_library().module.__name__ in imported])

if __name__ == "__main__":
    warm_up(MADE_READY)
    context = process_context(MADE_READY)
    ours, theirs = context.Pipe()
    process = context.Process(target=look, args=(theirs,))
    start(process)
    print(json.dumps(ours.recv()))
"""


def test_workers_are_forked_off_a_process_that_has_rehearsed(tmp_path: Path) -> None:
    """What goes wrong there goes wrong in silence: multiprocessing lets workers do without."""
    script = tmp_path / "look.py"
    script.write_text(LOOK_AT_A_WORKER)
    told = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    assert json.loads(told) == [len(rehearsal.NEEDED), True], "texts put together, SQLite loaded"
