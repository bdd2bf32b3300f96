"""Manifests as long as they come, without any files behind them."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

DATASETS = ("uk-daily-rain-obs", "uk-daily-temperature-obs", "uk-hourly-weather-obs", "uk-mean-wind-obs")
COUNTIES = ("devon", "kent", "cornwall", "west-lothian", "greater-london")
NAMES = ("twist", "bracknell", "st-mawgan", "hill-no-2", "kew-gardens")
YEARS_OF_A_STATION = 40


def write_manifest(path: Path, lines: int, seed: int = 1) -> Path:
    """Write so many lines of the archive's shape, about 200 bytes each, by station; every md5 is another one."""
    dice = random.Random(seed)  # noqa: S311 - contents, not secrets
    with path.open("w") as file:
        for first in range(0, lines, YEARS_OF_A_STATION):
            dataset, county = dice.choice(DATASETS), dice.choice(COUNTIES)
            name = f"{first // YEARS_OF_A_STATION % 100_000:05d}_{dice.choice(NAMES)}"
            folder = f"data/{dataset}/dataset-version-202407/{county}/{name}/qc-version-1"
            stem = f"midas-open_{dataset}_dv-202407_{county}_{name}_qcv-1"
            for year in range(min(YEARS_OF_A_STATION, lines - first)):
                file.write(f"{dice.getrandbits(128):032x}  ./{folder}/{stem}_{1950 + year}.csv\n")
    return path


def add_lines(manifest: Path, more: Path) -> None:
    """Put the lines of another manifest behind those of one, whose files are asked for first."""
    with manifest.open("ab") as target, more.open("rb") as source:
        shutil.copyfileobj(source, target)
