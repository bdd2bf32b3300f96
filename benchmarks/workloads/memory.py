"""What a run takes of the machine's memory, all its processes together, on a small ledger and on a large one."""

from __future__ import annotations

import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil

from benchmarks.archives import SMALL_ONLY, Archive, make_archive
from benchmarks.bench import Bench, Result, Series, Target, ratio
from benchmarks.contenders import CONNECTIONS, LONGEST_RUN_S, Course, Midasdl, require_whole
from benchmarks.many_lines import add_lines, write_manifest
from benchmarks.servers import slow_server

TITLE = "a run with 8 workers on ledgers of 10 thousand and of 2 million tasks"
FILES = 2_000
FEW = 10_000
MANY = 2_000_000
DELAY_S = 0.01
LOOK_EVERY_S = 0.2
STOPPED_BY_LIMIT = 1


def measure(bench: Bench) -> Result:
    """Fetch the same files from both ledgers; nearly all tasks of the larger one are still pending at the end."""
    with bench.scratch("memory") as folder:
        archive = make_archive(folder, bench.files(FILES), SMALL_ONLY)
        with slow_server(archive.root, DELAY_S) as server:
            small = _runner(archive, server.url, folder / "few", bench.files(FEW))
            large = _runner(archive, server.url, folder / "many", bench.files(MANY))
            few, many = [], []
            for number in range(min(bench.rounds, 3)):
                few.append(_peak_mb(small, archive))
                many.append(_peak_mb(large, archive))
                bench.say(f"  round {number + 1}  {few[-1]:.1f} MB, with many tasks {many[-1]:.1f} MB")
    return Result(
        "memory",
        TITLE,
        (
            Series("midasdl, 10 thousand tasks", "MB", tuple(few)),
            Series("midasdl, 2 million tasks", "MB", tuple(many)),
        ),
        (
            Target("peak memory (PSS), 2 million tasks", max(many), 200, 120, "MB", at_least=False),
            Target("growth from 10 thousand to 2 million tasks", ratio(many, few), 1.1, 1.1, at_least=False),
        ),
        (
            "Coordinator, workers and the processes that help them, together, five times a second from start to end. "
            "Memory that several of them share counts once (PSS).",
        ),
    )


def _runner(archive: Archive, url: str, folder: Path, tasks: int) -> Midasdl:
    """A ledger of so many tasks, of which those come first whose files are really there."""
    folder.mkdir()
    manifest = Path(shutil.copy(archive.manifest, folder / "manifest.txt"))
    add_lines(manifest, write_manifest(folder / "more.txt", max(0, tasks - len(archive.sums))))
    return Midasdl(Course(replace(archive, manifest=manifest), url, folder, CONNECTIONS))


def _peak_mb(runner: Midasdl, archive: Archive) -> float:
    """Fetch what is there and stop; the most that was seen.

    Raises
    ------
    RuntimeError
    """
    command = [*runner.prepare(), "--limit", str(len(archive.sums))]
    with (runner.folder / "said").open("w") as said:
        process = subprocess.Popen(
            command,
            cwd=runner.folder,
            env=runner.environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
        try:
            peak_bytes = peak_pss(process, LONGEST_RUN_S)
        finally:
            process.kill()
            process.wait()
    if process.returncode not in {0, STOPPED_BY_LIMIT}:
        told = (runner.folder / "said").read_text()[-2_000:]
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {told}")
    require_whole(archive, runner.data_root)
    return peak_bytes / 1e6


def peak_pss(process: subprocess.Popen[bytes], longest_s: float) -> int:
    """Look now and then until a process ends, or for `longest_s`; the most bytes that were seen."""
    peak_bytes = 0
    until_s = time.monotonic() + longest_s
    while process.poll() is None and time.monotonic() < until_s:
        peak_bytes = max(peak_bytes, pss_of(process.pid))
        time.sleep(LOOK_EVERY_S)
    return peak_bytes


def pss_of(pid: int) -> int:
    """Bytes of memory of a process and all that it has started; what several of them share counts once."""
    total_bytes = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            with suppress(psutil.Error):
                total_bytes += each.memory_full_info().pss
    return total_bytes
