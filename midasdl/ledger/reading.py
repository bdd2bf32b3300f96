"""What the ledger says of a job at one moment, again and again, at little cost.

A full reading walks all tasks. Between two of them only what indexes tell is asked, in a time that does not grow with
what is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from midasdl.identity import ProcessIdentity
from midasdl.ledger import reading_statements as ask
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.totals import groups
from midasdl.models import ErrorClass
from midasdl.progress.snapshot import Reading, RunTotals, Server, Tally

FULL_EVERY_S = 60.0
FULL_COST = 100
"""A full reading follows the one before after a minute, and after so many times the time that it took."""


@dataclass(frozen=True, slots=True)
class _Totals:
    """What changes only when a manifest is loaded."""

    manifest: int | None
    tasks: int
    files: int


class LedgerReader:
    """Reads a ledger as often as somebody wants to see it.

    Parameters
    ----------
    run_id : int, optional
        Full readings tell of this run, too.

    Notes
    -----
    Concurrency: belongs to one thread; delays nobody, but where the ledger has no write-ahead log.
    """

    def __init__(self, ledger: Ledger, run_id: int | None = None) -> None:
        self._ledger = ledger
        self._run_id = run_id
        self._totals: _Totals | None = None
        self._full: Reading | None = None
        self._next_full_s = 0.0

    def read(self) -> Reading:
        """How things stand; with `Reading.groups` where it is a full reading."""
        with self._ledger.read() as connection:
            return self.read_in(connection)

    def read_in(self, connection: Connection, *, whole: bool = False) -> Reading:
        """The same within the caller's view of the ledger; `whole`: a full reading in any case."""
        began_s = self._ledger.clock.monotonic()
        totals = self._read_totals(connection)
        is_due = whole or totals != self._totals or began_s >= self._next_full_s
        self._totals = totals
        if self._full is None or is_due:
            self._full = self._read_all(connection, totals)
            took_s = self._ledger.clock.monotonic() - began_s
            self._next_full_s = began_s + max(FULL_EVERY_S, took_s * FULL_COST)
            return self._full
        return self._read_some(connection, totals, self._full)

    def _read_totals(self, connection: Connection) -> _Totals:
        manifest = connection.execute(ask.LATEST_MANIFEST).scalar_one()
        if self._totals is not None and self._totals.manifest == manifest:
            return self._totals
        tasks, files = (connection.execute(each).scalar_one() for each in (ask.COUNT_TASKS, ask.COUNT_FILES))
        return _Totals(manifest, tasks, files)

    def _read_all(self, connection: Connection, totals: _Totals) -> Reading:
        tasks, claimed = self._count_tasks(connection, totals)
        done, failed = (
            connection.execute(ask.FILES_IN, {"state": state}).scalar_one() for state in ("done", "failed")
        )
        files = Tally(totals.files, done, failed)
        bytes_done, run = self._read_sums(connection)
        return self._with_the_rest(
            connection,
            Reading(
                files,
                tasks,
                bytes_done,
                claimed,
                groups=groups(connection),
                run=run,
            ),
        )

    def _read_sums(self, connection: Connection) -> tuple[int, RunTotals | None]:
        """Bytes of everything that is done, and what one run has come to."""
        if self._run_id is None:
            return connection.execute(ask.BYTES_DONE).scalar_one(), None
        brought = connection.execute(ask.DONE_BY_WORKER).all()
        return sum(row[3] for row in brought), run_totals(connection, self._run_id, brought)

    def _read_some(self, connection: Connection, totals: _Totals, full: Reading) -> Reading:
        """What is known since the full reading: of files and bytes at least as many."""
        tasks, claimed = self._count_tasks(connection, totals)
        more = max(0, tasks.done - full.tasks.done)
        failed = full.files.failed + tasks.failed - full.tasks.failed
        files = Tally(totals.files, full.files.done + more, max(tasks.failed, failed))
        return self._with_the_rest(connection, Reading(files, tasks, full.bytes_done, claimed))

    def _count_tasks(self, connection: Connection, totals: _Totals) -> tuple[Tally, int]:
        counts = (ask.COUNT_PENDING, ask.COUNT_CLAIMED, ask.COUNT_FAILED)
        pending, claimed, failed = (connection.execute(each).scalar_one() for each in counts)
        return Tally(totals.tasks, totals.tasks - pending - claimed - failed, failed), claimed

    def _with_the_rest(self, connection: Connection, reading: Reading) -> Reading:
        now_s = self._ledger.clock.now_us() / 1e6
        servers = tuple(server_of(row, now_s) for row in connection.execute(ask.SERVERS))
        alive = [ProcessIdentity(*row) for row in connection.execute(ask.WORKERS_ALIVE)]
        retry_at_us = connection.execute(ask.LAST_RETRY_AT).scalar_one() or 0
        waits_s = [server.paused_until_s or server.tries_again_at_s or 0.0 for server in servers]
        return replace(
            reading,
            servers=servers,
            workers=sum(not process.is_gone() for process in alive),
            not_before_s=max(0.0, *(until_s - now_s for until_s in [retry_at_us / 1e6, *waits_s])),
        )


def server_of(row: Any, now_s: float) -> Server:
    """What keeps anybody from asking a server, from its row in ``politeness``."""
    is_open = row.breaker_open_since > 0
    is_probing = row.breaker_probe_until != 0 or row.breaker_successes != 0
    is_paused = row.paused_until / 1e6 > now_s
    return Server(
        row.host,
        row.throttle_share,
        row.throttle_reason if row.throttle_share < 1 else None,
        ("half-open" if is_probing else "open") if is_open else "closed",
        row.breaker_open_since / 1e6 if is_open else None,
        row.breaker_open_until / 1e6 if is_open and not is_probing else None,
        row.paused_until / 1e6 if is_paused else None,
        row.pause_reason if is_paused else None,
    )


def run_totals(connection: Connection, run_id: int, brought: Sequence[Any]) -> RunTotals:
    """What one run has come to; `brought` are the rows of `DONE_BY_WORKER`."""
    this = {"run": run_id}
    crew = {row.id for row in connection.execute(ask.CREW, this)}
    fetched, cached = ([row for row in brought if row[0] in crew and row[1] == where] for where in (0, 1))
    failed = connection.execute(ask.RUN_FAILED, this)
    return RunTotals(
        fetched=sum(row[2] for row in fetched),
        cached=sum(row[2] for row in cached),
        retrying=connection.execute(ask.RUN_RETRIED, this).scalar_one(),
        bytes_fetched=sum(row[3] for row in fetched),
        failures=tuple((ErrorClass(name), count) for name, count in failed),
    )
