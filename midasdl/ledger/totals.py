"""Sums over all files by dataset and kind: what is done and what has failed costs nothing to know.

Triggers keep those of finished and failed tasks, whoever changes a task. What belongs to a dataset in all changes with
a load alone: the first run after one counts and keeps it, and whoever asks before that counts for themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from operator import add
from typing import NamedTuple

from sqlalchemy import Connection, exists, func, insert, literal_column, select

from midasdl.ledger.ledger import Ledger
from midasdl.ledger.schema import destination, task, total
from midasdl.ledger.statements import IN_PROGRESS
from midasdl.models import TaskState
from midasdl.progress.sizes import Group

ALL = "all"
ENDED = (TaskState.DONE.value, TaskState.FAILED.value)
UNKNOWN_SHAPE = "other"
"""What people read where there is no dataset."""


class Sums(NamedTuple):
    """Of the files of one dataset and kind, in one state or in all; a row of the table ``total``."""

    dataset: str
    kind: str
    state: str
    files: int
    tasks: int
    bytes: int
    contents: int
    content_bytes: int


class ProgressRow(NamedTuple):
    """What there is of one dataset and state, as the view ``progress`` has it."""

    dataset: str
    state: str
    files: int
    tasks: int
    bytes: int | None


_IS_FIRST = """NOT EXISTS (SELECT 1 FROM destination o WHERE o.task_id = d.task_id AND o.id < d.id)"""
_IS_FIRST_THERE = """NOT EXISTS
               (SELECT 1 FROM destination o WHERE o.task_id = d.task_id AND o.id < d.id AND o.dataset IS d.dataset)"""

COUNT_ENDED = f"""
SELECT f.dataset, f.kind, f.state, count(*), sum(f.is_first_there), sum(f.size), sum(f.is_first),
       sum(f.is_first * f.size)
  FROM (SELECT coalesce(d.dataset, '') AS dataset, d.kind, t.state, coalesce(t.size_bytes, 0) AS size,
               {_IS_FIRST} AS is_first,
               {_IS_FIRST_THERE} AS is_first_there
          FROM destination d CROSS JOIN task t
         WHERE t.id = d.task_id AND t.state IN ('done', 'failed') AND d.id BETWEEN ? AND ?) AS f
 GROUP BY 1, 2, 3"""
"""Of the files with some numbers."""

COUNT_ALL = """
SELECT coalesce(dataset, ''), kind, 'all', count(*), count(*), 0, count(*), 0
  FROM destination WHERE id BETWEEN ? AND ? GROUP BY 1, 2"""
"""Of the files with some numbers, as if each had contents of its own."""

COUNT_LATER = f"""
SELECT coalesce(d.dataset, ''), d.kind, 'all', 0, -sum(NOT {_IS_FIRST_THERE}), 0, -sum(NOT {_IS_FIRST}), 0
  FROM destination d
 WHERE d.task_id IN (SELECT task_id FROM destination GROUP BY task_id HAVING count(*) > 1)
 GROUP BY 1, 2"""
"""How many have not; it looks only at those whose contents stand elsewhere too."""

FILES_AT_A_TIME = 50_000
"""SQLite sorts what it groups, in memory: of all files at once that would be a hundred bytes a file."""

FORGET_ALL = "DELETE FROM total WHERE state = 'all'"
FORGET_ENDED = "DELETE FROM total WHERE state <> 'all'"
KEEP = insert(total)

HAS_ALL = select(exists().where(total.c.state == literal_column("'all'")))

CLAIMED = (
    select(
        func.coalesce(destination.c.dataset, literal_column("''")),
        func.count(),
        func.count(destination.c.task_id.distinct()),
    )
    .select_from(task)
    .join(destination, destination.c.task_id == task.c.id)
    .where(IN_PROGRESS)
    .group_by(literal_column("1"))
)
"""Files and tasks that somebody works on; from a partial index."""


class Totals:
    """The sums of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def count_if_due(self) -> None:
        """After a load, count what there is in all, so that further questions need not.

        Concurrency: of several processes one counts, in a transaction of its own.
        """
        with self._ledger.read() as connection:
            if is_counted(connection):
                return
        with self._ledger.write() as connection:
            if not is_counted(connection):
                _keep(connection, _count_all(connection))

    def disagreement(self) -> str | None:
        """What a count of all files finds else than the sums say; None where they agree. It walks all files."""
        with self._ledger.read() as connection:
            kept = {row[:3]: row for row in sums(connection) if any(row[3:])}
            counted = {row[:3]: row for row in [*_count_all(connection), *_count(connection, COUNT_ENDED)]}
        for key in sorted(kept.keys() | counted.keys()):
            if kept.get(key) != counted.get(key):
                return f"{' '.join(key)}: {kept.get(key)} instead of {counted.get(key)}"
        return None


def sums(connection: Connection) -> list[Sums]:
    """All sums; where those over all states are not kept, they are counted, which walks all files."""
    rows = [Sums(*row) for row in connection.execute(select(total))]
    if not any(row.state == ALL for row in rows):
        rows += _count_all(connection)
    return rows


def is_counted(connection: Connection) -> bool:
    """Whether the sums over all states are kept."""
    return bool(connection.execute(HAS_ALL).scalar_one())


def forget_what_a_load_has_changed(connection: Connection, *, held_before: bool) -> None:
    """After a load, inside its transaction; a ledger that `held_before` nothing had nothing finished either."""
    connection.exec_driver_sql(FORGET_ALL)
    if held_before:
        connection.exec_driver_sql(FORGET_ENDED)
        _keep(connection, _count(connection, COUNT_ENDED))


def progress_rows(connection: Connection) -> list[ProgressRow]:
    """The rows of the view ``progress``; a file has a size once its task is done."""
    found: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])

    def put(dataset: str, state: str, numbers: Iterable[int], sign: int = 1) -> None:
        here = found[dataset, state]
        here[:] = [before + sign * number for before, number in zip(here, numbers, strict=True)]

    for row in sums(connection):
        numbers = (row.files, row.tasks, row.bytes)
        if row.state != ALL:
            put(row.dataset, row.state, numbers)
        put(row.dataset, TaskState.PENDING, numbers, 1 if row.state == ALL else -1)
    for dataset, files, tasks in connection.execute(CLAIMED):
        put(dataset, TaskState.IN_PROGRESS, (files, tasks, 0))
        put(dataset, TaskState.PENDING, (files, tasks, 0), -1)
    return sorted(
        ProgressRow(
            dataset or UNKNOWN_SHAPE, str(state), files, tasks, size if state == TaskState.DONE else None
        )
        for (dataset, state), (files, tasks, size) in found.items()
        if files
    )


def groups(connection: Connection) -> tuple[Group, ...]:
    """What is known of sizes, by dataset and kind; a content counts where its first path is."""
    rows: dict[tuple[str, str], dict[str, Sums]] = defaultdict(dict)
    for row in sums(connection):
        rows[row.dataset, row.kind][row.state] = row
    found = []
    for (dataset, kind), by_state in rows.items():
        contents = {state: row.contents for state, row in by_state.items() if row.contents}
        if not contents:
            continue
        unfinished = contents.get(ALL, 0) - sum(contents.get(state, 0) for state in ENDED)
        done = by_state.get(TaskState.DONE)
        size = 0 if done is None else done.content_bytes
        found.append(Group(dataset, kind, contents.get(TaskState.DONE, 0), size, unfinished))
    return tuple(found)


def _count_all(connection: Connection) -> list[Sums]:
    """The sums over all states; walks all files."""
    later = [Sums(*row) for row in connection.exec_driver_sql(COUNT_LATER)]
    return _added([*_count(connection, COUNT_ALL), *later])


def _count(connection: Connection, statement: str) -> list[Sums]:
    """What a statement counts, for some files after the others; one sum for each dataset, kind and state."""
    last = connection.execute(select(func.max(destination.c.id))).scalar() or 0
    found: list[Sums] = []
    for first in range(1, last + 1, FILES_AT_A_TIME):
        numbers = (first, first + FILES_AT_A_TIME - 1)
        found = _added([*found, *(Sums(*row) for row in connection.exec_driver_sql(statement, numbers))])
    return found


def _added(rows: Iterable[Sums]) -> list[Sums]:
    """One row for each dataset, kind and state."""
    found: dict[tuple[str, ...], Sums] = {}
    for row in rows:
        key, before = row[:3], found.get(row[:3])
        found[key] = row if before is None else Sums(*key, *map(add, before[3:], row[3:]))
    return list(found.values())


def _keep(connection: Connection, rows: list[Sums]) -> None:
    if rows:
        connection.execute(KEEP, [row._asdict() for row in rows])
