"""Limits on, as they are with CEDA: all of what they allow, nothing beyond it, and hardly any work."""

from __future__ import annotations

import os
import pty
import statistics
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.archives import SMALL_ONLY, make_archive
from benchmarks.bench import Bench, Result, Series, Target
from benchmarks.contenders import CONNECTIONS, Course, Midasdl
from benchmarks.servers import SlowServer, slow_server

TITLE = "the default limits (10 files/s, 3 requests in flight) with 8 workers and a display"
FILES = 300
DELAY_S = 0.04
SPACING_MS = 100
PERMITS = 3
TOLERANCE_S = 0.010
"""How much closer than allowed two requests may reach the server: a process that was woken late for the first."""


@dataclass(frozen=True)
class Manners:
    """How one run behaved.

    Attributes
    ----------
    share : float
        Of the rate that the spacing allows.
    violations : int
        Requests that came too early, and moments with too many of them.
    cpu_share : float
        Of one core, over all processes, once the workers had started.
    """

    share: float
    violations: int
    cpu_share: float


def measure(bench: Bench) -> Result:
    """Fetch for half a minute a round, on a terminal of its own."""
    limits = {
        "ceda_client__max_concurrent_requests": PERMITS,
        "ceda_client__min_request_spacing_ms": SPACING_MS,
    }
    with bench.scratch("polite") as folder:
        archive = make_archive(folder, bench.files(FILES), SMALL_ONLY)
        with slow_server(archive.root, DELAY_S) as server:
            runner = Midasdl(Course(archive, server.url, folder, CONNECTIONS), limits)
            rounds = [_round(bench, number, server, runner) for number in range(min(bench.rounds, 3))]
    shares = tuple(each.share for each in rounds)
    cpu = tuple(100 * each.cpu_share for each in rounds)
    violations = tuple(float(each.violations) for each in rounds)
    return Result(
        "polite",
        TITLE,
        (
            Series("midasdl", "of the ceiling", shares),
            Series("midasdl", "violations", violations),
            Series("midasdl", "% of a core", cpu),
        ),
        (
            Target("share of the ceiling", statistics.median(shares), 0.98, 0.995, ""),
            Target("violations in the server's log", max(violations), 0, 0, "", at_least=False),
            Target(
                "CPU at 10 files/s with display", statistics.median(cpu), 3, 1, "% of a core", at_least=False
            ),
        ),
    )


def _round(bench: Bench, number: int, server: SlowServer, runner: Midasdl) -> Manners:
    server.forget()
    process, terminal = _start_on_a_terminal(runner.prepare(), runner.folder, runner.environment)
    watch = _CpuWatch(process.pid)
    try:
        watch.until(lambda: process.poll() is not None or len(server.started_s) > 10)
        watch.begin()
        watch.until(lambda: process.poll() is not None or len(server.started_s) >= bench.files(FILES) - 5)
        cpu_share = watch.share()
        process.wait(timeout=120)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    ceiling = 1000 / SPACING_MS
    too_early = sum(gap < SPACING_MS / 1000 - TOLERANCE_S for gap in server.gaps_s)
    violations = too_early + max(0, server.most_in_flight - PERMITS)
    found = Manners(server.rate / ceiling, violations, cpu_share)
    bench.say(
        f"  round {number + 1}  {found.share:.4f} of the ceiling, {violations} violations, {cpu_share:.2%} of a core"
    )
    return found


def _start_on_a_terminal(
    command: list[str], folder: Path, variables: dict[str, str]
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a command whose messages go to a terminal that somebody reads."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**variables, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    threading.Thread(target=_read_on, args=(ours,), daemon=True).start()
    return process, ours


def _read_on(terminal: int) -> None:
    with suppress(OSError):
        while os.read(terminal, 65_536):
            pass


class _CpuWatch:
    """CPU time of a process and all that it has started."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._began_s = self._before_s = 0.0

    def begin(self) -> None:
        self._began_s, self._before_s = time.monotonic(), self._used_s()

    def share(self) -> float:
        return (self._used_s() - self._before_s) / (time.monotonic() - self._began_s)

    def until(self, is_over: object) -> None:
        while not is_over():  # type: ignore[operator]
            time.sleep(0.05)

    def _used_s(self) -> float:
        used_s = 0.0
        with suppress(psutil.Error):
            for process in [self._process, *self._process.children(recursive=True)]:
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    used_s += times.user + times.system
        return used_s
