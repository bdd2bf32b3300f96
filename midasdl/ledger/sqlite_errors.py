"""What SQLite's errors mean for the person who typed the command."""

from __future__ import annotations

import glob
import os
import shutil
from pathlib import Path
from types import TracebackType

from sqlalchemy.exc import DBAPIError

from midasdl.errors import LedgerBusyError, LedgerError, NotALedgerError, StorageError
from midasdl.ledger.library import SqliteLibrary

SQLITE_PERM, SQLITE_BUSY, SQLITE_LOCKED, SQLITE_READONLY, SQLITE_INTERRUPT, SQLITE_IOERR = 3, 5, 6, 8, 9, 10
SQLITE_CORRUPT, SQLITE_FULL, SQLITE_CANTOPEN, SQLITE_PROTOCOL, SQLITE_NOTADB = 11, 13, 14, 15, 26

NO_TEXT = "Could not decode to UTF-8"
"""What the DB-API modules say, without a code, of a text whose bytes were damaged."""

WAL_INDEX_BYTES = 32_768

LOCKED = frozenset({SQLITE_BUSY, SQLITE_LOCKED, SQLITE_PROTOCOL})
"""Somebody else is at it; PROTOCOL is a lost race for the locks of a WAL that is being set up."""


class Translated:
    """The one place where database errors become ours; a block of a ledger in the process that opened it."""

    def __init__(self, path: Path, library: SqliteLibrary) -> None:
        self._path = path
        self._opened_by = os.getpid()
        self._foreign = (DBAPIError, library.module.Error, UnicodeDecodeError)

    def __enter__(self) -> None:
        if os.getpid() != self._opened_by:
            raise LedgerError(
                f"The ledger {self._path} was opened before this process was forked off; SQLite forbids its use here.",
                "Open it anew in the new process.",
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or not isinstance(error, self._foreign):
            return
        if is_interrupted(error):
            raise KeyboardInterrupt from error
        translated = translate(error, self._path)
        if translated is not None:
            raise translated from error


def is_interrupted(error: BaseException) -> bool:
    """Whether a statement was ended by Ctrl-C."""
    return code_of(getattr(error, "orig", None) or error) == SQLITE_INTERRUPT


def translate(error: BaseException, path: Path) -> LedgerError | StorageError | None:
    """What a database error means for the person who typed the command, or None if it is not one of those.

    Parameters
    ----------
    error : BaseException
        From SQLAlchemy or from the DB-API module.
    """
    code = code_of(getattr(error, "orig", None) or error)
    if code == SQLITE_READONLY and path.with_name(f"{path.name}-journal").exists():
        return LedgerError(  # a journal has to be played back, which a reader may not do
            f"A program was killed while it wrote to the ledger {path}.",
            "Let what it left be undone, by typing: midasdl status",
        )
    if code == SQLITE_NOTADB:
        return NotALedgerError(
            f"{path} is not a ledger, or its beginning is damaged ({_first_line(error)}).",
            f"Name another file with --ledger. {way_back(path)}",
        )
    if code == SQLITE_CORRUPT or (code is None and _is_no_text(error)):
        return NotALedgerError(f"The ledger {path} is damaged ({_first_line(error)}).", way_back(path))
    if code == SQLITE_FULL or (code == SQLITE_IOERR and _is_full(path)):
        return StorageError(
            f"The disk that holds the ledger {path} is full.", "Make space, then type: midasdl resume"
        )
    if code == SQLITE_IOERR:
        return LedgerError(
            f"The disk that holds the ledger {path} fails, or is full ({_first_line(error)}).",
            "Look at the disk and at the system's log, then type: midasdl doctor",
        )
    if code in {SQLITE_PERM, SQLITE_READONLY, SQLITE_CANTOPEN}:
        return LedgerError(
            f"The ledger {path} cannot be opened, or not for writing ({_first_line(error)}).",
            f"Check the owner and mode of its folder, and of {path.name}, {path.name}-wal and {path.name}-shm, or "
            "choose another place with --ledger.",
        )
    if code in LOCKED:
        return LedgerBusyError(f"Another program keeps the ledger {path} locked.", "Close it and try again.")
    return None


def way_back(path: Path) -> str:
    """How to go on without a ledger that is damaged or gone: the files are the truth, and they are still there."""
    backups = sorted(path.parent.glob(f"{glob.escape(path.name)}.backup-*[!t]"))
    kept = f" The copy from before the last upgrade is {backups[-1].name}." if backups else ""
    return (
        f"Move it aside with its -wal and -shm, and load the manifest again, with the same --dest: midasdl init "
        f"MANIFEST - then type: midasdl run. What is on disk is found by its md5 and not fetched again.{kept}"
    )


def _is_full(path: Path) -> bool:
    """Whether the disk has no room for the index of the log, which SQLite tells like any other trouble."""
    try:
        return shutil.disk_usage(path.parent).free < WAL_INDEX_BYTES
    except OSError:
        return False


def _is_no_text(error: BaseException) -> bool:
    """Whether bytes were to be a text and are none: in a row, or in what SQLite says of a spoilt schema."""
    return isinstance(error, UnicodeDecodeError) or NO_TEXT in str(error)


def code_of(error: BaseException | None) -> int | None:
    """SQLite's primary result code, without the extension in the upper bytes."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def _first_line(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).partition("\n")[0]
