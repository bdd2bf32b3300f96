"""How many workers work, as far as the load lets them: a pure decision, and the gauge that it is made by.

Load is what others suffer from: the share of the processors that other programs want, the memory that the workers
take, and a server that answers more slowly than usual. That the workers themselves keep the processors busy is no
strain.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

import psutil

from midasdl.config import Settings
from midasdl.ledger import gate_statements
from midasdl.ledger.ledger import Ledger
from midasdl.politeness.throttle import ENOUGH, LATENCY_FACTOR, LEAST_SLOWDOWN_US

STRAINED_LOOKS = 2
"""So many looks in a row under strain before one worker fewer works: a moment's load is none."""

CALM_LOOKS = 6
"""So many calm ones before one more works: it is let go quickly and comes back slowly, so that it does not swing."""

CALM_SHARE = 0.8
"""Calm is what stays this far below what is allowed; between calm and strain nothing changes."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the load.

    Attributes
    ----------
    others_cpu_percent : float
        Of all processors, by programs that are not of this run.
    memory_percent : float
        Of the machine's memory, by the workers of this run together.
    slowness : float
        How many times longer than usual the server takes; 1 where that cannot be told.
    """

    others_cpu_percent: float = 0.0
    memory_percent: float = 0.0
    slowness: float = 1.0


@dataclass(frozen=True, slots=True)
class TuningRules:
    """The bounds.

    Attributes
    ----------
    least, most : int
        Workers.
    """

    least: int
    most: int
    max_cpu_percent: float
    max_memory_percent: float

    @classmethod
    def from_settings(cls, settings: Settings) -> TuningRules:
        """As the settings have them; where nothing is tuned, all workers work."""
        performance = settings.performance
        most = performance.workers.count
        least = min(performance.tuning.min_workers, most) if performance.tuning.enabled else most
        return cls(least, most, performance.tuning.max_cpu_percent, performance.memory.max_memory_percent)


@dataclass(frozen=True, slots=True)
class Tuning:
    """How many workers work, and for how many looks there was strain or calm."""

    active: int
    strained: int = 0
    calm: int = 0


def tune(tuning: Tuning, sample: Sample, rules: TuningRules) -> tuple[Tuning, str | None]:
    """The next state, and in words why the number of workers has changed; None where it has not."""
    strain = strain_in(sample, rules)
    if strain is None and not is_calm(sample, rules):
        return replace(tuning, strained=0, calm=0), None
    if strain is None:
        tuning = replace(tuning, strained=0, calm=tuning.calm + 1)
        if tuning.calm < CALM_LOOKS or tuning.active >= rules.most:
            return tuning, None
        return Tuning(tuning.active + 1), "the load has passed"
    tuning = replace(tuning, strained=tuning.strained + 1, calm=0)
    if tuning.strained < STRAINED_LOOKS or tuning.active <= rules.least:
        return tuning, None
    return Tuning(tuning.active - 1), strain


def within(tuning: Tuning, old: TuningRules, new: TuningRules) -> Tuning:
    """The state within other bounds; who had all workers has all of them again."""
    active = new.most if tuning.active >= old.most else max(new.least, min(tuning.active, new.most))
    return replace(tuning, active=active)


def strain_in(sample: Sample, rules: TuningRules) -> str | None:
    """What is too much, in words."""
    if sample.memory_percent > rules.max_memory_percent:
        return (
            f"the workers take {sample.memory_percent:.0f} % of the memory, more than "
            f"{rules.max_memory_percent:g} %"
        )
    if sample.others_cpu_percent > rules.max_cpu_percent:
        return (
            f"other programs use {sample.others_cpu_percent:.0f} % of the processors, more than "
            f"{rules.max_cpu_percent:g} %"
        )
    if sample.slowness > LATENCY_FACTOR:
        return f"CEDA takes {sample.slowness:.1f} times as long as usual to answer"
    return None


def is_calm(sample: Sample, rules: TuningRules) -> bool:
    """Whether there is room for one more, with some to spare."""
    return (
        sample.memory_percent <= rules.max_memory_percent * CALM_SHARE
        and sample.others_cpu_percent <= rules.max_cpu_percent * CALM_SHARE
        and sample.slowness <= LATENCY_FACTOR * CALM_SHARE
    )


class Gauge:
    """Measures the load between one look and the next.

    Parameters
    ----------
    ledger : Ledger
        Knows how quickly the server answers.
    host : str
        The server.
    """

    def __init__(self, ledger: Ledger, host: str) -> None:
        self._ledger = ledger
        self._host = host
        self._busy_s = self._all_s = 0.0
        self._own_s: dict[int, float] = {}

    def sample(self, pids: Iterable[int]) -> Sample:
        """The load since the last look.

        Parameters
        ----------
        pids : iterable of int
            The processes of this run; those that have ended do not matter.
        """
        own_s, memory = _own(pids)
        busy_s, all_s = _whole_machine()
        passed_s = all_s - self._all_s if self._all_s else 0.0
        by_us_s = sum(max(0.0, spent - self._own_s.get(pid, spent)) for pid, spent in own_s.items())
        others = (busy_s - self._busy_s - by_us_s) / passed_s if passed_s > 0 else 0.0
        self._busy_s, self._all_s, self._own_s = busy_s, all_s, own_s
        return Sample(
            others_cpu_percent=100 * min(max(others, 0.0), 1.0),
            memory_percent=100 * memory / psutil.virtual_memory().total,
            slowness=self._slowness(),
        )

    def _slowness(self) -> float:
        with self._ledger.read() as connection:
            found = connection.execute(gate_statements.POLITENESS_OF, {"this_host": self._host})
            row = found.mappings().first()
        if row is None or row["throttle_samples"] < ENOUGH:
            return 1.0
        present_us, usual_us = row["throttle_latency_us"], row["throttle_usual_us"]
        return present_us / usual_us if present_us - usual_us > LEAST_SLOWDOWN_US else 1.0


def _own(pids: Iterable[int]) -> tuple[dict[int, float], int]:
    """Seconds of processor time of each process, and the memory of all."""
    spent_s: dict[int, float] = {}
    memory = 0
    for pid in pids:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            times = process.cpu_times()
            spent_s[pid] = times.user + times.system
            memory += process.memory_info().rss
    return spent_s, memory


def _whole_machine() -> tuple[float, float]:
    """Seconds that the processors were busy, and seconds that there were, since the machine began."""
    times = psutil.cpu_times()._asdict()
    counted = sum(spent for name, spent in times.items() if not name.startswith("guest"))
    return counted - times["idle"] - times.get("iowait", 0.0), counted
