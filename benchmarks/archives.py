"""Archives to fetch: made up, with the paths and sizes of MIDAS Open."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RELEASE = "202407"
COUNTIES = ("devon", "cornwall", "greater-london", "powys-north", "argyll-in-strathclyde-region", "antrim")
YEARS_OF_A_STATION = 30
HEAD = b"Conventions,G,BADC-CSV,1\n"
LINE = b"2010-01-01 00:00:00,SYNOP,%08d,1,1001,WAHRAIN,%08d,NA,NA,0.2,0,0\n"


@dataclass(frozen=True)
class Share:
    """A dataset's part in the mix: how many of a thousand files, and how large they are."""

    dataset: str
    per_thousand: int
    least_bytes: int
    most_bytes: int


TRUE_MIX = (
    Share("uk-daily-rain-obs", 420, 30_000, 80_000),
    Share("uk-daily-temperature-obs", 150, 20_000, 65_000),
    Share("uk-daily-weather-obs", 130, 50_000, 130_000),
    Share("uk-soil-temperature-obs", 40, 25_000, 60_000),
    Share("uk-hourly-rain-obs", 80, 150_000, 370_000),
    Share("uk-mean-wind-obs", 60, 70_000, 900_000),
    Share("uk-radiation-obs", 20, 500_000, 1_000_000),
    Share("uk-hourly-weather-obs", 60, 2_000_000, 3_000_000),
    Share("uk-daily-rain-obs", 40, 1_500, 2_500),
)
"""Sizes of one station-year as CEDA has them, with capability files at the end."""

SMALL_ONLY = (Share("uk-daily-temperature-obs", 1_000, 8_000, 16_000),)


@dataclass(frozen=True)
class Archive:
    """Files below a root, and a manifest of them.

    Attributes
    ----------
    sums : tuple of (str, str)
        Md5 and path of each.
    """

    root: Path
    manifest: Path
    sums: tuple[tuple[str, str], ...]
    size_bytes: int


def make_archive(folder: Path, files: int, mix: tuple[Share, ...], seed: int = 1) -> Archive:
    """Write an archive; the same for the same seed, and no two files alike."""
    dice = random.Random(seed)  # noqa: S311 - sizes, not secrets
    filler = b"".join(LINE % (number, number * 7) for number in range(60_000))
    root = folder / "archive"
    sums = []
    total = 0
    for number, (share, path) in enumerate(_paths(files, mix)):
        size = dice.randint(share.least_bytes, share.most_bytes)
        start = dice.randrange(len(filler) - share.most_bytes)
        head = HEAD + b"number,G,%d\n" % number
        body = head + filler[start : start + size - len(head)]
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
        sums.append((hashlib.md5(body, usedforsecurity=False).hexdigest(), path))
        total += len(body)
    manifest = folder / "manifest.txt"
    manifest.write_text("".join(f"{md5}  ./{path}\n" for md5, path in sums))
    return Archive(root, manifest, tuple(sums), total)


def _paths(files: int, mix: tuple[Share, ...]) -> Iterator[tuple[Share, str]]:
    """Shares in their proportion, each with paths of its own; a station has `YEARS_OF_A_STATION` files."""
    plan = [index for index, share in enumerate(mix) for _ in range(share.per_thousand * files // 1_000)]
    plan += [0] * (files - len(plan))
    numbers = [0] * len(mix)
    for index in plan:
        station, year = divmod(numbers[index], YEARS_OF_A_STATION)
        numbers[index] += 1
        yield mix[index], _path(mix[index].dataset, 10_000 * index + station, 1990 + year)


def _path(dataset: str, station: int, year: int) -> str:
    county = COUNTIES[station % len(COUNTIES)]
    name = f"{station:05d}_station-{station}"
    prefix = f"midas-open_{dataset}_dv-{RELEASE}_{county}_{name}"
    folder = f"data/{dataset}/dataset-version-{RELEASE}/{county}/{name}/qc-version-1"
    return f"{folder}/{prefix}_qcv-1_{year}.csv"
