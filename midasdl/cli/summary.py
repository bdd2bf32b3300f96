"""The last words of a run: what was fetched, what failed and why, and what to type next."""

from __future__ import annotations

import csv
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from midasdl.cli.context import duration, number, plural, size
from midasdl.cli.damage import damage_lines
from midasdl.cli.output import Output
from midasdl.errors import WorkerCrashedError
from midasdl.job import RunResult
from midasdl.ledger.overview import FailureGroup, Overview
from midasdl.models import ErrorClass
from midasdl.progress.tracker import Snapshot

ADVICE: dict[ErrorClass, str] = {
    ErrorClass.TIMEOUT: "CEDA was slow; try again later",
    ErrorClass.CONNECTION: "check this machine's network, then try again",
    ErrorClass.INCOMPLETE: "the connection broke; try again",
    ErrorClass.THROTTLED: "CEDA asked to slow down; try again later",
    ErrorClass.UNAVAILABLE: "CEDA was overloaded; try again later",
    ErrorClass.SERVER_ERROR: "CEDA had errors of its own; try again later",
    ErrorClass.UNEXPECTED_PAGE: "CEDA sent a page instead of the file; try again later",
    ErrorClass.NOT_FOUND: "the release may not be complete at CEDA yet; try again in some days",
    ErrorClass.REJECTED: "CEDA does not accept the request; see the message",
    ErrorClass.FORBIDDEN: "accept the dataset's licence at CEDA, then try again",
    ErrorClass.CHECKSUM: "CEDA's copy differs from the manifest; try again, or write to support@ceda.ac.uk",
}


def tell_result(
    output: Output, result: RunResult, snapshot: Snapshot, overview: Overview, data_root: Path
) -> None:
    """Print the summary, and write the error log where something failed."""
    failures = overview.failures()
    log = write_error_log(overview, Path.cwd()) if failures else None
    output.record(
        "run",
        {
            "exit_code": int(result.exit_code),
            **asdict(result.counts),
            "files_done": snapshot.files.done,
            "files_failed": snapshot.files.failed,
            "fetched": snapshot.fetched,
            "cached": snapshot.cached,
            "retrying": snapshot.retrying,
            "bytes_fetched": snapshot.bytes_fetched,
            "elapsed_s": round(result.elapsed_s, 3),
            "worker_deaths": result.report.deaths,
            "stopped_by": result.report.stopped_by,
            "failures": [asdict(group) for group in failures],
            "error_log": log,
            "data_root": data_root,
        },
    )
    damage = damage_lines(overview.damaged())
    for line in [*_headline(result, snapshot, data_root), *_failure_lines(failures, log), *damage]:
        words = line.lstrip(" ")
        output.say(words, indent=line[: len(line) - len(words)])
    if result.report.error is not None:
        output.error(result.report.error)
        if output.verbose >= 2 and isinstance(result.report.error, WorkerCrashedError):
            output.note(result.report.error.trace)


def _headline(result: RunResult, snapshot: Snapshot, data_root: Path) -> list[str]:
    files = snapshot.files
    if snapshot.fetched + snapshot.cached + files.failed + files.left == 0:
        return [f"Nothing to do: all {number(files.total)} files are in {data_root}."]
    mean = snapshot.bytes_fetched / result.elapsed_s if result.elapsed_s else 0.0
    lines = [
        f"Fetched {plural(snapshot.fetched, 'file')} ({size(snapshot.bytes_fetched)}) in "
        f"{duration(result.elapsed_s)}, {size(mean)}/s{_by_the_way(snapshot)}."
    ]
    if result.report.deaths:
        lines.append(f"{plural(result.report.deaths, 'worker')} died; others took over the files.")
    if result.report.stopped_by:
        lines.append(f"Stopped early, as {result.report.stopped_by} says.")
    if files.failed + files.left == 0:
        return [*lines, f"All {number(files.total)} files are in {data_root}, complete and verified."]
    waiting = f"{number(files.left)} are still to be fetched" if files.left else ""
    failed = f"{number(files.failed)} failed" if files.failed else ""
    lines.append(f"Of {number(files.total)} files {' and '.join(filter(None, [failed, waiting]))}.")
    if files.left:
        lines.append("Go on with: midasdl resume")
    return lines


def _by_the_way(snapshot: Snapshot) -> str:
    """What else this run has seen."""
    cached = f"; {number(snapshot.cached)} were on disk already" if snapshot.cached else ""
    retried = f"; {plural(snapshot.retrying, 'request')} had to be tried again" if snapshot.retrying else ""
    return cached + retried


def _failure_lines(failures: list[FailureGroup], log: Path | None) -> list[str]:
    """Failures by class with what to do, and the commands that try them again."""
    if not failures:
        return []
    lines = ["Failed:"]
    for group in failures:
        advice = ADVICE.get(group.error_class, "see the message")
        lines.append(f"  {number(group.tasks)} x {group.error_class}: {advice}")
        lines.append(f"      such as {group.example_path}: {group.example_message}")
    everything = log or 'this folder cannot be written to; midasdl sql "SELECT * FROM failures"'
    lines += [f"All of them: {everything}", "Try them again with: midasdl run --retry-failed"]
    if len(failures) > 1:
        lines.append(f"or one class of them: midasdl retry --class {failures[0].error_class} && midasdl run")
    return lines


def write_error_log(overview: Overview, folder: Path) -> Path | None:
    """Write every failure to ``download-errors-<date>.log``, tab-separated; None if that cannot be written."""
    path = folder / f"download-errors-{datetime.now(UTC):%Y-%m-%d}.log"
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, dialect="excel-tab")
            writer.writerow(("when", "class", "http_status", "attempts", "md5", "path", "message"))
            writer.writerows(overview.failed_paths())
    except OSError:
        return None
    return path
