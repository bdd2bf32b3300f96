"""The file of a ledger, before SQLite touches it: whether it can be one, and which one it is."""

from __future__ import annotations

from pathlib import Path

from midasdl.errors import LedgerError, LedgerMissingError, NotALedgerError
from midasdl.ledger.schema import APPLICATION_ID

SQLITE_MAGIC = b"SQLite format 3\x00"
SQLITE_HEADER_BYTES = 100
APPLICATION_ID_AT = slice(68, 72)


def require_ledger_file(path: Path) -> bool:
    """Refuse what cannot be a ledger, before SQLite touches it.

    Returns
    -------
    bool
        Whether the file is marked as midasdl's. A ledger whose process was killed early need not be.

    Raises
    ------
    LedgerMissingError
        There is no such file, or it is empty.
    NotALedgerError
        It is a folder, a device, or not an SQLite database.
    """
    if not has_content(path):
        raise missing_ledger(path)
    try:
        with path.open("rb") as file:
            head = file.read(SQLITE_HEADER_BYTES)
    except OSError as error:
        raise file_error(path, error) from error
    if not head.startswith(SQLITE_MAGIC):
        raise NotALedgerError(
            f"{path} is not a ledger: it is not an SQLite database.", "Name another file with --ledger."
        )
    return head[APPLICATION_ID_AT] == APPLICATION_ID.to_bytes(4, "big")


def has_content(path: Path) -> bool:
    """Whether there is a file with anything in it; what is there must be a file."""
    try:
        if path.is_dir():
            raise NotALedgerError(f"{path} is a folder, not a ledger.", "Name a file with --ledger.")
        if path.exists() and not path.is_file():
            raise NotALedgerError(f"{path} is not a file.", "Name a file with --ledger.")
        return path.exists() and path.stat().st_size > 0
    except OSError as error:
        raise file_error(path, error) from error


def missing_ledger(path: Path) -> LedgerMissingError:
    """That nothing is there, and what makes it."""
    return LedgerMissingError(
        f"There is no ledger {path}.", "Make one with: midasdl init MANIFEST (or name another with --ledger)"
    )


def file_error(path: Path, error: OSError) -> LedgerError:
    """What the system's refusal means."""
    return LedgerError(
        f"The ledger {path} cannot be used: {error.strerror}.",
        "Check its folder's permissions, or choose another place with --ledger.",
    )


def file_at(path: Path) -> tuple[int, int] | None:
    """Which file stands at a path, or None if there is none."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino
