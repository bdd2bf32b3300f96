"""A run as others see it: the same picture that the run makes of itself, made from the ledger alone.

What has ended lately is told to a tracker as if workers had sent it, so that speed, sizes and the predicted end come
from the same functions. Nothing here walks all tasks but a full reading, now and then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row

from midasdl.identity import ProcessIdentity
from midasdl.ledger import reading_statements as ask
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.reading import LedgerReader
from midasdl.models import ErrorClass, TaskState
from midasdl.progress.events import (
    CacheHit,
    CrewChanged,
    DownloadCompleted,
    DownloadFailed,
    DownloadStarted,
    Event,
    PaceChanged,
)
from midasdl.progress.pace import ENOUGH_FILES, LONGEST_WINDOW_S, WINDOW_S
from midasdl.progress.snapshot import Phase, Reading, Snapshot
from midasdl.progress.tracker import Tracker

PAUSE = "pause"

FIRST_SPAN = 2_000
LONGEST_SPAN = 200_000
"""Tasks are claimed in the order of their numbers, so what has ended lately stands just before what is claimed next:
so many numbers are looked at, and more where their beginning has ended lately, too."""


@dataclass(frozen=True, slots=True)
class _Run:
    """The latest run: when it began, and whether it is still on."""

    run_id: int
    started_us: int
    ended_us: int | None


class LedgerWatch:
    """Makes snapshots of the latest run from its ledger.

    Notes
    -----
    Concurrency: belongs to one thread; delays nobody, but where the ledger has no write-ahead log.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._clock = ledger.clock
        self._run: _Run | None = None
        self._reader = LedgerReader(ledger)
        self._tracker: Tracker | None = None
        self._began_us = 0
        self._seen_us: int | None = None
        self._was_on = True

    def snapshot(self) -> Snapshot:
        """How things stand."""
        with self._ledger.read() as connection:
            run = self._latest_run(connection)
            if self._tracker is None or run is None or self._run is None or run.run_id != self._run.run_id:
                self._begin(run)
            self._run = run
            is_on = run is not None and run.ended_us is None
            reading = self._reader.read_in(connection, whole=self._was_on and not is_on)
            self._was_on = is_on
            return self._picture(connection, reading, run)

    def run_is_on(self) -> bool:
        """Whether the latest run is on: it has no end, and not all of its processes are gone."""
        with self._ledger.read() as connection:
            run = self._latest_run(connection)
        return run is not None and run.ended_us is None

    def _begin(self, run: _Run | None) -> None:
        """Another run, or the first look: what is known of speed and counts begins anew."""
        began_us = self._clock.now_us() if run is None else run.started_us
        ago_s = (self._clock.now_us() - began_us) / 1e6
        self._reader = LedgerReader(self._ledger, None if run is None else run.run_id)
        self._tracker = Tracker(2**62, 0, 0, self._clock.monotonic() - ago_s)
        self._began_us, self._seen_us = began_us, None
        self._was_on = True

    def _picture(self, connection: Connection, reading: Reading, run: _Run | None) -> Snapshot:
        tracker = self._tracker
        assert tracker is not None  # noqa: S101 - made by _begin
        for row in self._news(connection):
            tracker.follow(event_of(row), self._monotonic_at(row.finished_at))
        now_s = self._clock.monotonic()
        if reading.groups is not None:
            tracker.settle(reading, now_s)
        else:
            tracker.learn(reading, now_s, at_once=True)
        is_on = run is not None and run.ended_us is None
        tracker.follow(CrewChanged(reading.workers, 0, stopping=False), now_s)
        if run is not None and is_on:
            self._tell_pace(connection, tracker, run)
        self._tell_active(connection, tracker, now_s)
        snapshot = tracker.snapshot(now_s, reading.workers if is_on else 0, ended=not is_on)
        if run is None:
            return replace(snapshot, phase=Phase.NOT_STARTED, elapsed_s=0.0)
        until_us = self._clock.now_us() if run.ended_us is None else run.ended_us
        return replace(snapshot, elapsed_s=max(0.0, (until_us - run.started_us) / 1e6))

    def _tell_pace(self, connection: Connection, tracker: Tracker, run: _Run) -> None:
        """The last word of the schedule: a pause is told as long as it lasts."""
        row = connection.execute(ask.PACE, {"since": run.started_us}).first()
        if row is not None:
            change = PaceChanged("profile", row.from_value, row.to_value, row.reason, row.to_value == PAUSE)
            tracker.follow(change, self._monotonic_at(row.at))

    def _news(self, connection: Connection) -> list[Row[Any]]:
        """What has ended since the last look; at the first one as much as speed and the end are known by."""
        if self._seen_us is not None:
            rows = ended_since(connection, self._seen_us)
        else:
            for window_s in (WINDOW_S, LONGEST_WINDOW_S):
                since_us = max(self._began_us, self._clock.now_us() - window_s * 1_000_000)
                rows = ended_since(connection, since_us)
                if len(rows) >= ENOUGH_FILES:
                    break
        self._seen_us = max([self._seen_us or self._began_us, *(row.finished_at for row in rows)])
        return rows

    def _tell_active(self, connection: Connection, tracker: Tracker, now_s: float) -> None:
        tracker.idle()
        for task_id, path in connection.execute(ask.ACTIVE):
            tracker.follow(DownloadStarted(task_id, path), now_s)

    def _latest_run(self, connection: Connection) -> _Run | None:
        """A run without an end whose coordinator is gone has ended all the same, when it was last heard of."""
        row = connection.execute(ask.RUN).first()
        if row is None:
            return None
        ended_us = row.ended_at
        if ended_us is None:
            crew = connection.execute(ask.CREW, {"run": row.id}).all()
            alive = [one for one in crew if one.state == "alive" and not _is_gone(one)]
            if crew and not alive:
                ended_us = max(one.ended_at or one.heartbeat_at for one in crew)
        return _Run(row.id, row.started_at, ended_us)

    def _monotonic_at(self, moment_us: int) -> float:
        return self._clock.monotonic() - (self._clock.now_us() - moment_us) / 1e6


def ended_since(connection: Connection, since_us: int) -> list[Row[Any]]:
    """Tasks that were done or failed after an instant, in their order; what was requeued in between may be missing."""
    frontier = connection.execute(ask.NEXT_FRESH).scalar_one()
    up_to = connection.execute(ask.LAST_TASK).scalar_one() or 0 if frontier is None else frontier - 1
    rows: list[Any] = []
    span, looked_at = FIRST_SPAN, 0
    while up_to > 0 and looked_at < LONGEST_SPAN:
        after = max(0, up_to - span)
        found = connection.execute(
            ask.ENDED_BETWEEN, {"after": after, "up_to": up_to, "since": since_us}
        ).all()
        rows += found
        looked_at += span
        if not any(row.id <= after + span // 2 for row in found):
            break
        up_to, span = after, span * 2
    return sorted(rows, key=lambda row: row.finished_at)


def event_of(row: Row[Any]) -> Event:
    """What a worker told when it ended a task, as far as its row remembers."""
    if row.state == TaskState.FAILED:
        error_class = ErrorClass(row.error_class)
        return DownloadFailed(row.id, row.path, error_class, "", will_retry=False, files=row.files)
    if row.from_cache:
        return CacheHit(row.id, row.path, row.size_bytes or 0, row.files)
    return DownloadCompleted(row.id, row.path, row.size_bytes or 0, row.elapsed_us or 0, row.files)


def _is_gone(row: Row[Any]) -> bool:
    return ProcessIdentity(row.host, row.pid, row.process_started).is_gone()
