"""Everything that is known of a run at one moment, and how it is said in JSON. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from midasdl.clock import iso_utc
from midasdl.ledger.figures import Standing, WorkerNow
from midasdl.metrics.performance import Alert
from midasdl.progress.snapshot import Phase, Snapshot, Tally
from midasdl.version import __version__

STATUS_SCHEMA = 1
"""Raised when a field of the status changes its meaning or goes away."""

TIMES_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Bounds between which the times of downloads are counted."""

NOT_SEEN = Standing({}, {}, 0, 0, (), ())


@dataclass(frozen=True, slots=True)
class Times:
    """How long downloads took.

    Attributes
    ----------
    counts : tuple of int
        How many took up to each of `TIMES_S`, and longer than the last.
    sum_s : float
        All of them together.
    """

    counts: tuple[int, ...] = (0,) * (len(TIMES_S) + 1)
    sum_s: float = 0.0

    def with_others(self, seconds: Collection[float]) -> Times:
        """Take in some downloads."""
        counts = list(self.counts)
        for each in seconds:
            counts[bisect_left(TIMES_S, each)] += 1
        return Times(tuple(counts), self.sum_s + sum(seconds))

    @property
    def mean_s(self) -> float | None:
        """The mean time; None before the first."""
        return self.sum_s / sum(self.counts) if any(self.counts) else None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended."""

    exit_code: int


@dataclass(frozen=True, slots=True)
class Place:
    """Which run it is.

    Attributes
    ----------
    started_us : int
        When it began, since 1970.
    """

    ledger: str
    data_root: str
    pid: int
    started_us: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that is known of a run at one moment.

    Attributes
    ----------
    errors : mapping of (str, bool) to int
        Requests of this run that failed, by class and whether they are tried again.
    times : Times
        Of the downloads of this run.
    memory : mapping of str to int
        Resident bytes of the coordinator and of its workers together.
    task_seconds : mapping of str to float
        How long tasks have been in each state during this run, all of them together.
    busy_share : float or None
        Share of the workers' time in which they had something at hand, over the last minute.
    curve : tuple
        Seconds since the beginning, bytes a second, files a second.
    ending : Ending or None
        None while the run is on.
    """

    place: Place
    at_us: int
    snapshot: Snapshot
    standing: Standing = NOT_SEEN
    errors: Mapping[tuple[str, bool], int] = field(default_factory=dict)
    times: Times = Times()
    memory: Mapping[str, int] = field(default_factory=dict)
    task_seconds: Mapping[str, float] = field(default_factory=dict)
    busy_share: float | None = None
    curve: tuple[tuple[float, ...], ...] = ()
    alerts: tuple[Alert, ...] = ()
    ending: Ending | None = None

    @property
    def depths(self) -> dict[str, int]:
        """Tasks by state, in the picture that everybody is shown."""
        tasks = self.snapshot.tasks
        claimed = min(self.snapshot.claimed, tasks.left)
        return {
            "pending": tasks.left - claimed,
            "in_progress": claimed,
            "failed": tasks.failed,
            "done": tasks.done,
        }

    @property
    def workers(self) -> dict[str, int]:
        """Living workers by what they are doing."""
        names = ("requesting", "waiting", "working", "idle")
        doing = [worker.doing for worker in self.standing.workers]
        return {name: doing.count(name) for name in names}

    @property
    def cache_share(self) -> float | None:
        """The share of what was finished in this run that was on disk already."""
        finished = self.snapshot.fetched + self.snapshot.cached
        return self.snapshot.cached / finished if finished else None

    @property
    def phase(self) -> str:
        """What the run is busy with as a whole; ``ended`` once it is known how it ended."""
        if self.ending is not None:
            return str(Phase.ENDED)
        return str(self.snapshot.phase)


def status_of(figures: Figures) -> dict[str, Any]:
    """The status as JSON has it; `docs/figures.md` describes each field."""
    snapshot = figures.snapshot
    return {
        "schema": STATUS_SCHEMA,
        "version": __version__,
        "phase": figures.phase,
        "exit_code": figures.ending.exit_code if figures.ending else None,
        "at": iso_utc(figures.at_us),
        "started_at": iso_utc(figures.place.started_us),
        "elapsed_s": round(snapshot.elapsed_s, 1),
        "ledger": figures.place.ledger,
        "data_root": figures.place.data_root,
        "pid": figures.place.pid,
        "eta_s": _rounded(snapshot.eta_s, 1),
        "eta_confidence": None if snapshot.eta_s is None else str(snapshot.eta_confidence),
        "notice": snapshot.notice,
        "files": _tally(snapshot.files),
        "tasks": {"total": snapshot.tasks.total, **figures.depths},
        "bytes": {"done": snapshot.bytes_done, "expected": snapshot.bytes_expected},
        "run": {
            "fetched": snapshot.fetched,
            "cached": snapshot.cached,
            "retrying": snapshot.retrying,
            "bytes_fetched": snapshot.bytes_fetched,
            "bytes_per_s": round(snapshot.bytes_per_s),
            "files_per_s": round(snapshot.files_per_s, 3),
            "mean_download_s": _rounded(figures.times.mean_s, 4),
            "cache_hit_share": _rounded(figures.cache_share, 4),
        },
        "errors": _errors(figures.errors),
        "failures": dict(sorted(figures.standing.failed.items())),
        "requests": _requests(figures.standing.requests),
        "workers": {
            "alive": snapshot.workers,
            **figures.workers,
            "busy_share": _rounded(figures.busy_share, 4),
            "each": [_worker(worker) for worker in figures.standing.workers],
        },
        "servers": [_server(row) for row in figures.standing.servers],
        "memory_bytes": dict(figures.memory),
        "task_seconds": {name: round(value, 1) for name, value in figures.task_seconds.items()},
        "curve": [[round(value, 2) for value in point] for point in figures.curve],
        "alerts": [
            {"kind": alert.kind, "since_s": round(alert.since_s, 1), "words": alert.words}
            for alert in figures.alerts
        ],
    }


SERVER_FIELDS = (
    *("host", "requests", "success_rate", "p50_ms", "p95_ms", "p99_ms", "active_requests"),
    *("consecutive_errors", "breaker", "unavailable_since", "tries_again_at", "paused_until"),
    *("pause_reason", "throttle_share", "throttle_reason"),
)
"""Columns of the view ``health`` that the status shows."""


def _server(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in SERVER_FIELDS}


def _tally(tally: Tally) -> dict[str, int]:
    return {"total": tally.total, "done": tally.done, "failed": tally.failed}


def _worker(worker: WorkerNow) -> dict[str, Any]:
    return {
        "name": worker.name,
        "pid": worker.pid,
        "doing": worker.doing,
        "claimed": worker.claimed,
        "path": worker.path,
    }


def _errors(errors: Mapping[tuple[str, bool], int]) -> dict[str, dict[str, int]]:
    classes = sorted({name for name, _ in errors})
    return {
        name: {"retried": errors.get((name, True), 0), "failed": errors.get((name, False), 0)}
        for name in classes
    }


def _requests(requests: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    hosts: dict[str, dict[str, int]] = {}
    for (host, outcome), count in sorted(requests.items()):
        hosts.setdefault(host, {})[outcome] = count
    return hosts


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
