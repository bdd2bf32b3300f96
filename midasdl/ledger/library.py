"""Which SQLite serves the ledger, and which journal suits it where the file lies.

SQLite before 3.51.3 can corrupt a database in WAL mode when several processes write and checkpoint, which is just
what a run does (https://sqlite.org/wal.html, "the WAL-reset bug"). Network file systems do not share the memory
that WAL needs. In both cases the rollback journal is slower and safe.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import psutil

WAL_IS_SAFE_FROM = (3, 51, 3)

ALL_IS_KNOWN_FROM = (3, 35, 0)
"""Knows every kind of statement that midasdl sends."""

_ON_SEVERAL_HOSTS = """
    9p acfs afpfs afs beegfs ceph cifs coda cvmfs davfs drvfs fhgfs gfs gfs2 glusterfs gpfs lustre ncpfs nfs nfs3
    nfs4 ocfs2 orangefs panfs prl_fs pvfs2 quobyte smb smb2 smb3 smbfs vboxsf virtiofs vmhgfs webdav wekafs
"""
NETWORK_FILE_SYSTEMS = frozenset(_ON_SEVERAL_HOSTS.split())
"""Types as the system lists them; drvfs and 9p are Windows folders seen from WSL, the likes of vboxsf folders of
the host seen from a virtual machine."""

SERVED_BY_A_PROGRAM = "fuse."
"""What such a program (sshfs, s3fs, gcsfuse, quobyte, ...) does behind the mount nobody can tell from its type."""


@dataclass(frozen=True)
class SqliteLibrary:
    """An SQLite that this Python can use.

    Attributes
    ----------
    module : ModuleType
        The DB-API module (PEP 249).
    """

    module: ModuleType

    @property
    def version(self) -> str:
        """Such as ``3.53.4``."""
        return str(self.module.sqlite_version)

    @property
    def name(self) -> str:
        """``pysqlite3`` or ``sqlite3``."""
        return self.module.__name__.partition(".")[0]

    @property
    def wal_is_safe(self) -> bool:
        """Whether it has the fix for the WAL-reset bug."""
        return self.number >= WAL_IS_SAFE_FROM

    @property
    def number(self) -> tuple[int, ...]:
        """The version, to be compared."""
        return tuple(int(part) for part in self.version.split("."))


def best_library() -> SqliteLibrary:
    """Python's own SQLite if it is new enough, else that of the `pysqlite3` wheel if it is newer."""
    own = SqliteLibrary(sqlite3)
    if own.wal_is_safe:
        return own
    try:
        from pysqlite3 import dbapi2  # noqa: PLC0415 - a wheel that some platforms lack
    except ImportError:
        return own
    wheel = SqliteLibrary(dbapi2)
    return wheel if wheel.wal_is_safe else own


def sorting_library() -> SqliteLibrary:
    """An SQLite that sorts on disk what does not fit into memory, for a file that no other process has open.

    The `pysqlite3` wheels are built to keep all that is temporary in memory. Where nobody else writes, any version's
    rollback journal is safe.
    """
    own = SqliteLibrary(sqlite3)
    with closing(sqlite3.connect(":memory:")) as database:
        in_memory = database.execute("SELECT sqlite_compileoption_used('TEMP_STORE=3')").fetchone()[0]
    return best_library() if in_memory or own.number < ALL_IS_KNOWN_FROM else own


def file_system_of(path: Path) -> str:
    """The type of the file system that holds `path` (or will), such as ``ext4``; ``unknown`` if it is not listed."""
    try:
        absolute = path.expanduser().resolve()
    except (OSError, RuntimeError):  # links in a circle: opening the file will tell
        return "unknown"
    nearest, file_system = -1, ""
    for part in psutil.disk_partitions(all=True):
        depth = len(Path(part.mountpoint).parts)
        # of two at one place the later lies on top, as a network file system does on its autofs
        if depth >= nearest and absolute.is_relative_to(part.mountpoint):
            nearest, file_system = depth, part.fstype
    return file_system or "unknown"


def is_network(file_system: str) -> bool:
    """Whether a file system of this type is, or may be, shared between hosts."""
    return file_system.lower() in NETWORK_FILE_SYSTEMS or file_system.lower().startswith(SERVED_BY_A_PROGRAM)


def may_be_written(path: Path) -> bool:
    """Whether this user may write a ledger and the files that SQLite makes beside it."""
    beside = [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]
    effective = os.access in os.supports_effective_ids
    there = [path, path.parent, *filter(Path.exists, beside)]
    return all(os.access(each, os.W_OK, effective_ids=effective) for each in there)


def is_at_rest(path: Path) -> bool:
    """Whether a ledger is all in one file, as it is when the last program that used it closed it."""
    log = path.with_name(f"{path.name}-wal")
    return not log.exists() or log.stat().st_size == 0


def journal_for(library: SqliteLibrary, file_system: str) -> str:
    """The journal mode in which a new ledger is made: ``wal`` where it is safe, else ``delete``."""
    return "wal" if library.wal_is_safe and not is_network(file_system) else "delete"
