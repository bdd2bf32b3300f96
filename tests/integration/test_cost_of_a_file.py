"""What a plain small file costs a worker, counted: calls of Python, statements, calls of the system. No seconds.

Who makes the way of a file longer has to say so here. `docs/performance.md` tells how to find out where it goes.
"""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from midasdl.ledger.ledger import Ledger
from midasdl.politeness.limiter import Limits
from midasdl.simulator import Simulator
from tests.support.clock import FakeClock
from tests.support.desk import Desk

WARM, FEW, MANY = 8, 32, 160


@dataclass(frozen=True)
class Cost:
    """Of one file, beyond what a round costs."""

    calls: float
    statements: float
    system: float

    def __str__(self) -> str:
        return (
            f"{self.calls:.0f} calls, {self.statements:.2f} statements, {self.system:.1f} calls of the system"
        )

    def is_within(self, most: Cost) -> bool:
        return self.calls <= most.calls and self.statements <= most.statements and self.system <= most.system


PLAIN = Cost(171, 1.05, 9.05)
UNDER_LIMITS = Cost(376, 8.05, 11.05)
"""Two brief transactions more: one to ask for the slot, one to say what came of it. Python 3.13 makes two calls more of
them than 3.11."""


SYSTEM = frozenset(
    {
        *(
            "open",
            "close",
            "write",
            "fsync",
            "utime",
            "replace",
            "statvfs",
            "listdir",
            "stat",
            "lstat",
            "mkdir",
        ),
        *("unlink", "sendall", "recv", "recv_into", "poll", "settimeout"),
    }
)
STATEMENTS = frozenset({"execute", "executemany"})


class Meter:
    """Counts what one thread calls."""

    def __init__(self) -> None:
        self.python = 0
        self.of_c: Counter[str] = Counter()

    def __call__(self, _: FrameType, event: str, what: Any) -> None:
        if event == "call":
            self.python += 1
        elif event == "c_call":
            self.of_c[what.__name__] += 1

    def called(self, names: frozenset[str]) -> int:
        return sum(count for name, count in self.of_c.items() if name in names)


@contextmanager
def metered() -> Iterator[Meter]:
    meter = Meter()
    sys.setprofile(meter)
    try:
        yield meter
    finally:
        sys.setprofile(None)


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    folder = tmp_path / "archive/data"
    folder.mkdir(parents=True)
    for number in range(WARM + FEW + MANY):
        (folder / f"{number}.csv").write_bytes(f"Conventions,G,BADC-CSV,1\n{number}\n".encode() * 200)
    with Simulator(tmp_path / "archive") as running:
        yield running


def paths_and_sums(folder: Path) -> list[str]:
    return [
        f"{hashlib.md5(path.read_bytes()).hexdigest()}  ./data/{path.name}"
        for path in sorted(folder.iterdir())
    ]


@pytest.mark.parametrize(
    ("are_limits_on", "most"), [(False, PLAIN), (True, UNDER_LIMITS)], ids=["plain", "limits"]
)
def test_a_small_file_costs_no_more_than_was_agreed(
    ledger: Ledger,
    load: Callable[..., Any],
    simulator: Simulator,
    tmp_path: Path,
    are_limits_on: bool,
    most: Cost,
) -> None:
    """Beyond what a round costs: the difference between many files and few."""
    lines = paths_and_sums(tmp_path / "archive/data")
    costs = []
    with closing(Desk(ledger, FakeClock(), simulator, tmp_path)) as desk:
        desk.use_store("hardlink", 1_000_000)  # so that the room of the disk is looked at, as in a run
        if not are_limits_on:
            desk.gate._limits_of = lambda _: Limits(0, None)
        for some in (lines[:WARM], lines[WARM : WARM + FEW], lines[WARM + FEW :]):
            load(*some)
            desk.worker._want = len(some)
            with metered() as meter:
                desk.worker.turn()
                desk.worker.turn()  # records what the first has done
            costs.append(meter)
        assert desk.states() == {"done"}

    _, few, many = costs
    cost = difference(many, few)
    assert cost.is_within(most), f"a file costs {cost}"


def difference(many: Meter, few: Meter) -> Cost:
    more = MANY - FEW
    return Cost(
        (many.python + many.of_c.total() - few.python - few.of_c.total()) / more,
        (many.called(STATEMENTS) - few.called(STATEMENTS)) / more,
        (many.called(SYSTEM) - few.called(SYSTEM)) / more,
    )
