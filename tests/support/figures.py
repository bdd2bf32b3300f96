"""Figures of a run that never was, with something of everything."""

from __future__ import annotations

from typing import Any

from midasdl.ledger.figures import Standing, WorkerNow
from midasdl.metrics.figures import Figures, Place, Times
from midasdl.metrics.performance import Alert
from midasdl.models import ErrorClass
from midasdl.progress.snapshot import Confidence, Phase, Snapshot, Tally

HOST = "dap.ceda.ac.uk:443"
SERVER: dict[str, Any] = {
    "host": HOST,
    "requests": 101,
    "success_rate": 0.97,
    "errors": "unavailable 3",
    "p50_ms": 60.0,
    "p95_ms": 90.0,
    "p99_ms": 240.0,
    "active_requests": 2,
    "consecutive_errors": 0,
    "breaker": "closed",
    "unavailable_since": None,
    "tries_again_at": None,
    "paused_until": None,
    "pause_reason": None,
    "throttle_share": 0.5,
    "throttle_reason": "CEDA answered 503",
}
SNAPSHOT = Snapshot(
    files=Tally(210, 120, 2),
    tasks=Tally(200, 114, 2),
    phase=Phase.WORKING,
    claimed=4,
    fetched=98,
    cached=16,
    retrying=3,
    failures=((ErrorClass.NOT_FOUND, 2),),
    bytes_fetched=2_940_000,
    bytes_done=3_400_000,
    bytes_expected=6_000_000,
    bytes_per_s=49_000.0,
    files_per_s=1.9,
    eta_s=53.0,
    eta_confidence=Confidence.MEDIUM,
    elapsed_s=60.0,
    workers=2,
)


def ended(done: int, failed: int) -> Snapshot:
    """Nothing is left."""
    total = done + failed
    return Snapshot(Tally(total, done, failed), Tally(total, done, failed), phase=Phase.ENDED)


def some_figures(**changed: Any) -> Figures:
    """One moment of a run."""
    standing = Standing(
        failed={"not-found": 2},
        requests={(HOST, "ok"): 98, (HOST, "unavailable"): 3},
        answers=101,
        latency_us=6_060_000,
        workers=(
            WorkerNow("worker-1", 11, "requesting", 3, "data/a.csv"),
            WorkerNow("worker-2", 12, "idle", 0, None),
        ),
        servers=(SERVER,),
    )
    facts: dict[str, Any] = {
        "place": Place("/home/me/progress.db", "/home/me/midas-open", 10, 1_790_000_000_000_000),
        "at_us": 1_790_000_060_000_000,
        "snapshot": SNAPSHOT,
        "standing": standing,
        "errors": {("unavailable", True): 3, ("not-found", False): 2},
        "times": Times().with_others([0.07, 0.4]),
        "memory": {"coordinator": 70_000_000, "workers": 90_000_000},
        "task_seconds": {"pending": 9_000.0, "in_progress": 240.0},
        "busy_share": 0.97,
        "curve": ((0.0, 0.0, 0.0), (30.0, 40_000.0, 1.5), (60.0, 49_000.0, 1.9)),
        "alerts": (Alert("slow", 55.0, "Slower than usual"),),
    }
    return Figures(**{**facts, **changed})
