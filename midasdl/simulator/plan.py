"""Which files a synthetic archive has: the true layout of MIDAS Open, in any number of files. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from midasdl.models import Kind
from midasdl.simulator.datasets import DATASETS, Dataset
from midasdl.simulator.stations import Gazetteer, Station

_HOLE_SHARE = 0.12
_STATION_LOG_SHARE = 0.08
_QC_VERSIONS = ((1,), (0,), (0, 1))
_QC_WEIGHTS = (70, 10, 20)
_STATION_STRIDE = 2
_OFFSETS = 4


class PlannedFile(NamedTuple):
    """One file to be made; station, QC version and year are None where its kind has none."""

    dataset: Dataset
    kind: Kind
    station: Station | None = None
    qc: int | None = None
    year: int | None = None

    def path(self, release: str) -> str:
        """Return where the file lies below the archive's root."""
        folder = f"data/{self.dataset.name}/dataset-version-{release}"
        stem = f"midas-open_{self.dataset.name}_dv-{release}"
        if self.kind is Kind.STATION_METADATA:
            return f"{folder}/{stem}_station-metadata.csv"
        if self.kind is Kind.CHANGE_LOG or self.station is None:
            return f"{folder}/{stem}_change_log.txt"
        place = f"{self.station.county}/{self.station.label}"
        stem = f"{stem}_{self.station.county}_{self.station.label}"
        if self.kind is Kind.CAPABILITY:
            return f"{folder}/{place}/{stem}_capability.csv"
        stem = f"{stem}_qcv-{self.qc}_{self.year}"
        if self.kind is Kind.STATION_LOG:
            return f"{folder}/change_log_station_files/{stem}.txt"
        return f"{folder}/{place}/qc-version-{self.qc}/{stem}.csv"

    def group(self) -> tuple[str, str]:
        """Return what the manifest keeps together: a dataset's files of a station, or those of a kind."""
        if self.station is None or self.kind is Kind.STATION_LOG:
            return self.dataset.name, self.kind
        return self.dataset.name, self.station.label


def plan_files(count: int, *, seed: int, last_year: int) -> list[PlannedFile]:
    """Return exactly `count` files: from 40 on each dataset has each kind."""
    gazetteer = Gazetteer(seed)
    blocks = [
        _blocks(dataset, offset % _OFFSETS, gazetteer, seed, last_year)
        for offset, dataset in enumerate(DATASETS)
    ]
    return list(islice(_in_order(blocks), count))


def _in_order(blocks: list[Iterator[list[PlannedFile]]]) -> Iterator[PlannedFile]:
    firsts = [next(block) for block in blocks]
    for position in range(2):
        yield from (first[position] for first in firsts)
    for kind in (Kind.STATION_METADATA, Kind.CHANGE_LOG):
        yield from (PlannedFile(dataset, kind) for dataset in DATASETS)
    logs = [first[0]._replace(kind=Kind.STATION_LOG) for first in firsts]
    yield from logs
    for first in firsts:
        yield from (file for file in first[2:] if file not in logs)
    while True:
        for block in blocks:
            yield from next(block)


def _blocks(
    dataset: Dataset, offset: int, gazetteer: Gazetteer, seed: int, last_year: int
) -> Iterator[list[PlannedFile]]:
    chance = random.Random(f"plan {seed} {dataset.name}")  # noqa: S311 - chance that can be repeated, not a secret
    index = offset
    while True:
        yield _block(dataset, gazetteer.station(index), chance, last_year)
        index += _STATION_STRIDE


def _block(dataset: Dataset, station: Station, chance: random.Random, last_year: int) -> list[PlannedFile]:
    span = chance.randint(2, 12)
    first_year = chance.randint(last_year - 60, last_year - span + 1)
    years = [year for year in range(first_year, first_year + span) if chance.random() >= _HOLE_SHARE] or [
        first_year
    ]
    versions = chance.choices(_QC_VERSIONS, _QC_WEIGHTS)[0]
    data = [PlannedFile(dataset, Kind.DATA, station, qc, year) for year in years for qc in versions]
    logs = [file._replace(kind=Kind.STATION_LOG) for file in data if chance.random() < _STATION_LOG_SHARE]
    return [data[0], PlannedFile(dataset, Kind.CAPABILITY, station), *data[1:], *logs]
