"""The lines that nearly every manifest is made of, many at a time: data files in the archive's usual spelling.

One expression takes a piece of a manifest apart. What it knows it knows as `parse_line` does; every other line it
hands over untouched, for `parse_line` to judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial

from midasdl.models import FileInfo, Kind, Reject

_SLUG = "[a-z0-9-]{1,64}"
"""So short that no name can be longer than file systems allow."""

# slugs hold neither dots nor slashes nor underscores, and the name repeats what the folders say
_LINES = (
    r"([0-9a-f]{32})  (?:\./)?"
    rf"(data/({_SLUG})/dataset-version-([0-9]{{6}})/({_SLUG})/([0-9]{{5}})_({_SLUG})/qc-version-([01])/"
    r"(midas-open_\3_dv-\4_\5_\6_\7_qcv-\8_([0-9]{4})\.csv))\r?\n"
    r"|([^\n]*\n|[^\n]+)"
)
_as_file = partial(tuple.__new__, FileInfo)


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
    number_of, kind = _numbers(), Kind.DATA
    return [
        parse(other.encode("latin-1"), no)
        if other
        else _as_file(
            (md5, path, file, ds, release, number_of[qc], county, id_, name, number_of[year], kind, no)
        )
        for no, (md5, path, ds, release, county, id_, name, qc, file, year, other) in enumerate(
            _lines().findall(piece.decode("latin-1")), first_no
        )
    ]


@cache
def _lines() -> re.Pattern[str]:
    """Made when a manifest is read: most commands read none."""
    return re.compile(_LINES)


@cache
def _numbers() -> dict[str, int]:
    """Of years and of quality control versions, by their digits."""
    return {f"{number:04d}": number for number in range(10_000)} | {"0": 0, "1": 1}
