"""What a ledger holds, as a report shows it: what there is of each dataset, county and year, and how it came there.

Each question is one walk over the ledger at most, and has an answer of bounded size, however many files there are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, case, func, select

from midasdl.ledger.ledger import Ledger
from midasdl.ledger.schema import damage, destination, manifest, reject, response, run, step, task
from midasdl.ledger.statements import DONE, FAILED

MOST_EXAMPLES = 3
"""Of each class of failures, and of rejected lines."""

MOST_STEPS = 2_000
"""Steps of throttle and breaker and pauses that a report looks at, the latest."""

MOST_RUNS = 30
MOST_MANIFESTS = 20


@dataclass(frozen=True, slots=True)
class Cover:
    """Files of one dataset, county and year: how many there are, are done, and have failed."""

    dataset: str | None
    county: str | None
    year: int | None
    files: int
    done: int
    failed: int


@dataclass(frozen=True, slots=True)
class Failures:
    """Failed tasks of one class, with some of their paths and what happened to each."""

    error_class: str
    tasks: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Pace:
    """What was finished from one moment on, for as long as a bin of the time is wide."""

    from_us: int
    files: int
    from_cache: int
    bytes_fetched: int


@dataclass(frozen=True, slots=True)
class OneRun:
    """A run, for as long as it lasted; `ended_us` is None where it is on, or was killed."""

    run_id: int
    command: str
    started_us: int
    ended_us: int | None
    exit_code: int | None
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class OneStep:
    """A change of throttle or breaker, or a pause begun."""

    at_us: int
    host: str
    what: str
    from_value: str | None
    to_value: str
    reason: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """A manifest that was loaded."""

    name: str
    md5: str
    loaded_us: int
    selection: str
    lines: int
    rejected: int


class Coverage:
    """Asks a ledger what a report shows; use within `looking`, so that all answers are of the same moment."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def cover(self) -> list[Cover]:
        """Files by dataset, county and year; None is a file without one."""
        keys = (destination.c.dataset, destination.c.county, destination.c.year)
        query = (
            select(*keys, func.count(), _how_many(DONE), _how_many(FAILED))
            .select_from(destination)
            .join(task, task.c.id == destination.c.task_id)
            .group_by(*keys)
        )
        return [Cover(*row) for row in self._connection.execute(query)]

    def states(self) -> dict[str, tuple[int, int]]:
        """Tasks, and bytes as far as they are known, by state."""
        query = select(task.c.state, func.count(), func.coalesce(func.sum(task.c.size_bytes), 0))
        return {
            state: (count, size)
            for state, count, size in self._connection.execute(query.group_by(task.c.state))
        }

    def failures(self) -> list[Failures]:
        """Failed tasks by class, the most frequent first."""
        query = select(task.c.error_class, func.count()).where(FAILED).group_by(task.c.error_class)
        groups = sorted(self._connection.execute(query).all(), key=lambda row: (-row[1], row[0]))
        return [Failures(str(name), count, self._examples(name)) for name, count in groups]

    def _examples(self, error_class: str | None) -> tuple[tuple[str, str], ...]:
        some = select(task.c.id).where(FAILED, task.c.error_class == error_class).limit(MOST_EXAMPLES)
        query = (
            select(func.min(destination.c.path), task.c.error)
            .join(task, task.c.id == destination.c.task_id)
            .where(task.c.id.in_(some))
            .group_by(task.c.id, task.c.error)
        )
        return tuple((path, message or "") for path, message in self._connection.execute(query))

    def rejects(self) -> list[tuple[str, int]]:
        """Lines of manifests that cannot be used, by reason, the most frequent first."""
        query = select(reject.c.reason, func.count()).group_by(reject.c.reason)
        rows = self._connection.execute(query.order_by(func.count().desc()).limit(10))
        return [(reason, count) for reason, count in rows]

    def damaged(self) -> int:
        """Finished files that verify found missing or damaged, and that were not put right since."""
        query = (
            select(func.count())
            .select_from(damage)
            .join(destination, destination.c.id == damage.c.destination_id)
            .join(task, task.c.id == destination.c.task_id)
            .where(DONE, task.c.finished_at <= damage.c.found_at)
        )
        return int(self._connection.execute(query).scalar_one())

    def pace(self, most_bins: int) -> tuple[int, list[Pace]]:
        """What was finished over time, in no more than so many bins.

        Returns
        -------
        tuple
            How wide a bin is in microseconds, and the bins in which anything was finished.
        """
        ends = select(func.min(task.c.finished_at), func.max(task.c.finished_at)).where(DONE)
        first, last = self._connection.execute(ends).one()
        if first is None:
            return 1, []
        width = max((last - first) // max(most_bins - 1, 1) + 1, 1_000_000)
        number = ((task.c.finished_at - first) // width).label("number")
        query = (
            select(
                number,
                func.count(),
                func.sum(task.c.from_cache),
                func.sum(case((task.c.from_cache == 0, func.coalesce(task.c.size_bytes, 0)), else_=0)),
            )
            .where(DONE, task.c.finished_at.is_not(None))
            .group_by(number)
            .order_by(number)
        )
        rows = self._connection.execute(query)
        return width, [
            Pace(first + int(n) * width, files, cached or 0, size or 0) for n, files, cached, size in rows
        ]

    def runs(self) -> list[OneRun]:
        """The latest runs, the first of them first."""
        query = select(
            run.c.id, run.c.command, run.c.started_at, run.c.ended_at, run.c.exit_code, run.c.settings
        )
        rows = self._connection.execute(query.order_by(run.c.id.desc()).limit(MOST_RUNS)).all()
        return [
            OneRun(number, command, started_us, ended_us, exit_code, json.loads(settings))
            for number, command, started_us, ended_us, exit_code, settings in reversed(rows)
        ]

    def steps(self) -> list[OneStep]:
        """The latest steps of throttle and breaker and pauses, the first of them first."""
        query = select(step.c.at, step.c.host, step.c.what, step.c.from_value, step.c.to_value, step.c.reason)
        rows = self._connection.execute(query.order_by(step.c.id.desc()).limit(MOST_STEPS)).all()
        return [OneStep(*row) for row in reversed(rows)]

    def requests(self) -> list[tuple[str, str, int]]:
        """Requests of the latest runs by host and outcome."""
        query: Select[Any] = (
            select(response.c.host, response.c.outcome, func.sum(response.c["count"]))
            .where(response.c.run_id > 0)
            .group_by(response.c.host, response.c.outcome)
            .order_by(response.c.host, func.sum(response.c["count"]).desc())
        )
        return [(host, outcome, int(count)) for host, outcome, count in self._connection.execute(query)]

    def health(self) -> list[dict[str, Any]]:
        """The rows of the view ``health``."""
        return [dict(row) for row in self._connection.exec_driver_sql("SELECT * FROM health").mappings()]

    def manifests(self) -> list[Loaded]:
        """The latest manifests that were loaded."""
        columns = (
            *(manifest.c.name, manifest.c.md5, manifest.c.loaded_at, manifest.c.selection),
            *(manifest.c.lines, manifest.c.rejected),
        )
        rows = self._connection.execute(select(*columns).order_by(manifest.c.id.desc()).limit(MOST_MANIFESTS))
        return [Loaded(*row) for row in rows]


@contextmanager
def looking(ledger: Ledger) -> Iterator[Coverage]:
    """Ask about one moment; a run goes on meanwhile."""
    with ledger.read() as connection:
        yield Coverage(connection)


def _how_many(condition: Any) -> Any:
    return func.sum(case((condition, 1), else_=0))
