"""A snapshot as plain facts, for JSON and for whatever else is no person."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from midasdl.progress.snapshot import Snapshot

Facts = dict[str, Any]


def facts_of(snapshot: Snapshot) -> Facts:
    """Numbers, texts, lists and dictionaries only; seconds and bytes, names as in `Snapshot`."""
    files, tasks = snapshot.files, snapshot.tasks
    return {
        "phase": str(snapshot.phase),
        "files_total": files.total,
        "files_done": files.done,
        "files_failed": files.failed,
        "tasks_total": tasks.total,
        "tasks_done": tasks.done,
        "tasks_failed": tasks.failed,
        "share_done": round(files.share_done, 6),
        "claimed": snapshot.claimed,
        "fetched": snapshot.fetched,
        "cached": snapshot.cached,
        "retrying": snapshot.retrying,
        "failures": {str(name): count for name, count in snapshot.failures},
        "bytes_fetched": snapshot.bytes_fetched,
        "bytes_done": snapshot.bytes_done,
        "bytes_expected": snapshot.bytes_expected,
        "bytes_per_s": round(snapshot.bytes_per_s, 1),
        "files_per_s": round(snapshot.files_per_s, 3),
        "file_s": round(snapshot.file_s, 4),
        "elapsed_s": round(snapshot.elapsed_s, 3),
        "eta_s": None if snapshot.eta_s is None else round(snapshot.eta_s, 1),
        "eta_confidence": None if snapshot.eta_s is None else str(snapshot.eta_confidence),
        "workers": snapshot.workers,
        "starting": snapshot.starting,
        "active": [asdict(file) for file in snapshot.active],
        "latest_path": snapshot.latest_path,
        "notice": snapshot.notice,
        "servers": [asdict(server) for server in snapshot.servers],
    }
