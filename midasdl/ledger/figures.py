"""How a run stands, read from the ledger every few seconds: its workers, its requests, the servers.

Counts of files and tasks are not read here: `midasdl.ledger.reading` has them, and everybody is shown the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, func, select

from midasdl.identity import ProcessIdentity
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.schema import destination, permit, response, step, task, transition, worker
from midasdl.ledger.statements import ANY_IN_PROGRESS, COUNT_CLAIMABLE, FAILED, IN_PROGRESS

MOST_ROWS = 5_000
"""Transitions and steps are read in portions of this size."""


@dataclass(frozen=True, slots=True)
class WorkerNow:
    """What one worker of the run is doing.

    Attributes
    ----------
    doing : str
        ``requesting``: its request is in flight; ``waiting``: for its slot; ``working``: it has files at hand, and
        checks, asks or writes; ``idle``: nothing can be claimed.
    path : str or None
        The file that it works on, or one of the next.
    """

    name: str
    pid: int
    doing: str
    claimed: int
    path: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """One look at a run, as the ledger has it.

    Attributes
    ----------
    failed : mapping of str to int
        Failed tasks by error class.
    requests : mapping of (str, str) to int
        Of this run, by host and outcome; they only grow.
    answers : int
        Requests of this run that had an answer to measure.
    latency_us : int
        Until their first bytes, added up.
    workers : tuple of WorkerNow
        Of this run.
    servers : tuple of mapping
        The rows of the view ``health``.
    has_work : bool
        Something can be claimed now, or is; else whatever is left waits for its retry.
    """

    failed: Mapping[str, int]
    requests: Mapping[tuple[str, str], int]
    answers: int
    latency_us: int
    workers: tuple[WorkerNow, ...]
    servers: tuple[Mapping[str, Any], ...]
    has_work: bool = True


@dataclass(frozen=True, slots=True)
class Move:
    """One change of state of a task, as the ledger keeps it."""

    move_id: int
    at_us: int
    task_id: int
    path: str | None
    from_state: str
    to_state: str
    worker: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class KeptStep:
    """One step of throttle or breaker, or a pause begun, as the ledger keeps it."""

    step_id: int
    at_us: int
    host: str
    what: str
    from_value: str | None
    to_value: str
    reason: str


_WAITS_FOR_SLOT = and_(permit.c.worker_id.is_not(None), permit.c.start_at > bindparam("now"))
_HELD = (IN_PROGRESS, task.c.worker_id == worker.c.id)
_CLAIMED = select(func.count()).select_from(task).where(*_HELD).correlate(worker).scalar_subquery()
_FIRST_TASK = select(func.min(task.c.id)).where(*_HELD).correlate(worker).scalar_subquery()
_FIRST_PATH = (
    select(func.min(destination.c.path))
    .where(destination.c.task_id == _FIRST_TASK)
    .correlate(worker)
    .scalar_subquery()
)

RUN_OF_PROCESS = select(func.max(worker.c.run_id)).where(
    worker.c.host == bindparam("this_host"), worker.c.pid == bindparam("this_pid"), worker.c.state == "alive"
)
"""The run that a process of this host owns."""

WORKERS_OF_RUN = (
    select(
        worker.c.name,
        worker.c.pid,
        case(
            (_WAITS_FOR_SLOT, "waiting"),
            (permit.c.worker_id.is_not(None), "requesting"),
            (_CLAIMED > 0, "working"),
            else_="idle",
        ),
        _CLAIMED,
        _FIRST_PATH,
    )
    .outerjoin(permit, permit.c.worker_id == worker.c.id)
    .where(worker.c.run_id == bindparam("run"), worker.c.role == "worker", worker.c.state == "alive")
    .order_by(worker.c.id)
)
"""The workers of a run, and what each is doing."""

REQUESTS_OF_RUN = (
    select(
        response.c.host,
        response.c.outcome,
        func.sum(response.c["count"]),
        func.sum(case((response.c.up_to_us > 0, response.c["count"]), else_=0)),
        func.sum(response.c.up_to_us * response.c["count"]),
    )
    .where(response.c.run_id == bindparam("run"))
    .group_by(response.c.host, response.c.outcome)
)
"""The requests of a run by host and outcome, how many were answered, and after how long, added up."""

MOVES_AFTER = (
    select(
        transition.c.id,
        transition.c.at,
        transition.c.task_id,
        select(func.min(destination.c.path))
        .where(destination.c.task_id == transition.c.task_id)
        .scalar_subquery(),
        transition.c.from_state,
        transition.c.to_state,
        worker.c.name,
        transition.c.reason,
    )
    .outerjoin(worker, worker.c.id == transition.c.worker_id)
    .where(transition.c.id > bindparam("last"))
    .order_by(transition.c.id)
    .limit(MOST_ROWS)
)
"""Changes of state that were kept after one that is known."""

STEPS_AFTER = (
    select(step.c.id, step.c.at, step.c.host, step.c.what, step.c.from_value, step.c.to_value, step.c.reason)
    .where(step.c.id > bindparam("last"))
    .order_by(step.c.id)
    .limit(MOST_ROWS)
)
"""Steps that were kept after one that is known."""


class RunFigures:
    """Reads how the run of this process stands.

    Concurrency: delays nobody; each question sees one consistent moment.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._me = ProcessIdentity.current()
        self._run_id: int | None = None

    def read(self) -> Standing:
        """Look once."""
        with self._ledger.read() as connection:
            run_id = self._run_of(connection)
            answered = connection.execute(REQUESTS_OF_RUN, {"run": run_id}).all()
            workers = connection.execute(WORKERS_OF_RUN, {"run": run_id, "now": self._ledger.clock.now_us()})
            return Standing(
                failed=_failed(connection),
                requests={(host, outcome): count for host, outcome, count, *_ in answered},
                answers=sum(row[3] for row in answered),
                latency_us=sum(row[4] for row in answered),
                workers=tuple(WorkerNow(*row) for row in workers),
                servers=tuple(
                    dict(row) for row in connection.exec_driver_sql("SELECT * FROM health").mappings()
                ),
                has_work=self._has_work(connection),
            )

    def newest(self) -> tuple[int, int]:
        """The numbers of the newest transition and of the newest step."""
        with self._ledger.read() as connection:
            moves = connection.execute(select(func.coalesce(func.max(transition.c.id), 0))).scalar_one()
            steps = connection.execute(select(func.coalesce(func.max(step.c.id), 0))).scalar_one()
        return moves, steps

    def moves_after(self, last: int) -> list[Move]:
        """The next changes of state that were kept."""
        with self._ledger.read() as connection:
            return [Move(*row) for row in connection.execute(MOVES_AFTER, {"last": last})]

    def steps_after(self, last: int) -> list[KeptStep]:
        """The next steps that were kept."""
        with self._ledger.read() as connection:
            return [KeptStep(*row) for row in connection.execute(STEPS_AFTER, {"last": last})]

    def _has_work(self, connection: Connection) -> bool:
        now = {"now": self._ledger.clock.now_us(), "how_many": 1}
        return bool(
            connection.execute(COUNT_CLAIMABLE, now).scalar_one()
            or connection.execute(ANY_IN_PROGRESS).scalar_one()
        )

    def _run_of(self, connection: Connection) -> int | None:
        """The run of this process; once it is known it stays."""
        if self._run_id is None:
            me = {"this_host": self._me.host, "this_pid": self._me.pid}
            self._run_id = connection.execute(RUN_OF_PROCESS, me).scalar_one()
        return self._run_id


def _failed(connection: Connection) -> dict[str, int]:
    query = select(task.c.error_class, func.count()).where(FAILED).group_by(task.c.error_class)
    return {str(name): count for name, count in connection.execute(query)}
