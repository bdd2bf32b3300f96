"""S7: what is enough room, as a pure decision, and how room is measured."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from midasdl.ledger.ledger import Ledger
from midasdl.ledger.overview import Overview, Sizes
from midasdl.space import MARGIN, SAMPLE, Need, Room, expected_bytes, lack_of_room, places_of, rooms_at

MB = 1_000_000
FLOOR = 64 * MB
DATA, LEDGER = Path("/data"), Path("/home")


def room(free_mb: float, files: int | None = None, place: Path = DATA) -> Room:
    return Room(place, int(free_mb * MB), files)


def test_without_any_size_known_only_the_floor_is_demanded() -> None:
    """S7: a first run begins wherever the floor is left."""
    need = Need(FLOOR, 0, 10**6)
    assert lack_of_room([room(64)], need) is None
    assert "Only 63.9 MB are free in /data, and 64.0 MB must stay free" in str(
        lack_of_room([room(63.9)], need)
    )


def test_every_disk_must_have_the_floor_the_ledgers_too() -> None:
    """S7: a ledger that cannot grow stops a run as surely as a full data root."""
    need = Need(FLOOR)
    assert "/far" in str(lack_of_room([room(500), room(1, place=Path("/far"))], need))
    assert "/home" in str(lack_of_room([room(500)], need, [room(1, place=LEDGER)]))


def test_a_run_is_refused_only_where_the_room_is_surely_too_little() -> None:
    """S7: an estimate may be wrong by a margin; the room of all disks counts together."""
    need = Need(FLOOR, 1_000 * MB)
    enough = 1_000 / MARGIN + 64
    assert lack_of_room([room(enough)], need) is None
    assert lack_of_room([room(enough / 2), room(enough / 2)], need) is None
    assert "About 1.0 GB are still to come" in str(lack_of_room([room(enough - 1)], need))


def test_a_disk_that_has_no_names_left_for_the_files_is_refused() -> None:
    """S7: a million small files can use up a disk that has space; a disk that does not count them is trusted."""
    need = Need(FLOOR, 0, 1_000)
    assert "room for 999 (inodes)" in str(lack_of_room([room(500, 999)], need))
    assert lack_of_room([room(500, 1_000)], need) is None
    assert lack_of_room([room(500, 10), room(500, None)], need) is None


def test_a_floor_of_zero_looks_at_no_disk() -> None:
    """F4: whoever knows better may switch the check off."""
    assert lack_of_room([room(0, 0)], Need(0, 10**15, 10**6)) is None


def test_disks_that_cannot_tell_are_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S7: some network file systems say that they have no blocks at all; only writing tells there."""
    assert lack_of_room([], Need(FLOOR, 10**15, 10**6)) is None
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255)))
    assert rooms_at([tmp_path]) == []


def test_what_is_expected_follows_each_kind_of_file_by_itself() -> None:
    """S7: hourly files are a hundred times as large as daily ones; few files of a kind tell nothing."""
    daily, hourly = Sizes(100, 100 * 30_000, 1_000), Sizes(SAMPLE, SAMPLE * 3 * MB, 10)
    assert expected_bytes([daily, hourly]) == 1_000 * 30_000 + 10 * 3 * MB
    assert expected_bytes([Sizes(SAMPLE - 1, 10**12, 10**6), Sizes(0, 0, 10**6)]) == 0


def test_room_is_measured_once_a_disk_also_where_folders_are_links_or_not_made_yet(
    tmp_path: Path, other_disk: Path
) -> None:
    """S7: each dataset may lie on a disk of its own."""
    (tmp_path / "data/daily").mkdir(parents=True)
    (tmp_path / "data/hourly").symlink_to(other_disk)
    rooms = rooms_at([*places_of(tmp_path), tmp_path / "data/hourly/not/yet"])
    assert [each.place for each in rooms] == [tmp_path, tmp_path / "data/hourly"]
    assert all(each.free_bytes > 0 for each in rooms)


def path_of(dataset: str, year: int) -> str:
    folder = f"data/{dataset}/dataset-version-202407/devon/01381_twist/qc-version-1"
    return f"{folder}/midas-open_{dataset}_dv-202407_devon_01381_twist_qcv-1_{1990 + year}.csv"


def test_the_ledger_tells_sizes_by_dataset_and_kind_and_counts_a_content_once(
    ledger: Ledger, load: Callable[..., Any]
) -> None:
    """S7: a content with many paths needs its room once."""
    load(*(f"{number:032x}  {path_of('uk-daily-rain-obs', number)}" for number in range(1, 5)))
    load(*(f"{9:032x}  {path_of('uk-hourly-weather-obs', number)}" for number in range(3)))
    with ledger.write() as connection:
        connection.exec_driver_sql(
            "UPDATE task SET state = 'done', size_bytes = 100 * id, claim_no = 1, first_claimed_at = 1, "
            "finished_at = 1 WHERE id <= 3"
        )
    assert sorted(map(repr, Overview(ledger).sizes())) == sorted(
        map(repr, [Sizes(3, 600, 1), Sizes(0, 0, 1)])
    )
