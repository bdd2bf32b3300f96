"""Cases that differ little from their neighbours: ``make soak`` runs them, CI has its time for others."""

from __future__ import annotations

from typing import Any

import pytest


def in_soaks(*case: Any) -> Any:
    """A case of `pytest.mark.parametrize` that only soaks run."""
    return pytest.param(*case, marks=pytest.mark.soak)
