"""The first manifest of a ledger that holds nothing yet: rows in their order, indexes at the end.

There is nothing to compare lines with, so each becomes a task and a destination that have its number. What lines
have in common is found afterwards, by the indexes that have to be built anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from midasdl.ledger import load_statements as sql
from midasdl.ledger.merge import contradiction
from midasdl.ledger.schema import destination, task
from midasdl.models import FileInfo, Reject

ROWS_A_STATEMENT = 250
"""A statement of so many rows costs half of what as many statements of one row cost."""

CACHE_KIB = 24 * 1024
"""Of SQLite, while indexes are built: what it sorts at a time."""

_DEFERRED = {str(index.name): index for index in (*destination.indexes, *task.indexes)}


class FirstLoad:
    """Takes lines in, and `finish` brings them into order; all of it inside the caller's transaction.

    Parameters
    ----------
    manifest_id : int
    tasks_before : int
        The highest number that a task ever had; numbers are given once.

    Attributes
    ----------
    repeated : int
        Lines that said again what an earlier one had said; known after `finish`.
    """

    def __init__(self, connection: Connection, manifest_id: int, tasks_before: int) -> None:
        self._connection = connection
        self._manifest_id = manifest_id
        self._tasks_before = tasks_before
        self.repeated = 0
        for index in _DEFERRED.values():
            index.drop(connection)

    def add(self, entries: Sequence[FileInfo]) -> None:
        """Write the rows of some lines."""
        for first in range(0, len(entries), ROWS_A_STATEMENT):
            some = entries[first : first + ROWS_A_STATEMENT]
            md5, path, _, dataset, release, qc, county, station_id, name, year, kind, no = zip(
                *some, strict=True
            )
            self._insert(sql.fresh_tasks, (no, md5))
            kinds = tuple(map(str.__str__, kind))  # an enumeration takes the database three times as long
            self._insert(
                sql.fresh_destinations,
                (no, path, dataset, release, county, station_id, name, qc, year, kinds),
            )

    def _insert(self, statement: Callable[[int, int, int], str], columns: Sequence[Sequence[Any]]) -> None:
        text = statement(len(columns[0]), self._manifest_id, self._tasks_before)
        self._connection.exec_driver_sql(text, tuple(chain.from_iterable(columns)))

    def finish(self) -> Iterator[Sequence[Reject]]:
        """Build the indexes, and give lines with the same md5 one task.

        Yields
        ------
        sequence of Reject
            Lines that contradict an earlier one.
        """
        cache_size = self._connection.exec_driver_sql("PRAGMA cache_size").scalar()
        self._run(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._create("ix_destination_task_id")
        if not self._create("destination_path"):
            yield from self._drop_repeated_paths()
            self._create("destination_path")
        if not self._create("task_md5"):
            self._share_tasks()
            self._create("task_md5")
        for name in sorted(_DEFERRED.keys() - {"ix_destination_task_id", "destination_path", "task_md5"}):
            self._create(name)
        self._run(f"PRAGMA cache_size = {cache_size}")

    def _create(self, name: str) -> bool:
        """Build an index; False where rows are the same that must differ."""
        try:
            _DEFERRED[name].create(self._connection)
        except IntegrityError:
            return False
        return True

    def _drop_repeated_paths(self) -> Iterator[Sequence[Reject]]:
        """The first line of a path holds; others repeat it or contradict it."""
        self._run(sql.MAKE_LATER)
        self._run(sql.FIND_LATER_LINES_OF_A_PATH)
        self.repeated = self._connection.exec_driver_sql(sql.COUNT_REPEATED).scalar_one()
        for rows in self._connection.exec_driver_sql(sql.CONTRADICTIONS).partitions(ROWS_A_STATEMENT):
            yield [contradiction(*row) for row in rows]
        self._run(sql.DELETE_LATER_LINES)
        self._connection.exec_driver_sql(sql.DELETE_TASKS_OF_LATER_LINES, (self._tasks_before,))
        self._run(sql.DROP_LATER)

    def _share_tasks(self) -> None:
        """Contents that several lines name are one task, that of the first."""
        self._run(sql.MAKE_LATER)
        self._run(sql.FIND_LATER_TASKS_OF_AN_MD5)
        self._run(sql.SHARE_FIRST_TASK)
        self._run(sql.DELETE_LATER_TASKS)
        self._run(sql.DROP_LATER)

    def _run(self, statement: str) -> None:
        self._connection.exec_driver_sql(statement)
