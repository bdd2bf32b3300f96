"""Collects the figures of a run: events and pictures as they come, the ledger and the memory in a thread."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from midasdl.clock import Clock
from midasdl.ledger.figures import RunFigures, Standing
from midasdl.metrics.figures import NOT_SEEN, Ending, Figures, Place, Times
from midasdl.metrics.performance import Alert, Totals
from midasdl.metrics.rolling import Curve, Window
from midasdl.progress.events import DownloadCompleted, DownloadFailed, Event
from midasdl.progress.snapshot import Snapshot

SHARE_OF_TIME = 50
"""Reading the ledger takes no more than one part of so many of a processor, however large it is."""

MEMORY_EVERY_S = 5.0

CURVE_WINDOW_S = 10.0
"""A point of the curve is a mean over this, or over the time between two looks."""


class Gatherer:
    """Everything that is known of a run.

    Parameters
    ----------
    figures : RunFigures
    place : Place
    first : Snapshot
        Until the first picture comes.
    memory : callable
        Resident bytes of the coordinator and its workers, given the workers' process numbers.
    effort_s : callable
        How long this thread has kept a processor busy so far.

    Notes
    -----
    Concurrency: `follow` and `show` belong to the coordinator's thread and never wait for the ledger; `gather` belongs
    to one other thread; `latest` and the properties may be read from any.
    """

    def __init__(
        self,
        figures: RunFigures,
        place: Place,
        first: Snapshot,
        clock: Clock,
        memory: Callable[[Iterable[int]], Mapping[str, int]],
        effort_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self._figures = figures
        self._clock = clock
        self._memory = memory
        self._effort_s = effort_s
        self._read_due_s = clock.monotonic()
        self._lock = threading.Lock()
        self._errors: Counter[tuple[str, bool]] = Counter()
        self._times = Times()
        self._took_s: list[float] = []
        self._snapshot = first
        self._shown_s = self._began_s = clock.monotonic()
        self._standing = NOT_SEEN
        self._measured: Mapping[str, int] = {}
        self._measured_s: float | None = None
        self._task_seconds: dict[str, float] = {}
        self._worker_seconds = self._busy_seconds = 0.0
        self._looked_s: float | None = None
        self._shifts, self._lately, self._curve = Window(), Window(CURVE_WINDOW_S), Curve()
        self._alerts: tuple[Alert, ...] = ()
        self.latest = Figures(place, clock.now_us(), first)

    def follow(self, event: Event) -> None:
        """Take in one message."""
        with self._lock:
            if isinstance(event, DownloadCompleted):
                self._took_s.append(event.elapsed_us / 1e6)
            elif isinstance(event, DownloadFailed):
                self._errors[str(event.error_class), event.will_retry] += 1

    def show(self, snapshot: Snapshot) -> None:
        """Take in a picture."""
        self._snapshot, self._shown_s = snapshot, self._clock.monotonic()

    def warn(self, alerts: tuple[Alert, ...]) -> None:
        """Say from now on what is worse than usual."""
        self._alerts = alerts

    @property
    def silent_s(self) -> float:
        """For how long the coordinator has shown nothing."""
        return self._clock.monotonic() - self._shown_s

    def gather(self, ending: Ending | None = None) -> Figures:
        """Look at everything once; where the ledger cannot be read now, what was read last stays."""
        now_s = self._clock.monotonic()
        if ending is not None or now_s >= self._read_due_s:
            self._read(now_s)
        with self._lock:
            errors, took_s, self._took_s = dict(self._errors), self._took_s, []
        times = self._times = self._times.with_others(took_s)
        snapshot = self._snapshot
        self._add_up(now_s)
        busy, alive = self._shifts.add(now_s, (self._busy_seconds, self._worker_seconds))
        self._curve.add(
            snapshot.elapsed_s,
            *self._lately.add(now_s, (snapshot.bytes_fetched, snapshot.fetched + snapshot.cached)),
        )
        self.latest = replace(
            self.latest,
            at_us=self._clock.now_us(),
            snapshot=snapshot,
            standing=self._standing,
            errors=errors,
            times=times,
            memory=self._memory_now(now_s),
            task_seconds=dict(self._task_seconds),
            busy_share=min(busy / alive, 1.0) if alive > 0 else None,
            curve=self._curve.points,
            alerts=() if ending else self._alerts,
            ending=ending,
        )
        return self.latest

    def _read(self, now_s: float) -> None:
        began_s = self._effort_s()
        with suppress(Exception):
            self._standing = never_less(self._standing, self._figures.read())
        self._read_due_s = now_s + SHARE_OF_TIME * (self._effort_s() - began_s)

    def totals(self) -> Totals:
        """The sums of which records of performance are made."""
        latest = self.latest
        requests = latest.standing.requests
        snapshot = latest.snapshot
        finished = snapshot.fetched + snapshot.cached + sum(count for _, count in snapshot.failures)
        good = sum(count for (_, outcome), count in requests.items() if outcome == "ok")
        return Totals(
            at_s=self._clock.monotonic() - self._began_s,
            finished=finished,
            bytes_fetched=snapshot.bytes_fetched,
            requests=sum(requests.values()),
            errors=sum(requests.values()) - good,
            answers=latest.standing.answers,
            latency_us=latest.standing.latency_us,
            unfinished=snapshot.tasks.left,
            held_back=snapshot.workers == 0
            or not latest.standing.has_work
            or any(
                row["breaker"] != "closed" or row["paused_until"] is not None
                for row in latest.standing.servers
            ),
        )

    def _add_up(self, now_s: float) -> None:
        """Add the time since the last look to the states and to the workers, as they are now."""
        elapsed_s = now_s - self._looked_s if self._looked_s is not None else 0.0
        self._looked_s = now_s
        for state, count in replace(self.latest, snapshot=self._snapshot).depths.items():
            self._task_seconds[state] = self._task_seconds.get(state, 0.0) + count * elapsed_s
        self._worker_seconds += len(self._standing.workers) * elapsed_s
        idle = sum(worker.doing == "idle" for worker in self._standing.workers)
        self._busy_seconds += (len(self._standing.workers) - idle) * elapsed_s

    def _memory_now(self, now_s: float) -> Mapping[str, int]:
        if self._measured_s is None or now_s - self._measured_s >= MEMORY_EVERY_S:
            self._measured_s = now_s
            with suppress(Exception):
                self._measured = self._memory(worker.pid for worker in self._standing.workers)
        return self._measured


def never_less(before: Standing, now: Standing) -> Standing:
    """Let counts that may only grow do so, whatever was trimmed from the ledger meanwhile."""
    requests = {**before.requests, **now.requests}
    grown = {key: max(count, before.requests.get(key, 0)) for key, count in requests.items()}
    return replace(
        now,
        requests=grown,
        answers=max(now.answers, before.answers),
        latency_us=max(now.latency_us, before.latency_us),
    )


def resident_bytes(workers: Iterable[int]) -> dict[str, int]:
    """Resident memory of this process, and of workers together."""
    import psutil

    total = 0
    for pid in workers:
        with suppress(psutil.Error):
            total += psutil.Process(pid).memory_info().rss
    return {"coordinator": psutil.Process(os.getpid()).memory_info().rss, "workers": total}
