"""What a file on disk holds: its md5, or why it cannot be told, and whether it is a web page in disguise."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from midasdl.ceda.classify import classify_beginning
from midasdl.models import ErrorClass

BEGINNING_BYTES = 8_192
"""Enough to know a web page by."""

Mark = tuple[int, int, int, int]
"""Device, inode, size and time of change of a file: others, where it was replaced or written to."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of one file.

    Attributes
    ----------
    md5 : str or None
        None where nothing could be read.
    size_bytes : int or None
    mark : Mark or None
        Of the file that was read; None where there is none.
    page : str or None
        What it is instead of data: "CEDA's login page", "a web page".
    trouble : str or None
        Why a file that is there could not be read.
    """

    md5: str | None = None
    size_bytes: int | None = None
    mark: Mark | None = None
    page: str | None = None
    trouble: str | None = None


def look_at_all(paths: Sequence[str]) -> list[Look]:
    """Look at some files, one after the other."""
    return [look_at(Path(path)) for path in paths]


def look_at(path: Path) -> Look:
    """Read a file and say what it holds; never raises because of the file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return Look(mark=mark_of(path), trouble="it is not a regular file")
        with path.open("rb") as file:
            mark = _mark(os.fstat(file.fileno()))
            beginning = file.read(BEGINNING_BYTES)
            file.seek(0)
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
            return Look(digest.hexdigest(), file.tell(), mark, page_in(beginning, path.name))
    except (FileNotFoundError, NotADirectoryError):
        return Look()
    except OSError as error:
        return Look(mark=mark_of(path), trouble=error.strerror or str(error))


def mark_of(path: Path) -> Mark | None:
    """The mark of a file, without reading it; None where there is none."""
    try:
        return _mark(path.stat())
    except OSError:
        return None


def _mark(facts: os.stat_result) -> Mark:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def page_in(beginning: bytes, name: str) -> str | None:
    """Which web page the first bytes of a file show, if they do."""
    verdict = classify_beginning(beginning, "", name, 200)
    if verdict is None:
        return None
    return "CEDA's login page" if verdict.error_class is ErrorClass.AUTHENTICATION else "a web page"


def is_text(name: str) -> bool:
    """Whether a name from a disk is text; no manifest can name what is not."""
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def presentable(path: str) -> str:
    """A name from a disk as it may be printed: what no terminal should get is escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in path
    )
