"""A worker is born quickly: what each would make ready for itself is made ready once, before it is forked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Executable

from midasdl import rehearsal
from midasdl.ledger import brief
from midasdl.ledger import ledger as ledger_module
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.texts import Text, text_of
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
