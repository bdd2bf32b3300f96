"""Who a process is, so that a dead one is never mistaken for a later one that got its number."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process of one host.

    Attributes
    ----------
    host : str
        Name of the machine.
    pid : int
    started : str
        Boot and start time of the process as the system counts them; it does not move when the clock is set.
    """

    host: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> ProcessIdentity:
        """The process that asks."""
        return _of_this_process(os.getpid())

    def is_gone(self) -> bool:
        """Whether this process, on this host, no longer runs; False for other hosts, where nobody can tell."""
        return self.host == host_name() and start_mark(self.pid) != self.started


@lru_cache(maxsize=1)
def _of_this_process(pid: int) -> ProcessIdentity:
    """Looked up once: nothing of it changes as long as the process lives; a fork has another pid."""
    return ProcessIdentity(host_name(), pid, start_mark(pid) or "unknown")


def host_name() -> str:
    """Name of this machine as it stands in the ledger."""
    return socket.gethostname()


def start_mark(pid: int) -> str | None:
    """When process `pid` started, as an opaque text, or None if it does not run (a zombie does not)."""
    if Path("/proc/self/stat").exists():
        return _start_mark_from_proc(pid)
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.0f}"
    except psutil.Error:
        return None


def _start_mark_from_proc(pid: int) -> str | None:
    """Linux counts a start in ticks since boot, which no setting of the clock can change."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return None if fields[0] in {"Z", "X"} else f"{boot[:8]}:{fields[19]}"
