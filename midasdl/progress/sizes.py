"""How many bytes are still to come: manifests have no sizes, so they are estimated, better with each file.

Files of one dataset and kind are like each other. What has come of them, in earlier runs too, says what the others
will be like; before anything has come, what MIDAS Open's files usually are says it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from midasdl.manifest.line import parse_path
from midasdl.models import Kind

USUAL_BYTES: dict[str, int] = {
    "uk-daily-rain-obs": 55_000,
    "uk-daily-temperature-obs": 32_000,
    "uk-daily-weather-obs": 92_000,
    "uk-soil-temperature-obs": 42_000,
    "uk-hourly-rain-obs": 261_000,
    "uk-mean-wind-obs": 750_000,
    "uk-radiation-obs": 789_000,
    "uk-hourly-weather-obs": 2_500_000,
}
"""Of one station's year."""

USUAL_OF_KIND: dict[str, int] = {
    Kind.CAPABILITY: 2_000,
    Kind.STATION_METADATA: 60_000,
    Kind.CHANGE_LOG: 20_000,
    Kind.STATION_LOG: 2_000,
}
USUAL_BYTES_ELSEWHERE = 100_000

TRUST_IN_USUAL = 5
"""What is usual counts as much as so many files that have come."""

ENOUGH = 30
"""So many files of a kind tell what the others will be like."""

UNLIKE = 3.0
"""Where all that has come is so many times larger or smaller than usual, this archive is another one: what has come
tells more about the rest than what is usual."""

MOST_GROUPS = 200
"""MIDAS Open has about forty; what a strange manifest has beyond goes into one."""

MOST_FOLDERS = 4_096
"""Of whose data files the dataset is remembered; files come folder by folder."""

_OTHER = ("", Kind.OTHER.value)

Key = tuple[str, str]
"""Dataset and kind."""


@dataclass(frozen=True, slots=True)
class Group:
    """What is known of contents that are like each other.

    Attributes
    ----------
    dataset : str
        Empty where there is none.
    kind : str
    done, bytes_done : int
        Contents that are on disk, and their size.
    unfinished : int
        Contents still to come.
    """

    dataset: str
    kind: str
    done: int
    bytes_done: int
    unfinished: int


@dataclass(slots=True)
class _Known:
    done: int = 0
    bytes_done: int = 0
    unfinished: int = 0


class SizeBook:
    """What is known of sizes, by dataset and kind.

    Notes
    -----
    Memory is the same for a hundred files and for millions.
    """

    def __init__(self, groups: Iterable[Group] = ()) -> None:
        self._known: dict[Key, _Known] = {}
        self._folders: dict[tuple[str, str], Key] = {}
        for group in groups:
            known = self._of((group.dataset, group.kind))
            known.done += group.done
            known.bytes_done += group.bytes_done
            known.unfinished += group.unfinished

    def came(self, path: str, size_bytes: int) -> None:
        """A content has come, or was on disk."""
        known = self._of(self._key_of(path))
        known.done += 1
        known.bytes_done += size_bytes
        known.unfinished = max(0, known.unfinished - 1)

    def failed(self, path: str) -> None:
        """A content will not come."""
        known = self._of(self._key_of(path))
        known.unfinished = max(0, known.unfinished - 1)

    def expected_bytes(self, tasks: int) -> float:
        """The size of `tasks` contents that are still to come, mixed like those that the book expects."""
        unfinished = sum(known.unfinished for known in self._known.values())
        if not unfinished:
            return 0.0 if tasks == 0 else tasks * self._mean_of_all()
        return sum(self._expected_by_group()) * tasks / unfinished

    def guessed_share(self) -> float:
        """The share of the bytes still to come that rests on what is usual, or on very few files."""
        expected = self._expected_by_group()
        total = sum(expected)
        groups = zip(self._known.values(), expected, strict=True)
        guessed = sum(size for known, size in groups if known.done < ENOUGH)
        return guessed / total if total else 0.0

    def _key_of(self, path: str) -> Key:
        """Of the second data file in a folder and the further ones, without taking its name apart."""
        folder, _, name = path.rpartition("/")
        alike = folder, name[-4:]
        key = self._folders.get(alike)
        if key is None:
            key = key_of(path)
            if len(self._folders) >= MOST_FOLDERS:
                self._folders.clear()
            if key[1] == Kind.DATA:
                self._folders[alike] = key
        return key

    def _of(self, key: Key) -> _Known:
        if key not in self._known and len(self._known) >= MOST_GROUPS:
            key = _OTHER
        return self._known.setdefault(key, _Known())

    def _expected_by_group(self) -> list[float]:
        scale = self._scale()
        return [known.unfinished * mean_bytes(key, known, scale) for key, known in self._known.items()]

    def _scale(self) -> float:
        """How large this archive's files are compared with the usual ones, where they are quite unlike."""
        came = sum(known.bytes_done for known in self._known.values())
        usual = sum(known.done * usual_bytes(key) for key, known in self._known.items())
        files = sum(known.done for known in self._known.values())
        if files < ENOUGH or came == 0:
            return 1.0
        scale = came / usual
        return 1.0 if 1 / UNLIKE <= scale <= UNLIKE else scale

    def _mean_of_all(self) -> float:
        files = sum(known.done for known in self._known.values())
        came = sum(known.bytes_done for known in self._known.values())
        return came / files if files else float(USUAL_BYTES_ELSEWHERE)


def mean_bytes(key: Key, known: _Known, scale: float) -> float:
    """What one more content of a group will be like: between what is usual and what has come."""
    usual = usual_bytes(key) * scale
    return (usual * TRUST_IN_USUAL + known.bytes_done) / (TRUST_IN_USUAL + known.done)


def usual_bytes(key: Key) -> int:
    """The size of a file of MIDAS Open, before any has come."""
    dataset, kind = key
    if kind == Kind.DATA:
        return USUAL_BYTES.get(dataset, USUAL_BYTES_ELSEWHERE)
    return USUAL_OF_KIND.get(kind, USUAL_BYTES_ELSEWHERE)


def key_of(path: str) -> Key:
    """Dataset and kind of a path, as the ledger has them."""
    info = parse_path(path)
    return _OTHER if info is None else (info.dataset or "", str(info.kind))
