"""What each line of a manifest means for a ledger that may hold its path already: pure decisions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from midasdl.models import FileInfo, Reject


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """What a load did. Every line that is neither blank nor a comment is counted in exactly one field but `gone`.

    Attributes
    ----------
    lines : int
        All lines of the manifest, blank ones and comments too.
    rejected : int
        Lines that cannot be used; each is a row of the table ``reject``.
    repeated : int
        Lines that say again what an earlier line said.
    not_selected : int
        Good lines outside the selection.
    added, changed, unchanged : int
        Paths that are new, that have another md5 than before, and that the ledger held just so.
    gone : int
        Paths that the ledger holds and this manifest does not name. They stay.
    """

    lines: int = 0
    rejected: int = 0
    repeated: int = 0
    not_selected: int = 0
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    gone: int = 0

    @property
    def accepted(self) -> int:
        """Paths of this manifest that the ledger now holds."""
        return self.added + self.changed + self.unchanged


@dataclass(frozen=True, slots=True)
class Known:
    """A path that the ledger holds already."""

    destination_id: int
    md5: str


@dataclass(slots=True)
class Batch:
    """What is to be written for some lines of the manifest, with the number of each destination."""

    added: list[tuple[int, FileInfo]] = field(default_factory=list)
    changed: list[tuple[int, FileInfo]] = field(default_factory=list)
    rejected: list[Reject] = field(default_factory=list)
    unchanged: int = 0
    repeated: int = 0


class Seen:
    """Which destinations this manifest has named: one bit each, so that millions stay small in memory."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def __contains__(self, number: int) -> bool:
        byte, bit = divmod(number, 8)
        return byte < len(self._bits) and bool(self._bits[byte] >> bit & 1)

    def add(self, number: int) -> None:
        """Mark `number`."""
        byte, bit = divmod(number, 8)
        if byte >= len(self._bits):
            self._bits.extend(bytes(byte + 4096 - len(self._bits)))
        self._bits[byte] |= 1 << bit


def sort_out(
    entries: Sequence[FileInfo], known: dict[str, Known], seen: Seen, new_ids: Iterator[int]
) -> Batch:
    """Decide what each selected line means for the ledger.

    Parameters
    ----------
    entries : sequence of FileInfo
        Selected lines, in order.
    known : dict of str to Known
        What the ledger holds of their paths; brought up to date.
    seen : Seen
        Destinations that earlier lines of this manifest named; brought up to date.
    new_ids : iterator of int
        Numbers for new destinations.
    """
    batch = Batch()
    for entry in entries:
        held = known.get(entry.path)
        if held is not None and held.destination_id in seen:
            if held.md5 == entry.md5:
                batch.repeated += 1
            else:
                batch.rejected.append(contradiction(entry.line_no, entry.md5, entry.path))
            continue
        number = next(new_ids) if held is None else held.destination_id
        if held is None:
            batch.added.append((number, entry))
        elif held.md5 == entry.md5:
            batch.unchanged += 1
        else:
            batch.changed.append((number, entry))
        known[entry.path] = Known(number, entry.md5)
        seen.add(number)
    return batch


def contradiction(line_no: int, md5: str, path: str) -> Reject:
    """A line whose path an earlier line gave another md5: the earlier one holds."""
    return Reject(line_no, f"{md5}  {path}", "the same path stands on an earlier line with another md5")
