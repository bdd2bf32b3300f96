"""Questions about the whole ledger: how much is done, what failed, does everything add up."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from midasdl.errors import LedgerError
from midasdl.identity import ProcessIdentity
from midasdl.ledger import reading_statements as ask
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.schema import destination, manifest, politeness, run, step, task, worker
from midasdl.ledger.totals import groups, progress_rows
from midasdl.models import ErrorClass, TaskState


@dataclass(frozen=True, slots=True)
class Counts:
    """Tasks by state, and what they stand for.

    Attributes
    ----------
    files : int
        Destinations: paths below the data root.
    bytes_done : int
        Distinct bytes on disk; duplicates are counted once.
    """

    pending: int = 0
    in_progress: int = 0
    done: int = 0
    failed: int = 0
    files: int = 0
    bytes_done: int = 0

    @property
    def tasks(self) -> int:
        """Distinct contents."""
        return self.pending + self.in_progress + self.done + self.failed

    @property
    def unfinished(self) -> int:
        """Tasks that a run would still work on."""
        return self.pending + self.in_progress


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is known of the sizes of contents that are like each other: of one dataset and kind.

    Attributes
    ----------
    done, bytes_done : int
        Contents that are on disk, and their size.
    unfinished : int
        Contents that a run would still work on.
    """

    done: int
    bytes_done: int
    unfinished: int


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failed tasks of one class, with an example."""

    error_class: ErrorClass
    tasks: int
    example_path: str
    example_message: str


class Overview:
    """Reads a ledger as a whole, in one consistent view per question."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def counts(self) -> Counts:
        """Tasks by state, from indexes and sums."""
        with self._ledger.read() as connection:
            pending, claimed, failed, tasks, files, bytes_done = (
                int(connection.execute(question).scalar_one())
                for question in (
                    *(ask.COUNT_PENDING, ask.COUNT_CLAIMED, ask.COUNT_FAILED),
                    *(ask.COUNT_TASKS, ask.COUNT_FILES, ask.BYTES_DONE),
                )
            )
        done = tasks - pending - claimed - failed
        return Counts(pending, claimed, done, failed, files=files, bytes_done=bytes_done)

    def sizes(self) -> list[Sizes]:
        """What is done and what is not, by dataset and kind; a content counts where its first path is."""
        with self._ledger.read() as connection:
            return [Sizes(group.done, group.bytes_done, group.unfinished) for group in groups(connection)]

    def not_done(self, md5s: Collection[str]) -> frozenset[str]:
        """Of some md5s, those that the ledger has and that are still to be obtained, failed ones too."""
        query = select(task.c.md5).where(task.c.md5.in_(md5s), task.c.state != TaskState.DONE.value)
        with self._ledger.read() as connection:
            return frozenset(connection.scalars(query))

    def failures(self) -> list[FailureGroup]:
        """Failed tasks by class, the most frequent class first."""
        groups = (
            select(task.c.error_class, func.count().label("tasks"), func.min(task.c.id).label("example"))
            .where(task.c.state == TaskState.FAILED.value)
            .group_by(task.c.error_class)
            .subquery()
        )
        query = (
            select(groups.c.error_class, groups.c.tasks, func.min(destination.c.path), task.c.error)
            .join(task, task.c.id == groups.c.example)
            .join(destination, destination.c.task_id == task.c.id)
            .group_by(groups.c.error_class, groups.c.tasks, task.c.error)
            .order_by(groups.c.tasks.desc(), groups.c.error_class)
        )
        with self._ledger.read() as connection:
            return [FailureGroup(ErrorClass(name), *rest) for name, *rest in connection.execute(query)]

    def damaged(self) -> int:
        """Finished files that `verify` has found missing or damaged, and that nobody has put right since."""
        with self._ledger.read() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM damaged").scalar_one())

    def failed_paths(self) -> Iterator[tuple[Any, ...]]:
        """Every failed path: when, class, HTTP status, attempts, md5, path, message."""
        query = 'SELECT "when", class, http_status, attempts, md5, path, message FROM failures ORDER BY path'
        with self._ledger.read() as connection:
            for row in connection.exec_driver_sql(query):
                yield tuple(row)

    def progress(self) -> list[dict[str, Any]]:
        """The rows of the view ``progress``, from sums: files, contents and bytes for each dataset and state."""
        with self._ledger.read() as connection:
            return [row._asdict() for row in progress_rows(connection)]

    def workers_now(self) -> list[dict[str, Any]]:
        """The rows of the view ``workers_now``, without those of processes that are gone from this host."""
        alive = select(worker.c.host, worker.c.pid, worker.c.process_started).where(worker.c.state == "alive")
        with self._ledger.read() as connection:
            rows = [dict(row) for row in connection.exec_driver_sql("SELECT * FROM workers_now").mappings()]
            processes = [ProcessIdentity(*row) for row in connection.execute(alive)]
        running = {(process.host, process.pid) for process in processes if not process.is_gone()}
        return [row for row in rows if (row["host"], row["pid"]) in running]

    def servers(self) -> list[dict[str, Any]]:
        """The rows of the table ``politeness``: what everybody knows of each host."""
        with self._ledger.read() as connection:
            return [dict(row) for row in connection.execute(select(politeness)).mappings()]

    def health(self) -> list[dict[str, Any]]:
        """The rows of the view ``health``: how each server has answered."""
        with self._ledger.read() as connection:
            return [dict(row) for row in connection.exec_driver_sql("SELECT * FROM health").mappings()]

    def last_run(self) -> dict[str, Any] | None:
        """The first row of the view ``runs``."""
        with self._ledger.read() as connection:
            row = connection.exec_driver_sql("SELECT * FROM runs LIMIT 1").mappings().first()
        return None if row is None else dict(row)

    def pace(self) -> list[str]:
        """What the run that is on now has said of its pace: the latest of its profile, and of its workers.

        Empty where no run is on, or where it goes at its usual pace.
        """
        alive = (
            select(run.c.started_at)
            .join(worker, worker.c.run_id == run.c.id)
            .where(
                run.c.ended_at.is_(None),
                worker.c.state == "alive",
                worker.c.lease_until > self._ledger.clock.now_us(),
            )
        )
        with self._ledger.read() as connection:
            since = connection.execute(select(func.max(alive.subquery().c.started_at))).scalar_one()
            if since is None:
                return []
            latest = (
                select(func.max(step.c.id))
                .where(step.c.what.in_(["profile", "workers"]), step.c.at >= since)
                .group_by(step.c.what)
            )
            reasons = select(step.c.reason).where(step.c.id.in_(latest)).order_by(step.c.what)
            return list(connection.scalars(reasons))

    def require_that_all_adds_up(self) -> None:
        """See that no task and no path was lost (invariant I4).

        Raises
        ------
        LedgerError
            When the sums differ.
        """
        with self._ledger.read() as connection:
            tasks = connection.execute(select(func.count()).select_from(task)).scalar_one()
            wanted = connection.execute(select(func.count(destination.c.task_id.distinct()))).scalar_one()
            paths = connection.execute(select(func.count()).select_from(destination)).scalar_one()
            added = connection.execute(select(func.coalesce(func.sum(manifest.c.added), 0))).scalar_one()
        if tasks != wanted or paths != added:
            raise LedgerError(
                f"The ledger does not add up: {tasks} tasks for {wanted} distinct contents, {paths} paths of "
                f"{added} that were loaded.",
                "Load the manifest again with: midasdl init MANIFEST",
            )
