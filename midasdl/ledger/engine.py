"""Connections to the ledger: pragmas and transactions, and how long its lock is waited for.

Each process opens its own engine after it has started; none ever crosses a fork.
"""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, QueuePool

from midasdl.clock import Clock
from midasdl.errors import LedgerBusyError, LedgerError
from midasdl.ledger.library import (
    WAL_IS_SAFE_FROM,
    SqliteLibrary,
    file_system_of,
    is_at_rest,
    is_network,
    may_be_written,
)
from midasdl.ledger.sqlite_errors import LOCKED, code_of, translate

Answer = TypeVar("Answer")

READ_ONLY = "midasdl_read_only"

LOCK_PATIENCE_S = 120.0
"""Longer than the longest transaction of midasdl, the merge of a large manifest, takes."""

LOCK_NAP_S = (0.0005, 0.008)
"""Random naps between two tries for the write lock. SQLite's own busy handler lets some of eight writers wait for
seconds; short random naps serve all of them alike."""

TELL_AFTER_S = 3.0
"""Whoever waits for the lock for longer says so."""

TELL_AGAIN_AFTER_S = 60.0

HURRY_S = 2.0
"""After the wish to stop, all waits for the lock together get no more than this."""

LONGEST_LOG_BYTES = 64 * 1024 * 1024
"""The write-ahead log is cut back to this once no reader needs what is in it."""

ONE_KEPT: dict[str, Any] = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": -1}

STEPS_BETWEEN_SIGNALS = 500_000
"""Steps of SQLite's machine: some hundredths of a second."""


class Patience:
    """How long the ledger's lock is waited for, and who hears of it.

    Parameters
    ----------
    clock : Clock
    tell : callable
        Takes one sentence, when the lock has been waited for for a while.

    Notes
    -----
    Concurrency: any thread may wait; `hurry` may be called from any thread and from signal handlers.
    """

    def __init__(self, clock: Clock, tell: Callable[[str], None] = lambda _: None) -> None:
        self._clock = clock
        self._tell = tell
        self._hurry_until_s: float | None = None
        self._told_s: float | None = None
        self._meanwhile: dict[int, Callable[[], None]] = {}

    def hurry(self) -> None:
        """From now on wait for no more than a moment, all waits together."""
        if self._hurry_until_s is None:
            self._hurry_until_s = self._clock.monotonic() + HURRY_S

    @contextmanager
    def meanwhile(self, act: Callable[[], None]) -> Iterator[None]:
        """While this thread waits for the lock within the block, `act` between two tries; it must not want the lock."""
        me = threading.get_ident()
        self._meanwhile[me] = act
        try:
            yield
        finally:
            del self._meanwhile[me]

    def wait_for(self, attempt: Callable[[], Answer]) -> Answer:
        """Try what needs a lock, with short random naps, until it is there; what it gives.

        Raises
        ------
        LedgerBusyError
            When another program has kept the lock for `LOCK_PATIENCE_S`.
        """
        started_s: float | None = None
        while True:
            try:
                return attempt()
            except Exception as error:
                if code_of(getattr(error, "orig", None) or error) not in LOCKED:
                    raise
                now_s = self._clock.monotonic()
                started_s = now_s if started_s is None else started_s
                if now_s > self._ends_s(started_s):
                    raise LedgerBusyError(
                        f"Another program has kept the ledger locked for {now_s - started_s:.0f} s.",
                        "Close the program that writes to it (an open sqlite3 shell with a transaction?), then "
                        "type: midasdl resume",
                    ) from error
                self._say_so(now_s, now_s - started_s)
            if (act := self._meanwhile.get(threading.get_ident())) is not None:
                act()
            self._clock.nap(random.uniform(*LOCK_NAP_S))  # noqa: S311 - spreads processes, guards nothing

    def _ends_s(self, started_s: float) -> float:
        longest_s = started_s + LOCK_PATIENCE_S
        return longest_s if self._hurry_until_s is None else min(longest_s, self._hurry_until_s)

    def _say_so(self, now_s: float, waited_s: float) -> None:
        told_lately = self._told_s is not None and now_s - self._told_s < TELL_AGAIN_AFTER_S
        if waited_s < TELL_AFTER_S or told_lately:
            return
        self._told_s = now_s
        self._tell(
            f"Another program keeps the ledger locked; waiting for it, for up to {LOCK_PATIENCE_S:.0f} s. An open "
            "sqlite3 shell with a transaction is a usual cause."
        )


def connector(
    path: Path,
    library: SqliteLibrary,
    patience: Patience,
    *,
    read_only: bool = False,
    foreign_keys: bool = True,
    durable: bool = True,
) -> Callable[[], Any]:
    """What opens a connection of the database module, ready for use.

    Parameters
    ----------
    path : Path
        The ledger's file, which must exist.
    read_only : bool
        Open the file so that nothing can be written.
    foreign_keys : bool
        False only while tables are rebuilt: dropping the old one would take with it whatever points there.
    durable : bool
        False only for a file that nobody knows yet: a crash of the system may spoil it.
    """

    def connect() -> Any:
        uri = f"{path.absolute().as_uri()}?mode={_opening(path, read_only=read_only)}"
        dbapi = library.module.connect(
            uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False
        )
        try:
            dbapi.set_progress_handler(_let_signals_in, STEPS_BETWEEN_SIGNALS)
            if read_only:
                dbapi.set_authorizer(_no_other_files)
            mode_is_safe = read_only or library.wal_is_safe
            set_pragmas(dbapi, path, patience, foreign_keys=foreign_keys, wal_is_safe=mode_is_safe)
            if not durable:
                _hurry(dbapi)
        except BaseException:
            dbapi.close()
            raise
        return dbapi

    return connect


def create_sqlite_engine(
    connect: Callable[[], Any], library: SqliteLibrary, patience: Patience, *, keep: bool = True
) -> Engine:
    """An engine whose transactions begin IMMEDIATE, or as plain readers with the `READ_ONLY` execution option.

    Parameters
    ----------
    connect : callable
        What a `connector` is.
    keep : bool
        Keep a connection for the next block.

    Notes
    -----
    Concurrency: one connection is kept; a second thread, or a block inside another, gets one of its own.
    """
    engine = create_engine(
        "sqlite+pysqlite://",
        module=library.module,
        creator=connect,
        query_cache_size=200,
        **(ONE_KEPT if keep else {"poolclass": NullPool}),
    )
    event.listen(engine, "begin", lambda connection: _begin(connection, patience))
    event.listen(engine, "commit", lambda connection: _commit(connection, patience))
    return engine


def _hurry(dbapi: Any) -> None:
    """For a file that nobody knows yet, and whose rows this program alone writes."""
    dbapi.execute("PRAGMA synchronous = OFF")
    dbapi.execute("PRAGMA ignore_check_constraints = ON")


def _opening(path: Path, *, read_only: bool) -> str:
    """How SQLite is to open the file.

    Where a reader may not make the files that WAL needs, and nobody else has made them, it reads what is there.
    """
    if not read_only:
        return "rw"
    return "ro" if may_be_written(path) or not is_at_rest(path) else "ro&immutable=1"


def _let_signals_in() -> None:
    """A progress handler that does nothing.

    Python hears of Ctrl-C only between its own instructions; what is raised here ends the statement with
    SQLITE_INTERRUPT.
    """


def _no_other_files(action: int, *_: object) -> int:
    """An authorizer: a reader may neither attach another file nor make one (``VACUUM INTO`` attaches it)."""
    return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_ATTACH else sqlite3.SQLITE_OK


def set_pragmas(
    dbapi: Any, path: Path, patience: Patience, *, foreign_keys: bool = True, wal_is_safe: bool = True
) -> None:
    """Read the journal mode, then set what suits it; the mode itself is never changed here.

    Parameters
    ----------
    wal_is_safe : bool
        Whether this connection may write in WAL mode.

    Raises
    ------
    LedgerBusyError
    LedgerError
        When a ledger in WAL mode lies on a network file system, or would be written by a library that is too old.
    """
    try:
        mode = _journal_mode(dbapi, patience)
        if mode == "wal":
            _require_a_place_for_wal(path)
            if not wal_is_safe:
                raise _too_old_for_wal(path)
        dbapi.execute(f"PRAGMA synchronous = {'NORMAL' if mode == 'wal' else 'FULL'}")
        dbapi.execute("PRAGMA busy_timeout = 0")
        dbapi.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
        dbapi.execute(f"PRAGMA journal_size_limit = {LONGEST_LOG_BYTES}")
    except Exception as error:
        translated = translate(error, path)
        if translated is None:
            raise
        raise translated from error


def _journal_mode(dbapi: Any, patience: Patience) -> str:
    """Even to read it takes a reader's lock."""
    rows = patience.wait_for(lambda: dbapi.execute("PRAGMA journal_mode").fetchall())
    return str(rows[0][0])


def _require_a_place_for_wal(path: Path) -> None:
    if is_network(file_system := file_system_of(path)):
        raise LedgerError(
            f"The ledger {path} was made for a local disk (WAL) and now lies on a network file system "
            f"({file_system}), where it could be corrupted.",
            "Move it back to a local disk, or make a new one there with: midasdl --ledger PATH init MANIFEST",
        )


def _too_old_for_wal(path: Path) -> LedgerError:
    oldest = ".".join(str(part) for part in WAL_IS_SAFE_FROM)
    return LedgerError(
        f"The ledger {path} was made with a newer SQLite (WAL); with one older than {oldest} several processes could "
        "corrupt it.",
        "Install a newer one with: pip install pysqlite3 - or, while nobody uses the ledger, give it the slower "
        f"journal: sqlite3 {path} 'PRAGMA journal_mode = delete'",
    )


def _begin(connection: Connection, patience: Patience) -> None:
    """Take the write lock, or a reader's view.

    Raises
    ------
    LedgerBusyError
    """

    def take() -> None:
        if not connection.get_execution_options().get(READ_ONLY, False):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            return
        connection.exec_driver_sql("BEGIN")
        try:
            connection.exec_driver_sql("SELECT 1 FROM sqlite_schema LIMIT 1").all()
        except DBAPIError:
            connection.exec_driver_sql("ROLLBACK")
            raise

    patience.wait_for(take)


def _commit(connection: Connection, patience: Patience) -> None:
    """With the rollback journal a commit waits for readers; what was tried in vain may be tried again."""
    dbapi = connection.connection.dbapi_connection
    assert dbapi is not None  # noqa: S101 - it has a transaction
    patience.wait_for(dbapi.commit)
