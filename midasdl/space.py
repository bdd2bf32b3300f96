"""How much room the disks have, and whether it is enough: measured here, decided here, before the disk decides."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from midasdl.disk import MAKE_SPACE
from midasdl.errors import StorageError
from midasdl.ledger.overview import Sizes

SAMPLE = 30
"""So many files of a kind tell what the others will be like."""

MARGIN = 2
"""What is still to come may be this many times smaller than what has come lets one expect."""


@dataclass(frozen=True, slots=True)
class Room:
    """What one disk has left.

    Attributes
    ----------
    place : Path
        Where it was measured.
    free_bytes : int
        For users who are not root.
    free_files : int or None
        None where the disk does not count them.
    """

    place: Path
    free_bytes: int
    free_files: int | None


@dataclass(frozen=True, slots=True)
class Need:
    """What shall come.

    Attributes
    ----------
    min_free_bytes : int
        What must be left on each disk at any time; 0 demands nothing at all.
    expected_bytes : int
        As far as the sizes of what is there already tell; 0 where they tell nothing.
    files : int
        How many will be new.
    """

    min_free_bytes: int
    expected_bytes: int = 0
    files: int = 0


def expected_bytes(groups: Iterable[Sizes]) -> int:
    """What is still to come if it is like what has come; groups of which little has come tell nothing."""
    return sum(group.bytes_done * group.unfinished // group.done for group in groups if group.done >= SAMPLE)


def lack_of_room(rooms: Sequence[Room], need: Need, others: Sequence[Room] = ()) -> str | None:
    """Why there is surely not enough room, or None where there may be.

    Parameters
    ----------
    rooms : sequence of Room
        Of all disks to which files come.
    others : sequence of Room
        Of disks to which none come, and that must not be full all the same.
    """
    least = need.min_free_bytes
    if least == 0:
        return None
    for room in [*rooms, *others]:
        if room.free_bytes < least:
            return (
                f"Only {in_words(room.free_bytes)} are free in {room.place}, and {in_words(least)} must stay free "
                "(storage.min_free_bytes)."
            )
    if not rooms:
        return None
    where, free = rooms[0].place, sum(room.free_bytes for room in rooms)
    if need.expected_bytes > MARGIN * (free - least):
        return (
            f"About {in_words(need.expected_bytes)} are still to come, as far as can be told by what is there, and "
            f"only {in_words(free)} are free in {where}."
        )
    files = [room.free_files for room in rooms if room.free_files is not None]
    if len(files) == len(rooms) and sum(files) < need.files:
        return f"{need.files:,} files are still to come, and {where} has room for {sum(files):,} (inodes)."
    return None


def refuse_if(lack: str | None) -> None:
    """Say that there is not enough room.

    Raises
    ------
    StorageError
    """
    if lack is not None:
        raise StorageError(lack, MAKE_SPACE)


def places_of(root: Path) -> list[Path]:
    """Where files come to below a data root, as far as links to other disks are usual."""
    data = root / "data"
    return [root, data, *(sorted(data.iterdir()) if data.is_dir() else [])]


def rooms_at(places: Iterable[Path]) -> list[Room]:
    """The room of each disk on which some places are or will be; disks that cannot tell are left out."""
    rooms: dict[int, Room] = {}
    for place in places:
        try:
            there = next(each for each in [place, *place.parents] if each.exists())
            disk = there.stat().st_dev
            facts = os.statvfs(there)
        except (OSError, AttributeError):  # beyond reach, or a system without this call: writing will tell
            continue
        if facts.f_blocks:
            files = facts.f_favail if facts.f_files else None
            rooms.setdefault(disk, Room(there, facts.f_bavail * facts.f_frsize, files))
    return list(rooms.values())


def free_bytes(place: str | Path) -> int:
    """What the disk of a place that is there has left; -1 where nobody can tell."""
    try:
        facts = os.statvfs(place)
    except (OSError, AttributeError):
        return -1
    return facts.f_bavail * facts.f_frsize


def in_words(count: int) -> str:
    """Bytes as a person reads them."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
