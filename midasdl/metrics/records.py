"""What becomes a line of the log: an action, its level, and facts. Pure."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from midasdl.clock import iso_utc
from midasdl.ledger.figures import KeptStep, Move
from midasdl.metrics.performance import Alert, Record
from midasdl.progress.events import DownloadFailed, Waiting


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One line of the log.

    Attributes
    ----------
    action : str
        A word by which lines of one sort are found.
    words : str
        The same for a person.
    """

    at_us: int
    level: int
    action: str
    words: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def as_json(record: LogRecord) -> str:
    """A line for programs."""
    moment = f"{iso_utc(record.at_us)[:-1]}.{record.at_us % 1_000_000:06d}Z"
    level = logging.getLevelName(record.level).lower()
    line = {"at": moment, "level": level, "action": record.action, **record.facts, "words": record.words}
    return json.dumps(line, default=str)


def as_text(record: LogRecord) -> str:
    """A line for people."""
    printable = "".join(sign if sign.isprintable() else " " for sign in record.words)
    words = " ".join(printable.split())
    return f"{iso_utc(record.at_us)} {logging.getLevelName(record.level).lower():<7} {words}"


def run_started(at_us: int, facts: Mapping[str, Any]) -> LogRecord:
    """A run begins."""
    words = f"Run started: {facts['unfinished']} of {facts['total']} contents are to be fetched"
    return LogRecord(at_us, logging.INFO, "run_started", words, facts)


def run_ended(at_us: int, facts: Mapping[str, Any]) -> LogRecord:
    """A run has ended."""
    words = (
        f"Run ended with exit code {facts['exit_code']}: {facts['done']} of {facts['total']} done, "
        f"{facts['failed']} failed"
    )
    return LogRecord(at_us, logging.INFO, "run_ended", words, facts)


def trouble(at_us: int, event: DownloadFailed) -> LogRecord:
    """A download did not succeed."""
    fate = "will be tried again" if event.will_retry else "failed"
    facts = {
        "task": event.task_id,
        "path": event.path,
        "class": str(event.error_class),
        "will_retry": event.will_retry,
        "message": event.message,
    }
    level = logging.INFO if event.will_retry else logging.WARNING
    words = f"{event.path}: {event.message} ({event.error_class}; {fate})"
    return LogRecord(at_us, level, "download_failed", words, facts)


def waiting(at_us: int, event: Waiting) -> LogRecord:
    """The run waits for something."""
    return LogRecord(at_us, logging.WARNING, "waiting", event.why, {})


def performance(at_us: int, record: Record, averages: Record) -> LogRecord:
    """How fast it went since the record before, and lately."""
    lately = {f"mean_{name}": value for name, value in asdict(averages).items() if not name.startswith("is_")}
    facts = {name: _rounded(value) for name, value in {**asdict(record), **lately}.items()}
    words = (
        f"{record.files_per_s:.1f} files/s, {record.bytes_per_s / 1e6:.2f} MB/s "
        f"(over {averages.seconds:.0f} s: {averages.files_per_s:.1f} files/s, {averages.bytes_per_s / 1e6:.2f} MB/s)"
    )
    return LogRecord(at_us, logging.INFO, "performance", words, facts)


def alert_begun(at_us: int, alert: Alert) -> LogRecord:
    """Something is worse than usual."""
    return LogRecord(at_us, logging.WARNING, "alert_begun", alert.words, {"kind": alert.kind})


def alert_ended(at_us: int, alert: Alert) -> LogRecord:
    """It is as usual again."""
    words = f"As usual again: no longer {alert.kind}"
    return LogRecord(at_us, logging.INFO, "alert_ended", words, {"kind": alert.kind})


def lines_dropped(at_us: int, count: int) -> LogRecord:
    """The log could not be written as fast as there was something to say."""
    words = f"{count} lines are missing here: the disk of the log was too slow"
    return LogRecord(at_us, logging.WARNING, "lines_dropped", words, {"count": count})


def move(kept: Move) -> LogRecord:
    """A task has changed its state."""
    facts = {
        "task": kept.task_id,
        "path": kept.path,
        "from": kept.from_state,
        "to": kept.to_state,
        "worker": kept.worker,
        "reason": kept.reason,
    }
    words = f"{kept.path}: {kept.from_state} -> {kept.to_state} ({kept.reason})"
    return LogRecord(kept.at_us, logging.DEBUG, "task_moved", words, facts)


def server_step(kept: KeptStep) -> LogRecord:
    """Throttle, breaker, profile or number of workers has changed, or a pause has begun."""
    facts = {
        "host": kept.host,
        "what": kept.what,
        "from": kept.from_value,
        "to": kept.to_value,
        "reason": kept.reason,
    }
    words = f"{kept.host}: {kept.what} {kept.from_value or 'none'} -> {kept.to_value}: {kept.reason}"
    return LogRecord(kept.at_us, logging.INFO, "server_step", words, facts)


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
