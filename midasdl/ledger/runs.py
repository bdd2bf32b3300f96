"""Runs and the processes that take part in them: who is alive, who is gone, what comes back.

A worker's claims and its permit live as long as its lease, which the coordinator renews for all its workers in one
write. A process that is gone from this host loses them at once, one of another host when its lease has ended.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert

from midasdl.errors import MidasdlError
from midasdl.identity import ProcessIdentity
from midasdl.ledger import gate_statements, run_statements, schema
from midasdl.ledger.ledger import Ledger, inserted_id
from midasdl.ledger.tasks import TaskQueue
from midasdl.version import __version__

LEASE_S = 120.0
"""How long a claim outlives the last beat: longer than any hiccup of a living machine."""

BEAT_S = 5.0
"""How often the coordinator vouches for its workers: many beats fit into a lease."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was taken back from processes that are gone."""

    workers: int = 0
    tasks: int = 0
    permits: int = 0

    def __bool__(self) -> bool:
        return bool(self.workers or self.tasks or self.permits)


@dataclass(frozen=True, slots=True)
class LastRun:
    """The latest run of a ledger."""

    run_id: int
    settings: dict[str, Any]
    ended: bool
    exit_code: int | None


class RunRegistry:
    """Runs and workers of a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def start_run(self, command: str, settings: dict[str, Any]) -> int:
        """Open a run and return its number. `settings` must hold no secret."""
        with self._ledger.write() as connection:
            result = connection.execute(
                insert(schema.run).values(
                    command=command,
                    version=__version__,
                    settings=json.dumps(settings, sort_keys=True),
                    started_at=self._ledger.clock.now_us(),
                )
            )
            return inserted_id(result)

    def end_run(self, run_id: int, exit_code: int) -> None:
        """Close a run."""
        with self._ledger.write() as connection:
            connection.execute(
                run_statements.END_RUN, {"run": run_id, "now": self._ledger.clock.now_us(), "code": exit_code}
            )

    def last_run(self) -> LastRun | None:
        """The run that `resume` takes up, or None if there was none."""
        with self._ledger.read() as connection:
            row = connection.execute(run_statements.LAST_RUN).first()
        if row is None:
            return None
        return LastRun(row.id, json.loads(row.settings), row.ended_at is not None, row.exit_code)

    def register(self, run_id: int | None, role: str, name: str, identity: ProcessIdentity) -> int:
        """Enter a living process and return its number, which fences everything that it writes."""
        now = self._ledger.clock.now_us()
        process = {
            "new_run_id": run_id,
            "new_role": role,
            "new_name": name,
            "new_host": identity.host,
            "new_pid": identity.pid,
            "new_process_started": identity.started,
            "now": now,
            "new_lease_until": now + int(LEASE_S * 1_000_000),
        }
        with self._ledger.brief() as brief:
            [(worker_id,)] = brief.fetch(run_statements.REGISTER, process)
            return int(worker_id)

    def beat(self, workers: Sequence[int]) -> int:
        """Renew the leases of `workers`, which the caller knows to be alive.

        Returns
        -------
        int
            How many were renewed. One that others took for dead, because this machine slept for longer than a
            lease, is alive again; its old claims are lost. One that has stopped stays so.
        """
        now = self._ledger.clock.now_us()
        until = {"now": now, "new_lease_until": now + int(LEASE_S * 1_000_000)}
        with self._ledger.brief() as brief:
            return brief.send_all(run_statements.BEAT, [{"worker": worker, **until} for worker in workers])

    def retire(self, workers: Sequence[int], *, dead: bool) -> Recovered:
        """Take everything back from workers of which the caller knows that they have ended.

        Parameters
        ----------
        dead : bool
            They died, rather than stopped by themselves.
        """
        if not workers:
            return Recovered()
        with self._ledger.write() as connection:
            parameters = {"workers": list(workers)}
            tasks = TaskQueue(self._ledger).take_back(
                connection, workers, "worker died" if dead else "stopped"
            )
            permits = connection.execute(gate_statements.RETURN_PERMITS, parameters).rowcount
            retired = connection.execute(
                run_statements.RETIRE,
                {**parameters, "how": "dead" if dead else "stopped", "now": self._ledger.clock.now_us()},
            ).rowcount
        return Recovered(retired, tasks, permits)

    def ended_by(self, worker_id: int) -> int:
        """How many tasks a worker has brought to an end."""
        with self._ledger.read() as connection:
            return int(connection.execute(run_statements.ENDED_BY, {"worker": worker_id}).scalar_one())

    def recover(self, mine: Sequence[int] = ()) -> Recovered:
        """Take back what processes left behind that are gone, of whichever run, and from whoever has a claim.

        Parameters
        ----------
        mine : sequence of int
            Workers whose end the caller sees for itself, and whether they said goodbye.

        Returns
        -------
        Recovered

        Notes
        -----
        Concurrency: any number of runs may recover at the same time; each claim comes back once.
        """
        suspects = self._ledger.glance(run_statements.MAYBE_GONE, {})
        now = self._ledger.clock.now_us()
        gone = [
            worker_id
            for worker_id, lease_until, *process in suspects
            if worker_id not in mine
            if lease_until < now or ProcessIdentity(*process).is_gone()
        ]
        return self.retire(gone, dead=True)


@contextmanager
def beating(registry: RunRegistry, worker_id: int, every_s: float = BEAT_S) -> Iterator[None]:
    """Renew the lease of this process during the block, from a thread: what it waits for can take minutes."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(every_s):
            with suppress(MidasdlError):
                registry.beat([worker_id])

    thread = threading.Thread(target=beat, daemon=True, name="beat")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
