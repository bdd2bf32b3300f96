"""A ledger of a million finished files and a thousand to come: how soon work begins, and how soon one knows."""

from __future__ import annotations

import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from benchmarks.archives import SMALL_ONLY, make_archive
from benchmarks.bench import Bench, Result, Series, Target, ratio
from benchmarks.contenders import MIDASDL, Course, Midasdl
from benchmarks.many_lines import add_lines, write_manifest
from benchmarks.servers import slow_server
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.totals import Totals

TITLE = "resume and status on a million finished files"
DONE = 1_000_000
PENDING = 1_000
FINISHED = """
UPDATE task SET state = 'done', claim_no = 1, size_bytes = 12000 + id % 1000, from_cache = 0, http_status = 200,
       attempts = 1, first_claimed_at = 1795648562000000 + id * 1000, finished_at = 1795648562100000 + id * 1000,
       elapsed_us = 80000
 WHERE id > :pending
"""


def measure(bench: Bench) -> Result:
    """Each round from the same ledger."""
    with bench.scratch("resume") as folder:
        archive = make_archive(folder, bench.files(PENDING), SMALL_ONLY)
        add_lines(archive.manifest, write_manifest(folder / "more.txt", bench.files(DONE)))
        with slow_server(archive.root, 0.0) as server:
            runner = Midasdl(Course(archive, server.url, folder, 8))
            _finish_most(runner.folder / "loaded.db", len(archive.sums))
            with Ledger.open(runner.folder / "loaded.db") as ledger:
                Totals(ledger).count_if_due()  # as the run has done that finished the million
            first_request, status, version, bare = [], [], [], []
            for number in range(bench.rounds):
                server.forget()
                command = runner.prepare()
                began_s = time.monotonic()
                _run(command, runner)
                first_request.append(min(server.started_s) - began_s)
                status.append(_run([*MIDASDL, "status"], runner))
                version.append(_run([*MIDASDL, "--version"], runner))
                bare.append(_run([sys.executable, "-c", "pass"], runner))
                bench.say(
                    f"  round {number + 1}  first request after {first_request[-1]:.2f} s, status {status[-1]:.2f} s, "
                    f"--version {version[-1]:.3f} s, python alone {bare[-1]:.3f} s"
                )
            shutil.rmtree(runner.data_root, ignore_errors=True)
    return Result(
        "resume",
        TITLE,
        (
            Series("midasdl, first request", "s", tuple(first_request)),
            Series("midasdl status", "s", tuple(status)),
            Series("midasdl --version", "s", tuple(version)),
            Series("python -c pass", "s", tuple(bare)),
        ),
        (
            Target(
                "first request after the start",
                statistics.median(first_request),
                1.5,
                0.7,
                "s",
                at_least=False,
            ),
            Target("status", statistics.median(status), 0.5, 0.2, "s", at_least=False),
            Target("--version against python -c pass", ratio(version, bare), 4, 2, at_least=False),
        ),
    )


def _finish_most(ledger: Path, pending: int) -> None:
    with closing(sqlite3.connect(ledger)) as database, database:
        database.execute("PRAGMA journal_mode = delete")
        database.execute(FINISHED, {"pending": pending})
    with closing(sqlite3.connect(ledger)) as database:
        database.execute("PRAGMA journal_mode = wal")


def _run(command: Sequence[str], runner: Midasdl) -> float:
    """Run a command to its end; seconds."""
    began_s = time.monotonic()
    subprocess.run(
        command, cwd=runner.folder, env=runner.environment, capture_output=True, check=True, timeout=300
    )
    return time.monotonic() - began_s
