"""A host as a row of the table ``politeness``, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter, itemgetter
from typing import Any

from midasdl.ledger.schema import politeness
from midasdl.politeness.breaker import Breaker
from midasdl.politeness.state import HostState
from midasdl.politeness.throttle import Throttle

OWN = tuple(item.name for item in fields(HostState) if item.name not in {"breaker", "throttle"})
OF_BREAKER = tuple(item.name for item in fields(Breaker))
OF_THROTTLE = tuple(item.name for item in fields(Throttle))
COLUMNS = (*OWN, *(f"breaker_{name}" for name in OF_BREAKER), *(f"throttle_{name}" for name in OF_THROTTLE))
VALUES = attrgetter(
    *OWN, *(f"breaker.{name}" for name in OF_BREAKER), *(f"throttle.{name}" for name in OF_THROTTLE)
)
PARAMETERS = tuple(f"new_{name}" for name in COLUMNS)


def _picker(prefix: str, names: Sequence[str]) -> itemgetter[tuple[Any, ...]]:
    """What picks some columns from a row with all columns of the table."""
    return itemgetter(*(politeness.c.keys().index(f"{prefix}{name}") for name in names))


OWN_OF, BREAKER_OF, THROTTLE_OF = (
    _picker(*which) for which in (("", OWN), ("breaker_", OF_BREAKER), ("throttle_", OF_THROTTLE))
)


def state_of(rows: Sequence[tuple[Any, ...]]) -> HostState:
    """What everybody knows of a host, from its row; nothing, where there is none yet."""
    if not rows:
        return HostState()
    row = rows[0]
    breaker = Breaker(**dict(zip(OF_BREAKER, BREAKER_OF(row), strict=True)))
    throttle = Throttle(**dict(zip(OF_THROTTLE, THROTTLE_OF(row), strict=True)))
    return HostState(**dict(zip(OWN, OWN_OF(row), strict=True)), breaker=breaker, throttle=throttle)


def row_of(state: HostState) -> dict[str, Any]:
    """The values that `gate_statements.SAVE_POLITENESS` takes, but for the host."""
    return dict(zip(PARAMETERS, VALUES(state), strict=True))
