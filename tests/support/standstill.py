"""Asking the ledger while processes stand still."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TypeVar

Answer = TypeVar("Answer")
MOMENT_S = 0.05


def ask_at_a_standstill(
    pids: Collection[int], ask: Callable[[], Answer], *, send: Callable[[int, int], None] = os.killpg
) -> Answer:
    """Stop processes, ask the ledger, and leave them stopped.

    A process may be stopped in the middle of a step that nobody can pass, such as a commit; it is let go on for a
    moment, each time a longer one, and stopped again. Without the moment it would never get to run: a signal to stop
    takes back one to go on that has not been seen yet.

    Parameters
    ----------
    pids : collection of int
        Leaders of groups, or single processes where `send` is ``os.kill``.
    ask : callable
        Raises ``sqlite3.OperationalError`` where it meets a lock.
    """
    for attempt in itertools.count(1):
        _signal(pids, signal.SIGSTOP, send)
        try:
            return ask()
        except sqlite3.OperationalError:
            _signal(pids, signal.SIGCONT, send)
            time.sleep(attempt * MOMENT_S)
    raise AssertionError("counting has no end")


def _signal(pids: Collection[int], number: int, send: Callable[[int, int], None]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            send(pid, number)
