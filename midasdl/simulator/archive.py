"""A synthetic MIDAS Open archive in the true layout, for rehearsals, demonstrations and tests.

::

    <root>/
    ├── midas-open-v202407-md5s.txt                  the manifest, as md5sum writes it
    └── data/<dataset>/dataset-version-202407/
        ├── midas-open_<dataset>_dv-202407_station-metadata.csv
        ├── midas-open_<dataset>_dv-202407_change_log.txt
        ├── change_log_station_files/<stem>_qcv-<q>_<year>.txt
        └── <county>/<id>_<station>/
            ├── <stem>_capability.csv
            └── qc-version-<q>/<stem>_qcv-<q>_<year>.csv
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

from midasdl.errors import ConfigurationError, StorageError
from midasdl.models import Kind
from midasdl.simulator import badccsv
from midasdl.simulator.badccsv import DataWriter, Edition, Years
from midasdl.simulator.datasets import DATASETS, Dataset
from midasdl.simulator.plan import PlannedFile, plan_files
from midasdl.simulator.stations import Station

_COPY_ORDER = (Kind.DATA, Kind.STATION_LOG, Kind.CAPABILITY, Kind.CHANGE_LOG, Kind.STATION_METADATA)


def make_archive(
    root: Path,
    files: int = 400,
    *,
    seed: int = 0,
    duplicate_share: float = 0.05,
    release: str = "202407",
    mean_kb: float = 12,
) -> Path:
    """Write an archive and its manifest; the same arguments give the same bytes.

    Parameters
    ----------
    root : Path
        What stands for ``/badc/ukmo-midas-open``; made if missing. It may hold other releases.
    files : int
        How many files, the manifest not counted. From 40 on every dataset has every kind.
    seed : int
        Another seed gives other stations, years and values.
    duplicate_share : float
        Share of the files whose contents equal those of another file, from 0 to below 1.
    release : str
        ``YYYYMM``.
    mean_kb : float
        Mean size of a data file in kB (1,000 bytes); headers alone take 3 to 5.

    Returns
    -------
    Path
        The manifest.

    Raises
    ------
    ConfigurationError
        If an argument is out of its range, or `root` already holds files of this release.
    StorageError
        If the archive cannot be written.

    Notes
    -----
    Crash safety: the manifest is written last, so that an archive with a manifest is whole.
    """
    _check(files, duplicate_share, release, mean_kb)
    _check_vacant(root, release)
    builder = _Builder(files, seed, release, mean_kb)
    sources = choose_sources(builder.plan, duplicate_share, seed)
    try:
        digests = _write_files(root, builder, sources)
        return _write_manifest(root, builder, digests, seed)
    except OSError as error:
        raise StorageError(f"the archive in {root} cannot be written: {error}") from error


def choose_sources(plan: list[PlannedFile], duplicate_share: float, seed: int) -> list[int]:
    """Return for each planned file the position of the file whose contents it has: its own, or another's."""
    chance = random.Random(f"copies {seed}")  # noqa: S311 - chance that can be repeated, not a secret
    positions = list(range(len(plan)))
    chance.shuffle(positions)
    positions.sort(key=lambda position: _COPY_ORDER.index(plan[position].kind))
    copies = min(round(len(plan) * duplicate_share), len(plan) - 1)
    originals = sorted(positions[copies:])
    alike: dict[object, list[int]] = defaultdict(list)
    for position in originals:
        alike[plan[position].dataset.name, plan[position].kind].append(position)
        alike[plan[position].kind].append(position)
    sources = list(range(len(plan)))
    for position in positions[:copies]:
        file = plan[position]
        candidates = alike.get((file.dataset.name, file.kind)) or alike.get(file.kind) or originals
        sources[position] = chance.choice(candidates)
    return sources


class _Builder:
    def __init__(self, files: int, seed: int, release: str, mean_kb: float) -> None:
        self.release = release
        self.plan = plan_files(files, seed=seed, last_year=int(release[:4]) - 1)
        self.made_at_s = datetime(int(release[:4]), int(release[4:]), 24, 12, tzinfo=UTC).timestamp()
        self._mean_bytes = mean_kb * 1000
        self._seed = seed
        self._edition = Edition(release)
        self._writers = {dataset.name: DataWriter(dataset, self._edition, seed) for dataset in DATASETS}
        self._stations = _years_by_station(self.plan)

    def contents(self, position: int) -> bytes:
        file = self.plan[position]
        stations = self._stations[file.dataset.name]
        if file.kind is Kind.STATION_METADATA:
            return badccsv.station_metadata(file.dataset, self._edition, stations)
        if file.station is None:
            return badccsv.change_log(file.dataset, self._edition, len(stations))
        if file.kind is Kind.CAPABILITY:
            return badccsv.capability(file.dataset, self._edition, file.station, stations[file.station])
        qc, year = file.qc or 0, file.year or 0
        if file.kind is Kind.STATION_LOG:
            return badccsv.station_log(file.dataset, self._edition, file.station, qc, year)
        return self._data(file.dataset, file.station, qc, year, position)

    def _data(self, dataset: Dataset, station: Station, qc: int, year: int, position: int) -> bytes:
        chance = random.Random(self._seed * 1_000_003 + position)  # noqa: S311 - chance that can be repeated
        size_bytes = self._mean_bytes * dataset.weight * chance.uniform(0.4, 1.6)
        return self._writers[dataset.name].write(station, qc, year, size_bytes, chance)


def _check(files: int, duplicate_share: float, release: str, mean_kb: float) -> None:
    if files < 1:
        raise ConfigurationError(f"files = {files}: an archive needs at least one")
    if not 0 <= duplicate_share < 1:
        raise ConfigurationError(f"duplicate_share = {duplicate_share} must be from 0 to below 1")
    if not (len(release) == 6 and release.isascii() and release.isdigit() and "01" <= release[4:] <= "12"):
        raise ConfigurationError(f"release = {release!r} must be a year and a month such as '202407'")
    if not 1900 <= int(release[:4]) <= 2999:
        raise ConfigurationError(f"release = {release!r} must be of the years 1900 to 2999")
    if mean_kb <= 0:
        raise ConfigurationError(f"mean_kb = {mean_kb} must be above 0")


def _check_vacant(root: Path, release: str) -> None:
    taken = next(root.glob(f"data/*/dataset-version-{release}"), None)
    if taken is not None:
        raise ConfigurationError(
            f"{root} already holds files of release {release}, for example in {taken}",
            "choose an empty folder, or remove the old archive",
        )


def _years_by_station(plan: list[PlannedFile]) -> dict[str, dict[Station, Years]]:
    stations: dict[str, dict[Station, Years]] = {dataset.name: {} for dataset in DATASETS}
    for file in plan:
        if file.station is not None and file.year is not None:
            known = stations[file.dataset.name].get(file.station, Years(file.year, file.year))
            years = Years(min(known.first, file.year), max(known.last, file.year))
            stations[file.dataset.name][file.station] = years
    return stations


def _write_files(root: Path, builder: _Builder, sources: list[int]) -> list[str]:
    digests: list[str] = []
    made: set[Path] = set()
    for position, file in enumerate(builder.plan):
        place = root / file.path(builder.release)
        if place.parent not in made:
            place.parent.mkdir(parents=True, exist_ok=True)
            made.add(place.parent)
        contents = builder.contents(sources[position])
        _write(place, contents, builder.made_at_s)
        digests.append(hashlib.md5(contents, usedforsecurity=False).hexdigest())
    return digests


def _write_manifest(root: Path, builder: _Builder, digests: list[str], seed: int) -> Path:
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for file, digest in zip(builder.plan, digests, strict=True):
        groups[file.group()].append(f"{digest}  ./{file.path(builder.release)}\n")
    chance = random.Random(f"manifest {seed}")  # noqa: S311 - chance that can be repeated, not a secret
    ordered = list(groups.values())
    chance.shuffle(ordered)
    for lines in ordered:
        chance.shuffle(lines)
    manifest = root / f"midas-open-v{builder.release}-md5s.txt"
    _write(manifest, "".join(line for lines in ordered for line in lines).encode("ascii"), builder.made_at_s)
    return manifest


def _write(place: Path, contents: bytes, made_at_s: float) -> None:
    place.write_bytes(contents)
    os.utime(place, (made_at_s, made_at_s))
