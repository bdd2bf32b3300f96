"""How the few requests of a command pass the gate."""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from midasdl.cli.context import ledger_path
from midasdl.errors import LedgerMissingError

if TYPE_CHECKING:
    from midasdl.clock import Clock
    from midasdl.config import Settings
    from midasdl.ledger.ledger import Ledger
    from midasdl.politeness.lone_gate import Passage


@contextmanager
def passage(options: argparse.Namespace, settings: Settings, name: str, clock: Clock) -> Iterator[Passage]:
    """The gate of the ledger, shared with every run on it; where there is no ledger yet, one for this command alone.

    Raises
    ------
    LedgerError
        There is a ledger and it cannot be used, so that nobody knows who else is sending.
    """
    from midasdl.politeness.limiter import limits_from, rules_from
    from midasdl.politeness.lone_gate import LoneGate

    client = settings.performance.ceda_client
    ledger = _ledger_if_any(ledger_path(options), clock)
    if ledger is None:
        yield LoneGate(client.min_request_spacing_ms * 1000, clock)
        return
    from midasdl.identity import ProcessIdentity
    from midasdl.ledger.runs import RunRegistry, beating
    from midasdl.politeness.gate import Gate

    with ledger:
        registry = RunRegistry(ledger)
        worker_id = registry.register(None, "command", name, ProcessIdentity.current())
        gate = Gate(
            ledger, worker_id, partial(limits_from, client), random.uniform, rules=rules_from(settings)
        )
        try:
            with beating(registry, worker_id):
                yield gate
        finally:
            gate.record()
            registry.retire([worker_id], dead=False)


def _ledger_if_any(path: Path, clock: Clock) -> Ledger | None:
    if not path.exists():
        return None
    from midasdl.ledger.ledger import Ledger

    try:
        return Ledger.open(path, clock)
    except LedgerMissingError:
        return None
