"""A worker is born quickly: what each would make ready for itself is made ready once, before it is forked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Executable

from midasdl import rehearsal
from midasdl.coordinator import MADE_READY
from midasdl.ledger import brief
from midasdl.ledger import ledger as ledger_module
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.texts import Text, text_of
from midasdl.processes import process_context, start
from midasdl.simulator import Simulator
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
    """From its registration to its last record, under limits and without."""
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
    assert needed == set(rehearsal.NEEDED)


def texts_at_hand(pipe: Connection) -> None:
    pipe.send(text_of.cache_info().currsize)


def test_workers_are_forked_off_a_process_that_has_rehearsed() -> None:
    """What goes wrong there goes wrong in silence: multiprocessing lets workers do without."""
    context = process_context(MADE_READY)
    ours, theirs = context.Pipe()
    worker = context.Process(target=texts_at_hand, args=(theirs,))
    start(worker)
    assert ours.recv() >= len(rehearsal.NEEDED)
    worker.join()
