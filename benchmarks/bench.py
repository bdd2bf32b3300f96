"""What a workload is given, and what it gives back."""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
MEMORY_DISK = Path("/dev/shm")  # noqa: S108 - a disk in memory is what is wanted, so that no disk is measured


@dataclass(frozen=True)
class Series:
    """What one contender reached, round after round.

    Attributes
    ----------
    unit : str
        Of `values`, such as ``files/s``.
    does : str
        What of the work it does: whether it verifies, flushes, records.
    """

    contender: str
    unit: str
    values: tuple[float, ...]
    does: str = ""

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)


@dataclass(frozen=True)
class Target:
    """Something that was to be reached.

    Attributes
    ----------
    first, aim : float
        To be met, and to be hoped for.
    at_least : bool
        Whether more is better.
    unit : str
        ``x`` for ratios.
    """

    what: str
    reached: float
    first: float
    aim: float
    unit: str = "x"
    at_least: bool = True

    @property
    def verdict(self) -> str:
        """In one word, or three."""
        if self._meets(self.aim):
            return "aim met"
        return "first target met" if self._meets(self.first) else "missed"

    def _meets(self, figure: float) -> bool:
        return self.reached >= figure if self.at_least else self.reached <= figure


@dataclass(frozen=True)
class Result:
    """What came of one workload.

    Attributes
    ----------
    machine : str
        On which it was measured.
    """

    workload: str
    title: str
    series: tuple[Series, ...] = ()
    targets: tuple[Target, ...] = ()
    notes: tuple[str, ...] = ()
    machine: str = ""

    def keep(self, folder: Path = RESULTS) -> None:
        """Write it where the page finds it."""
        folder.mkdir(exist_ok=True)
        (folder / f"{self.workload}.json").write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def kept(cls, path: Path) -> Result:
        """Read what `keep` wrote."""
        told: dict[str, Any] = json.loads(path.read_text())
        told["series"] = tuple(Series(**{**each, "values": tuple(each["values"])}) for each in told["series"])
        told["targets"] = tuple(Target(**each) for each in told["targets"])
        return cls(**{**told, "notes": tuple(told["notes"])})


@dataclass(frozen=True)
class Bench:
    """Where and how much to measure.

    Attributes
    ----------
    folder : Path
        For everything that is needed for a while; on a disk in memory.
    rounds : int
    scale : float
        Share of the files of a full measurement.
    contenders : frozenset of str
        Only these; empty means all.
    """

    folder: Path
    rounds: int = 5
    scale: float = 1.0
    contenders: frozenset[str] = field(default_factory=frozenset)
    say: Callable[[str], None] = print

    def files(self, full: int) -> int:
        """How many files to measure with, where a full measurement takes `full`."""
        return max(50, int(full * self.scale))

    def wants(self, contender: str) -> bool:
        """Whether a contender takes part."""
        return not self.contenders or contender in self.contenders

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """An empty folder for the length of the block."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def in_alternation(
        self, runners: Mapping[str, Callable[[], float]], unit: str = "files/s"
    ) -> dict[str, list[float]]:
        """Let everybody run once a round, each round beginning with another; the figure of each run."""
        names = [name for name in runners if self.wants(name)]
        figures: dict[str, list[float]] = {name: [] for name in names}
        for number in range(self.rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                figures[name].append(runners[name]())
                self.say(f"  round {number + 1}  {name:<22} {figures[name][-1]:>10,.1f} {unit}")
        return figures


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios within each round."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


@contextmanager
def workshop() -> Iterator[Path]:
    """A folder in memory, removed at the end."""
    where = MEMORY_DISK if MEMORY_DISK.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="midasdl-bench-", dir=where) as folder:
        yield Path(folder)
