"""A run that is only imagined: what workers would tell, and when, without a process, a server or a wait."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from midasdl.models import ErrorClass
from midasdl.progress.events import CacheHit, DownloadCompleted, DownloadFailed, DownloadStarted, Event
from midasdl.progress.sizes import Group, key_of
from midasdl.progress.snapshot import Reading, Tally
from midasdl.progress.tracker import Tracker

MIX: dict[str, tuple[float, int]] = {
    "uk-daily-rain-obs": (0.50, 55_000),
    "uk-daily-temperature-obs": (0.20, 32_000),
    "uk-daily-weather-obs": (0.08, 92_000),
    "uk-soil-temperature-obs": (0.04, 42_000),
    "uk-hourly-rain-obs": (0.05, 261_000),
    "uk-mean-wind-obs": (0.04, 485_000),
    "uk-radiation-obs": (0.01, 789_000),
    "uk-hourly-weather-obs": (0.04, 2_500_000),
}
"""The share of each dataset's station-years in a release, and their mean size."""

CAPABILITY_SHARE = 0.04


@dataclass(frozen=True, slots=True)
class Thing:
    """A content of the imagined archive."""

    task_id: int
    path: str
    size_bytes: int
    fate: str = "come"


def tree(files: int, seed: int, *, scale: float = 1.0, unsorted: bool = True) -> list[Thing]:
    """Contents in the mix of a real release, with sizes that scatter; ``scale`` makes all of them larger or smaller."""
    chance = random.Random(seed)
    names = list(MIX)
    things = []
    for number in range(files):
        dataset = chance.choices(names, [share for share, _ in MIX.values()])[0]
        where = f"data/{dataset}/dataset-version-202407/devon/01234_a-station"
        stem = f"midas-open_{dataset}_dv-202407_devon_01234_a-station"
        if chance.random() < CAPABILITY_SHARE:
            path, mean = f"{where}/{stem}_capability.csv", 2_000
        else:
            path = f"{where}/qc-version-1/{stem}_qcv-1_{1900 + number % 120}.csv"
            mean = MIX[dataset][1]
        size = int(mean * scale * chance.lognormvariate(-0.18, 0.6))
        things.append((path, size))
    if not unsorted:
        things.sort(key=lambda thing: (MIX[thing[0].split("/")[1]][1], thing[0]))
    return [Thing(number, path, size) for number, (path, size) in enumerate(things, start=1)]


@dataclass(frozen=True, slots=True)
class Line:
    """What lies between the imagined worker and its server."""

    latency_s: float = 0.2
    bytes_per_s: float = 3_400_000
    spacing_s: float = 0.1
    stalls: Sequence[tuple[float, float]] = ()
    """From when to when nothing moves."""

    def after(self, start_s: float, seconds: float) -> float:
        """When something ends that takes so long."""
        end_s = start_s + seconds
        for stall_from_s, stall_to_s in self.stalls:
            if start_s < stall_to_s and end_s > stall_from_s:
                end_s += stall_to_s - max(start_s, stall_from_s)
        return end_s


def run(things: Iterable[Thing], line: Line = Line(), workers: int = 4) -> Iterator[tuple[float, Event]]:
    """What `workers` tell, in the order of time, as the run takes its course."""
    return iter(sorted(_tell(things, line, workers), key=lambda told: told[0]))


def _tell(things: Iterable[Thing], line: Line, workers: int) -> Iterator[tuple[float, Event]]:
    free = [0.0] * workers
    slot_s = 0.0
    for thing in things:
        begin_s = heapq.heappop(free)
        if thing.fate == "on disk":
            end_s = begin_s + 0.001
            yield end_s, CacheHit(thing.task_id, thing.path, thing.size_bytes, 1)
        else:
            yield begin_s, DownloadStarted(thing.task_id, thing.path)
            slot_s = max(slot_s, begin_s) + line.spacing_s
            size = thing.size_bytes if thing.fate == "come" else 0
            end_s = line.after(slot_s, line.latency_s + size / line.bytes_per_s)
            yield end_s, _end_of(thing, end_s - begin_s)
        heapq.heappush(free, end_s)


def _end_of(thing: Thing, seconds: float) -> Event:
    if thing.fate == "come":
        return DownloadCompleted(thing.task_id, thing.path, thing.size_bytes, int(seconds * 1e6), 1)
    return DownloadFailed(thing.task_id, thing.path, ErrorClass.NOT_FOUND, "not there", will_retry=False)


def reading_of(things: Sequence[Thing], done: Sequence[Thing] = ()) -> Reading:
    """What the ledger says of all of them, of which some are done."""
    groups: dict[tuple[str, str], list[int]] = {}
    finished = {thing.task_id for thing in done}
    for thing in things:
        group = groups.setdefault(key_of(thing.path), [0, 0, 0])
        if thing.task_id in finished:
            group[0] += 1
            group[1] += thing.size_bytes
        else:
            group[2] += 1
    tally = Tally(len(things), len(done), 0)
    known = tuple(Group(*key, *numbers) for key, numbers in groups.items())
    return Reading(tally, tally, sum(thing.size_bytes for thing in done), groups=known)


def tracker_of(things: Sequence[Thing]) -> Tracker:
    """A tracker at the beginning of a run over all of them."""
    tracker = Tracker(len(things), 0, 0, 0.0)
    tracker.learn(reading_of(things), 0.0)
    return tracker
