"""The lines that nearly every manifest is made of, many at a time: data files in the archive's usual spelling.

One expression takes a piece of a manifest apart, and what a folder says is read once for all files in it. What is
known here is known as `parse_line` does; every other line is handed over untouched, for `parse_line` to judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

from midasdl.models import FileInfo, Kind, Reject

_SLUG = "[a-z0-9-]{1,64}"
"""So short that no name can be longer than file systems allow."""

_LINES = re.compile(
    r"([0-9a-f]{32})  (?:\./)?"
    r"((data/[a-z0-9-]++/dataset-version-[0-9]{6}/[a-z0-9-]++/[a-z0-9_-]++/qc-version-[01]/)"
    r"((midas-open_[a-z0-9_-]+_)([0-9]{4})\.csv))\r?\n"
    r"|([^\n]*\n|[^\n]+)"
)
_EACH_LINE = re.compile(rb"[^\n]*\n|[^\n]+")

# slugs hold neither dots nor slashes nor underscores
_FOLDER = re.compile(
    rf"data/({_SLUG})/dataset-version-([0-9]{{6}})/({_SLUG})/([0-9]{{5}})_({_SLUG})/qc-version-([01])/"
)
_YEARS = {f"{number:04d}": number for number in range(10_000)}
FOLDERS_REMEMBERED = 64
"""The lines of a folder follow each other."""

_as_file = partial(tuple.__new__, FileInfo)


class _Folder(NamedTuple):
    """What a folder says of the files in it, and how all their names begin."""

    stem: str
    dataset: str
    release: str
    qc_version: int
    county: str
    station_id: str
    station_name: str


@lru_cache(FOLDERS_REMEMBERED)
def _said_by(folder: str) -> _Folder | None:
    known = _FOLDER.fullmatch(folder)
    if known is None:
        return None
    dataset, release, county, station_id, name, qc = known.groups()
    stem = f"midas-open_{dataset}_dv-{release}_{county}_{station_id}_{name}_qcv-{qc}_"
    return _Folder(stem, dataset, release, int(qc), county, station_id, name)


def entries_of(
    piece: bytes, first_no: int, parse: Callable[[bytes, int], FileInfo | Reject | None]
) -> list[FileInfo | Reject | None]:
    """Understand whole lines.

    Parameters
    ----------
    piece : bytes
        Lines; only the last may lack its end.
    first_no : int
        Number of the first.
    parse : callable
        What `parse_line` does, for lines in other spellings.

    Returns
    -------
    list of FileInfo or Reject or None
        One a line, in their order.
    """
    kind, year_of, entries = Kind.DATA, _YEARS, []
    lines = _LINES.findall(piece.decode("latin-1"))
    for no, (md5, path, folder, file, stem, year, other) in enumerate(lines, first_no):
        if other:
            entries.append(parse(other.encode("latin-1"), no))
            continue
        said = _said_by(folder)
        if said is None or said[0] != stem:
            return [parse(line, no) for no, line in enumerate(_EACH_LINE.findall(piece), first_no)]
        _, dataset, release, qc, county, station_id, name = said
        entries.append(
            _as_file(
                (md5, path, file, dataset, release, qc, county, station_id, name, year_of[year], kind, no)
            )
        )
    return entries
