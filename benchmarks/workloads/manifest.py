"""Loading a manifest, beside the sqlite3 shell that imports the same file and builds two indexes."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import Bench, Result, Series, Target, ratio
from benchmarks.contenders import MIDASDL
from benchmarks.many_lines import write_manifest

TITLE = "loading a manifest of a million lines, and of two"
LINES = 1_000_000
SHELL = """
CREATE TABLE line (md5 TEXT, blank TEXT, path TEXT);
.mode list
.separator " " "\\n"
.import {manifest} line
CREATE UNIQUE INDEX line_path ON line (path);
CREATE INDEX line_md5 ON line (md5);
"""


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    elapsed_s: float
    cpu_s: float
    peak_mb: float


def measure(bench: Bench) -> Result:
    """Both in turn, then twice the lines."""
    lines = bench.files(LINES)
    with bench.scratch("manifest") as folder:
        one = write_manifest(folder / "one.txt", lines)
        two = write_manifest(folder / "two.txt", 2 * lines)
        shell, ours, twice = [], [], []
        for number in range(min(bench.rounds, 3)):
            shell.append(_shell(folder, one))
            ours.append(_init(folder, one))
            bytes_a_file = (folder / "progress.db").stat().st_size / lines
            twice.append(_init(folder, two))
            bench.say(
                f"  round {number + 1}  shell {shell[-1].cpu_s:.1f} s, init {ours[-1].cpu_s:.1f} s, of twice that "
                f"{twice[-1].cpu_s:.1f} s"
            )
    against = ratio([each.cpu_s for each in ours], [each.cpu_s for each in shell])
    growth = ratio([each.cpu_s for each in twice], [each.cpu_s for each in ours])
    peak_mb = max(each.peak_mb for each in [*ours, *twice])
    return Result(
        "manifest",
        TITLE,
        (
            Series("midasdl init", "s of CPU", tuple(each.cpu_s for each in ours), "parses, checks, reports"),
            Series("sqlite3 .import", "s of CPU", tuple(each.cpu_s for each in shell), "imports as it is"),
            Series("midasdl init", "s", tuple(each.elapsed_s for each in ours)),
            Series("sqlite3 .import", "s", tuple(each.elapsed_s for each in shell)),
        ),
        (
            Target("time against the sqlite3 shell", against, 1.5, 1, at_least=False),
            Target("growth from one to two million lines", growth, 2.1, 2.1, at_least=False),
            Target("peak memory, two million lines too", peak_mb, 150, 100, "MB", at_least=False),
            Target("ledger per file", bytes_a_file, 600, 450, "bytes", at_least=False),
        ),
        (
            f"{statistics.median(each.cpu_s for each in ours) / lines * 1e6:.1f} us of CPU a line, start included.",
        ),
    )


def _shell(folder: Path, manifest: Path) -> Cost:
    database = folder / "shell.db"
    database.unlink(missing_ok=True)
    return _cost_of(["sqlite3", str(database)], folder, SHELL.format(manifest=manifest))


def _init(folder: Path, manifest: Path) -> Cost:
    (folder / "progress.db").unlink(missing_ok=True)
    return _cost_of([*MIDASDL, "-q", "init", str(manifest), "--dest", "out"], folder)


def _cost_of(command: list[str], folder: Path, told: str = "") -> Cost:
    """Run a command to its end.

    Raises
    ------
    RuntimeError
    """
    started_s = time.monotonic()
    (folder / "told").write_text(told)
    with (folder / "told").open() as stdin, (folder / "said").open("w") as stderr:
        process = subprocess.Popen(command, cwd=folder, stdin=stdin, stdout=subprocess.DEVNULL, stderr=stderr)
    _, status, usage = os.wait4(process.pid, 0)
    elapsed_s = time.monotonic() - started_s
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said = (folder / "said").read_text()
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {said}")
    return Cost(elapsed_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
