"""Opening the ledger, its transactions and its settings."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, CursorResult, Engine, Executable, select

from midasdl.clock import Clock, SystemClock
from midasdl.errors import LedgerError, LedgerTooNewError, NotALedgerError
from midasdl.ledger import statements
from midasdl.ledger.brief import Brief
from midasdl.ledger.engine import (
    READ_ONLY,
    Patience,
    connector,
    create_sqlite_engine,
)
from midasdl.ledger.ledger_file import file_at, file_error, has_content, missing_ledger, require_ledger_file
from midasdl.ledger.library import SqliteLibrary, best_library, file_system_of, journal_for
from midasdl.ledger.migrate import bring_up_to_date, revision_of
from midasdl.ledger.schema import HEAD_REVISION, setting
from midasdl.ledger.sqlite_errors import Translated, translate, way_back
from midasdl.ledger.texts import text_of

DATA_ROOT = "data_root"
"""The setting that says where the files belong."""


class Ledger:
    """The open ledger of one process.

    Concurrency: any number of processes may have the same ledger open; each opens its own, after any fork. Threads
    may share a `Ledger`: each `read` or `write` block has a connection to itself; `brief` blocks and looks follow each
    other on one.

    Crash safety: each `write` block is one transaction; a process that dies inside leaves no trace of it.

    Attributes
    ----------
    patience : Patience
        With which its lock is waited for.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        patience: Patience,
        *,
        read_only: bool = False,
        made_at: Path | None = None,
        library: SqliteLibrary | None = None,
    ) -> None:
        self.path = path
        self.clock = clock
        self.patience = patience
        self.library = library or best_library()
        self._opened_by = os.getpid()
        self._stands_at = made_at or path
        self._file = file_at(self._stands_at)
        self._read_only = read_only
        self._connect = connector(
            self._stands_at,
            self.library,
            patience,
            read_only=read_only,
            foreign_keys=made_at is None,
            durable=made_at is None,
        )
        self._translated = Translated(path, self.library)
        self._bare: Any = None
        self._spare: Any = None
        self._one_has_it_bare = threading.Lock()
        self._engine_made: Engine | None = None
        self._one_makes_it = threading.Lock()

    @classmethod
    def open(
        cls,
        path: Path,
        clock: Clock | None = None,
        *,
        read_only: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> Self:
        """Open an existing ledger, after bringing it to this version's schema.

        Parameters
        ----------
        read_only : bool
            Write nothing, not even a migration; older schemas are then refused.
        tell : callable
            Takes one sentence when another program keeps the ledger locked.

        Raises
        ------
        LedgerMissingError, NotALedgerError, LedgerTooNewError, LedgerBusyError, LedgerError
        """
        clock = clock or SystemClock()
        patience = Patience(clock, tell)
        if not require_ledger_file(path) and not read_only:
            cls._refuse_what_is_not_ours(path, clock, patience)
        return cls._opened(path, clock, patience, read_only=read_only)

    @classmethod
    def create(
        cls, path: Path, clock: Clock | None = None, tell: Callable[[str], None] = lambda _: None
    ) -> Self:
        """Open a ledger, making it first if there is none.

        Crash safety: the schema comes in one transaction; an empty file left by a crash is completed.
        """
        if has_content(path):
            return cls.open(path, clock, tell=tell)
        clock = clock or SystemClock()
        patience = Patience(clock, tell)
        _make_empty(path, patience)
        return cls._opened(path, clock, patience, read_only=False)

    @classmethod
    def of_one_process(
        cls, path: Path, made_at: Path, clock: Clock, patience: Patience, library: SqliteLibrary
    ) -> Self:
        """Open the empty file `made_at` as a ledger that nobody else knows and that a crash may spoil.

        Parameters
        ----------
        path : Path
            What messages call it: where it will stand.
        """
        ledger = cls(path, clock, patience, made_at=made_at, library=library)
        return cls._at_head(ledger, read_only=False)

    def close(self) -> None:
        """Let go of the file."""
        if os.getpid() != self._opened_by:
            return
        for kept in filter(None, (self._bare, self._spare)):
            kept.close()
        self._bare = self._spare = None
        if self._engine_made is not None:
            self._engine_made.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One immediate transaction: committed at the end of the block, undone by any exception.

        Raises
        ------
        LedgerError
            Also where the file that was opened is no longer the one at its path: what is written to a file without a
            name is lost.
        """
        with self._translated, self._engine.begin() as connection:
            self._require_same_file()
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view of the ledger, which delays nobody."""
        with self._translated, self._engine.execution_options(**{READ_ONLY: True}).begin() as connection:
            yield connection

    @contextmanager
    def brief(self) -> Iterator[Brief]:
        """The same as `write`, for statements without lists, at a fraction of what it costs.

        Notes
        -----
        Concurrency: blocks of several threads follow each other, and `look` and `glance` wait for them; a block holds
        no other one.
        """
        with self._translated, self._one_has_it_bare:
            bare = self._bare_connection()
            try:
                self.patience.wait_for(partial(bare.execute, "BEGIN IMMEDIATE"))
                self._require_same_file()
                yield Brief(bare)
                self.patience.wait_for(bare.commit)
            except BaseException:
                bare.rollback()
                raise

    def glance(self, statement: Executable, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        """All rows that a statement finds at this moment.

        One statement is a consistent view by itself: the same as in a `read` block, for a tenth of its time. It has
        a connection of its own, which is kept.
        """
        text = text_of(statement)
        row = text.row(values)
        with self._translated, self._one_has_it_bare:
            execute = self._bare_connection().execute
            rows: list[tuple[Any, ...]] = self.patience.wait_for(lambda: execute(text.sql, row).fetchall())
            return rows

    def look(self, statement: Executable, values: dict[str, Any]) -> Any:
        """The first column of the first row that a statement finds at this moment; None if it finds none."""
        rows = self.glance(statement, values)
        return rows[0][0] if rows else None

    def setting(self, name: str) -> str | None:
        """A fact recorded with the ledger, such as ``data_root``."""
        with self.read() as connection:
            value: str | None = connection.execute(
                select(setting.c.value).where(setting.c.name == name)
            ).scalar_one_or_none()
            return value

    def set_setting(self, connection: Connection, name: str, value: str) -> None:
        """Record a fact, inside the caller's transaction."""
        connection.execute(statements.SET_SETTING, {"new_name": name, "new_value": value})

    def journal_mode(self) -> str:
        """``wal`` or ``delete``."""
        with self.read() as connection:
            return str(connection.exec_driver_sql("PRAGMA journal_mode").scalar())

    def damage(self) -> str | None:
        """What SQLite finds wrong with the file, or None; it reads all of it."""
        with self.read() as connection:
            found = str(connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar())
            return None if found == "ok" else found.partition("\n")[2].strip() or found

    @property
    def log_bytes(self) -> int:
        """How much lies in the write-ahead log, beside the ledger."""
        log = self.path.with_name(f"{self.path.name}-wal")
        return log.stat().st_size if log.exists() else 0

    def _bare_connection(self) -> Any:
        """Made when it is first needed, and kept."""
        if self._bare is None:
            self._require_same_file()
            self._bare = self._connect()
        return self._bare

    @property
    def _engine(self) -> Engine:
        """Made when it is first needed; a healthy worker does without."""
        with self._one_makes_it:
            if self._engine_made is None:
                self._engine_made = create_sqlite_engine(
                    self._spare_or_new, self.library, self.patience, keep=not self._read_only
                )
                self._hand_over_the_bare_one()
            return self._engine_made

    def _hand_over_the_bare_one(self) -> None:
        """Let the engine have the connection that there is, unless somebody uses it: nobody waits for that."""
        if self._one_has_it_bare.acquire(blocking=False):
            self._bare, self._spare = None, self._bare
            self._one_has_it_bare.release()

    def _spare_or_new(self) -> Any:
        spare, self._spare = self._spare, None
        return spare or self._connect()

    def _require_same_file(self) -> None:
        if file_at(self._stands_at) != self._file:
            raise LedgerError(
                f"The ledger {self.path} was deleted, moved or replaced while it was in use.",
                f"Put it back and type: midasdl resume. If it is lost: {way_back(self.path)}",
            )

    @classmethod
    def _opened(cls, path: Path, clock: Clock, patience: Patience, *, read_only: bool) -> Self:
        return cls._at_head(cls(path, clock, patience, read_only=read_only), read_only=read_only)

    @classmethod
    def _at_head(cls, ledger: Self, *, read_only: bool) -> Self:
        try:
            ledger._bring_up_to_date(read_only)
        except BaseException:
            ledger.close()
            raise
        return ledger

    @classmethod
    def _refuse_what_is_not_ours(cls, path: Path, clock: Clock, patience: Patience) -> None:
        """Look without the right to write: closing a database can be enough to change its file."""
        try:
            with cls(path, clock, patience, read_only=True) as ledger, ledger.read() as connection:
                revision_of(Brief.within(connection), path)
        except (NotALedgerError, LedgerTooNewError):
            raise
        except LedgerError:
            return  # of a crash, which only a writer can repair

    def _bring_up_to_date(self, read_only: bool) -> None:
        revision = self._revision()
        if revision == HEAD_REVISION:
            return
        if read_only and revision is None:
            raise missing_ledger(self.path)
        if read_only:
            raise LedgerError(
                f"The ledger {self.path} has an older schema ({revision}).", "Upgrade it with: midasdl status"
            )
        connect = connector(self._stands_at, self.library, self.patience, foreign_keys=False)
        engine = create_sqlite_engine(connect, self.library, self.patience)
        try:
            with self._translated, engine.begin() as connection:
                bring_up_to_date(connection, self.path, self.library, self.clock.now_us())
        finally:
            engine.dispose()

    def _revision(self) -> str | None:
        """Of the schema, as it is now; None for an empty file."""
        if self._read_only:  # what is kept open may show the file as it was
            with self.read() as connection:
                return revision_of(Brief.within(connection), self.path)
        with self._translated, self._one_has_it_bare:
            return self.patience.wait_for(partial(revision_of, Brief(self._bare_connection()), self.path))


def inserted_id(result: CursorResult[Any]) -> int:
    """The number of the row that an INSERT has just made."""
    key = result.inserted_primary_key
    assert key is not None  # noqa: S101 - only an INSERT of one row comes here
    return int(key[0])


def data_root_of(ledger: Ledger) -> Path:
    """Where the files of a ledger belong.

    Raises
    ------
    LedgerError
        When nothing was ever loaded into the ledger.
    """
    root = ledger.setting(DATA_ROOT)
    if root is None:
        raise LedgerError(
            f"No manifest has been loaded into {ledger.path}.", "Load one with: midasdl init MANIFEST"
        )
    return Path(root)


def _make_empty(path: Path, patience: Patience) -> None:
    """Make the empty database file, in the journal mode that suits its place; several processes may come at once."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise file_error(path, error) from error
    choose_journal(path, path, patience)


def choose_journal(file: Path, path: Path, patience: Patience) -> None:
    """Give a new ledger the journal mode that suits its place, for good.

    Parameters
    ----------
    file : Path
        Where it is just now; it is made where there is none.
    path : Path
        Where it will stand.
    """
    library = best_library()
    try:
        mode = journal_for(library, file_system_of(path))
        with closing(library.module.connect(file, timeout=0)) as database:
            patience.wait_for(lambda: database.execute(f"PRAGMA journal_mode = {mode}"))
    except OSError as error:
        raise file_error(path, error) from error
    except library.module.Error as error:
        raise translate(error, path) or LedgerError(f"The ledger {path} cannot be made: {error}.") from error
