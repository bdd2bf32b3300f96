"""O4, I8: lines of the log, their files and what becomes of them when the disk is full."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from midasdl.ledger.figures import KeptStep, Move
from midasdl.metrics import records
from midasdl.metrics.logs import Log, LogFiles
from midasdl.metrics.performance import Alert, Record
from midasdl.metrics.records import LogRecord, as_json, as_text
from midasdl.models import ErrorClass
from midasdl.progress.events import DownloadFailed, Waiting

NOW_US = 1_790_000_000_123_456
RECORD = Record(30.0, 9.5, 120_000.0, 0.01, 61.25, is_telling=True)


def line(words: str = "words", level: int = logging.INFO, **facts: Any) -> LogRecord:
    return LogRecord(NOW_US, level, "test", words, facts)


def log_to(folder: Path, told: list[str], **how: Any) -> Log:
    settings: dict[str, Any] = {"level": logging.INFO, "max_bytes": 1_000_000, "backups": 2, **how}
    files = {"json_file": folder / "run.jsonl", "text_file": folder / "run.log"}
    return Log(LogFiles(**{**files, **settings}), told.append)


@pytest.mark.parametrize(
    ("record", "action", "level", "facts"),
    [
        (records.run_started(NOW_US, {"unfinished": 5, "total": 7}), "run_started", "info", {"total": 7}),
        (
            records.run_ended(NOW_US, {"exit_code": 1, "done": 6, "failed": 1, "total": 7}),
            "run_ended",
            "info",
            {"exit_code": 1},
        ),
        (
            records.trouble(NOW_US, DownloadFailed(3, "data/a.csv", ErrorClass.TIMEOUT, "slow", True)),
            "download_failed",
            "info",
            {"task": 3, "path": "data/a.csv", "class": "timeout", "will_retry": True},
        ),
        (
            records.trouble(NOW_US, DownloadFailed(3, "data/a.csv", ErrorClass.NOT_FOUND, "404", False)),
            "download_failed",
            "warning",
            {"class": "not-found", "will_retry": False},
        ),
        (records.waiting(NOW_US, Waiting("CEDA is away")), "waiting", "warning", {"words": "CEDA is away"}),
        (
            records.performance(NOW_US, RECORD, RECORD),
            "performance",
            "info",
            {"files_per_s": 9.5, "mean_files_per_s": 9.5, "latency_ms": 61.25},
        ),
        (
            records.alert_begun(NOW_US, Alert("slow", 1.0, "Slower")),
            "alert_begun",
            "warning",
            {"kind": "slow"},
        ),
        (records.alert_ended(NOW_US, Alert("slow", 1.0, "Slower")), "alert_ended", "info", {"kind": "slow"}),
        (records.lines_dropped(NOW_US, 7), "lines_dropped", "warning", {"count": 7}),
        (
            records.move(Move(9, NOW_US, 3, "data/a.csv", "pending", "in_progress", "worker-1", "claimed")),
            "task_moved",
            "debug",
            {"task": 3, "from": "pending", "to": "in_progress", "worker": "worker-1"},
        ),
        (
            records.server_step(KeptStep(1, NOW_US, "dap:443", "throttle", "100%", "50%", "many errors")),
            "server_step",
            "info",
            {"host": "dap:443", "from": "100%", "to": "50%"},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_o4_each_sort_of_line_has_its_action_its_level_and_its_facts(
    record: LogRecord, action: str, level: str, facts: dict[str, Any]
) -> None:
    """O4: a program finds lines by action and identity; a person reads the same in a sentence."""
    found = json.loads(as_json(record))

    assert (found["at"], found["action"], found["level"]) == ("2026-09-21T14:13:20.123456Z", action, level)
    assert found.items() >= facts.items()
    assert re.fullmatch(rf"2026-09-21T14:13:20Z {level} +\S.*", as_text(record))


def test_o4_a_line_stays_one_line_whatever_stands_in_it(tmp_path: Path) -> None:
    """O4: line breaks and control characters of a server's answer make no second line."""
    log = log_to(tmp_path, [])
    log(line("first\nsecond\r\x1b[2J", path="data/\n\u2028.csv"))
    log.close()

    assert len((tmp_path / "run.jsonl").read_bytes().split(b"\n")) == 2
    assert len((tmp_path / "run.log").read_bytes().split(b"\n")) == 2
    assert (tmp_path / "run.log").read_text().endswith("first second [2J\n")
    assert json.loads((tmp_path / "run.jsonl").read_text())["path"] == "data/\n\u2028.csv"


def test_o4_levels_leave_out_what_is_below_them(tmp_path: Path) -> None:
    log = log_to(tmp_path, [], level=logging.WARNING)
    log(line("quiet", logging.INFO))
    log(line("loud", logging.WARNING))
    log.close()
    assert "loud" in (tmp_path / "run.log").read_text()
    assert "quiet" not in (tmp_path / "run.log").read_text() + (tmp_path / "run.jsonl").read_text()


@pytest.mark.effect_of("logging.max_bytes", "logging.backups")
def test_o4_logs_are_rotated_at_their_size_and_only_so_many_are_kept(tmp_path: Path) -> None:
    """O4: no file is larger than asked, no more than asked are kept, and every kept line is whole."""
    log = log_to(tmp_path, [], max_bytes=5_000, backups=2)
    for number in range(300):
        log(line("x" * 100, number=number))
    log.close()

    files = sorted(tmp_path.glob("run.jsonl*"))
    assert [file.name for file in files] == ["run.jsonl", "run.jsonl.1", "run.jsonl.2"]
    assert all(file.stat().st_size <= 5_000 for file in files)
    kept = [json.loads(text)["number"] for file in reversed(files) for text in file.read_text().splitlines()]
    assert kept == list(range(kept[0], 300))


def test_i8_a_full_log_disk_is_told_once_and_stops_nothing(tmp_path: Path) -> None:
    """I8: /dev/full takes no byte; the other file gets every line."""
    (tmp_path / "run.jsonl").symlink_to("/dev/full")
    told: list[str] = []
    log = log_to(tmp_path, told)

    for _ in range(50):
        log(line())
    log.close()

    assert told == [
        f"The log {tmp_path / 'run.jsonl'} cannot be written (No space left on device); the run goes on without it."
    ]
    assert len((tmp_path / "run.log").read_text().splitlines()) == 50


def test_i8_a_log_that_can_be_written_again_goes_on_with_whole_lines(tmp_path: Path) -> None:
    """I8: its folder was away for a while; what comes afterwards is written, and told."""
    folder = tmp_path / "away"
    told: list[str] = []
    log = log_to(folder, told)
    log(line("lost"))
    folder.mkdir()
    log(line("kept", number=1))
    log(line("kept", number=2))
    log.close()

    lines = [json.loads(text) for text in (folder / "run.jsonl").read_text().splitlines() if text]
    assert [found["number"] for found in lines] == [1, 2]
    assert [text for text in told if "run.jsonl" in text] == [
        f"The log {folder / 'run.jsonl'} cannot be written (No such file or directory); the run goes on without it.",
        f"The log {folder / 'run.jsonl'} can be written again; some lines are missing.",
    ]


def test_no_logger_is_registered(tmp_path: Path) -> None:
    """U6: what an embedding program does with `logging` is its own affair."""
    before = set(logging.Logger.manager.loggerDict), list(logging.getLogger().handlers)
    log = log_to(tmp_path, [])
    log(line())
    log.close()
    assert (set(logging.Logger.manager.loggerDict), list(logging.getLogger().handlers)) == before
