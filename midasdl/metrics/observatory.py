"""Puts together what the settings ask for, and lets it follow a run."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from midasdl.clock import Clock
from midasdl.config import Settings
from midasdl.disk import write_whole
from midasdl.ledger.figures import MOST_ROWS, RunFigures
from midasdl.ledger.ledger import Ledger
from midasdl.metrics import records
from midasdl.metrics.aside import Aside
from midasdl.metrics.figures import Ending, Figures, Place, status_of
from midasdl.metrics.gatherer import Gatherer, resident_bytes
from midasdl.metrics.logs import Log, LogFiles
from midasdl.metrics.performance import Performance
from midasdl.metrics.records import LogRecord
from midasdl.metrics.statsd import StatsdAddress, StatsdPush
from midasdl.progress.events import DownloadFailed, Event, PaceChanged, Waiting
from midasdl.progress.snapshot import Snapshot
from midasdl.version import __version__

LINES_HELD = 10_000
"""Lines of the log that wait for a slow disk; what comes on top drops the oldest."""

SERVE_AGAIN_S = 10.0
"""How often a port that was taken is tried again."""

LOOK_AGAIN_S = 0.01

FAREWELL_S = 1.0
"""What is left to look at, to write and to push may take this long at the end; the rest is left out."""


class Observatory:
    """Watches a run for everybody who is not at its terminal.

    Parameters
    ----------
    ledger : Ledger
        Only read.
    settings : Settings
    data_root : Path
    first : Snapshot
        How things stand when the run begins.
    tell : callable
        Takes one sentence for the person at the terminal; called from the coordinator's thread.

    Notes
    -----
    Use as a context manager around the run. Nothing that it does can hold the run up or change what becomes of it
    (invariant I8): `follow` and `show` put things down and return.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: Settings,
        data_root: Path,
        first: Snapshot,
        tell: Callable[[str], None],
    ) -> None:
        self._clock: Clock = ledger.clock
        self._settings = settings
        self._tell = tell
        self._told: list[str] = []
        self._figures = RunFigures(ledger)
        place = Place(str(ledger.path), str(data_root), os.getpid(), self._clock.now_us())
        self._gatherer = Gatherer(self._figures, place, first, self._clock, resident_bytes)
        self._performance = Performance(self._gatherer.totals())
        self._recorded_s = self._clock.monotonic()
        self._pace_has_changed = False
        self._ending: Ending | None = None
        self._ended = threading.Event()
        self._outlets: list[Aside[Figures]] = []
        self._lines: Aside[LogRecord] | None = None
        self._log: Log | None = None
        self._last_move = self._last_step = self._dropped = 0
        self._server: Any = None
        self._serve_again_s = 0.0
        self._said_that_it_is_taken = False
        self._thread = threading.Thread(target=self._watch, daemon=True, name="observatory")

    def __enter__(self) -> Self:
        with suppress(Exception):
            self._open()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tell the end to everybody, for no longer than a moment."""
        if self._ending is None and error is not None:
            self._ending = Ending(int(getattr(error, "exit_code", 1)))
        until_s = self._clock.monotonic() + FAREWELL_S
        self._ended.set()
        self._thread.join(FAREWELL_S)
        with suppress(Exception):
            self._close(until_s)
        self._pass_on()

    def follow(self, event: Event) -> None:
        """Take in one message of a worker."""
        self._gatherer.follow(event)
        if isinstance(event, DownloadFailed):
            self._write(records.trouble(self._clock.now_us(), event))
        elif isinstance(event, Waiting):
            self._write(records.waiting(self._clock.now_us(), event))
        elif isinstance(event, PaceChanged):
            self._pace_has_changed = True

    def show(self, snapshot: Snapshot) -> None:
        """Take in a picture, and say what there is to be said."""
        self._gatherer.show(snapshot)
        self._pass_on()

    def ended(self, exit_code: int, snapshot: Snapshot) -> None:
        """Take in how the run ended."""
        self._gatherer.show(snapshot)
        self._ending = Ending(exit_code)

    @property
    def url(self) -> str | None:
        """Where the status page is."""
        return None if self._server is None else str(self._server.url)

    def _open(self) -> None:
        metrics = self._settings.metrics
        self._last_move, self._last_step = self._figures.newest()
        self._open_log()
        if metrics.status_file is not None:
            self._outlets.append(
                Aside("status file", StatusFile(metrics.status_file), tell=self._say_of(metrics.status_file))
            )
        if metrics.statsd_host:
            address = StatsdAddress(metrics.statsd_host, metrics.statsd_port, metrics.statsd_prefix)
            self._outlets.append(
                Aside("statsd", StatsdPush(address), tell=self._say_of(f"StatsD at {metrics.statsd_host}"))
            )
        self._serve()
        self._pass_on()

    def _open_log(self) -> None:
        wanted = self._settings.logging
        if wanted.json_file is None and wanted.text_file is None:
            return
        level = logging.getLevelNamesMapping()[wanted.level.upper()]
        files = LogFiles(wanted.json_file, wanted.text_file, level, wanted.max_bytes, wanted.backups)
        self._log = Log(files, self._told.append)
        self._lines = Aside("log", self._log, LINES_HELD)
        latest = self._gatherer.latest
        facts = {
            "version": __version__,
            "pid": latest.place.pid,
            "ledger": latest.place.ledger,
            "data_root": latest.place.data_root,
            "total": latest.snapshot.tasks.total,
            "unfinished": latest.snapshot.tasks.left,
            "settings": self._settings.model_dump(mode="json"),
        }
        self._write(records.run_started(self._clock.now_us(), facts))

    def _serve(self) -> None:
        """Listen where the settings say; a port that is taken is tried again later."""
        metrics = self._settings.metrics
        if metrics.port == 0 or self._server is not None:
            return
        from midasdl.metrics.server import StatusServer, is_loopback

        try:
            self._server = StatusServer(
                metrics.host, metrics.port, lambda: self._gatherer.latest, lambda: self._gatherer.silent_s
            )
        except OSError as error:
            self._serve_again_s = self._clock.monotonic() + SERVE_AGAIN_S
            if not self._said_that_it_is_taken:
                self._said_that_it_is_taken = True
                self._told.append(
                    f"No status page: {metrics.host} port {metrics.port} cannot be used ({error.strerror}). The run "
                    f"goes on without it and tries again every {SERVE_AGAIN_S:.0f} s; --metrics-port names another."
                )
            return
        self._told.append(f"Status page: {self.url} (for programs: /status and /metrics there)")
        if not is_loopback(metrics.host):
            self._told.append(f"Everybody who can reach {metrics.host} can look at it: there is no password.")

    def _watch(self) -> None:
        """Look again and again until the run has ended; then once more, so that the last figures are the last."""
        every_s = self._settings.metrics.interval_seconds
        if not self._is_watched:
            every_s = max(every_s, self._settings.logging.performance_seconds)
        pause_s = 0.0
        while not self._ended.wait(pause_s):
            with suppress(Exception):
                self._look()
            pause_s = every_s
        with suppress(Exception):
            self._look(self._ending or Ending(1))

    @property
    def _is_watched(self) -> bool:
        """Whether figures go anywhere; alerts reach the terminal all the same."""
        return bool(self._outlets) or self._lines is not None or self._settings.metrics.port != 0

    def _look(self, ending: Ending | None = None) -> None:
        latest = self._gatherer.gather(ending)
        self._write_what_the_ledger_kept(ending)
        now_s = self._clock.monotonic()
        if ending is None and now_s - self._recorded_s >= self._settings.logging.performance_seconds:
            self._recorded_s = now_s
            self._record_performance()
        if ending is None and now_s >= self._serve_again_s:
            self._serve()
        for outlet in self._outlets:
            outlet.post(latest)

    def _record_performance(self) -> None:
        if self._pace_has_changed:
            self._pace_has_changed = False
            self._performance.relearn()
        record, begun, over = self._performance.take(self._gatherer.totals())
        now_us = self._clock.now_us()
        averages = self._performance.averages()
        if averages is not None:
            self._write(records.performance(now_us, record, averages))
        for alert in begun:
            self._write(records.alert_begun(now_us, alert))
            self._told.append(f"{alert.words}.")
        for alert in over:
            self._write(records.alert_ended(now_us, alert))
        self._gatherer.warn(self._performance.alerts)

    def _write_what_the_ledger_kept(self, ending: Ending | None) -> None:
        """Steps of throttle and breaker, and, where they are wanted, changes of state of tasks."""
        if self._lines is None:
            return
        while steps := self._figures.steps_after(self._last_step):
            self._last_step = steps[-1].step_id
            for step in steps:
                self._write(records.server_step(step))
        while self._settings.logging.follows_tasks and self._lines_have_room(ending):
            moves = self._figures.moves_after(self._last_move)
            for kept in moves:
                self._write(records.move(kept))
            self._last_move = moves[-1].move_id if moves else self._last_move
            if len(moves) < MOST_ROWS:
                break
        if self._lines.dropped > self._dropped:
            more, self._dropped = self._lines.dropped - self._dropped, self._lines.dropped
            self._write(records.lines_dropped(self._clock.now_us(), more))

    def _lines_have_room(self, ending: Ending | None) -> bool:
        """Whether the log can take more; the ledger keeps what has to wait, until the end."""
        until_s = self._clock.monotonic() + (FAREWELL_S if ending else 0.0)
        while self._lines is not None and self._lines.held > LINES_HELD - MOST_ROWS:
            if self._clock.monotonic() >= until_s:
                return False
            self._clock.nap(LOOK_AGAIN_S)
        return True

    def _write(self, record: LogRecord) -> None:
        if self._lines is not None:
            self._lines.post(record)

    def _say_of(self, what: object) -> Callable[[Exception], None]:
        def say(error: Exception) -> None:
            why = getattr(error, "strerror", None) or str(error)
            self._told.append(f"{what}: {why}; the run goes on without it.")

        return say

    def _pass_on(self) -> None:
        while self._told:
            self._tell(self._told.pop(0))

    def _close(self, until_s: float) -> None:
        latest = self._gatherer.latest
        facts = {
            "exit_code": latest.ending.exit_code if latest.ending else None,
            "total": latest.snapshot.tasks.total,
            **latest.depths,
            "fetched": latest.snapshot.fetched,
            "cached": latest.snapshot.cached,
            "bytes_fetched": latest.snapshot.bytes_fetched,
            "elapsed_s": round(latest.snapshot.elapsed_s, 1),
        }
        self._write(records.run_ended(self._clock.now_us(), facts))
        for outlet in self._outlets:
            outlet.close(max(until_s - self._clock.monotonic(), 0.0))
        if self._lines is not None and self._log is not None:
            is_written = self._lines.close(max(until_s - self._clock.monotonic(), 0.1))
            if is_written:  # else its thread still has the files
                self._log.close()
        if self._server is not None:
            self._server.close()


class StatusFile:
    """Writes the status into a file, which is whole at every moment."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, figures: Figures) -> None:
        """Replace the file.

        Raises
        ------
        OSError
            It cannot be written; what stood there stays.
        """
        write_whole(self._path, json.dumps(status_of(figures)).encode() + b"\n")
