"""Asking the ledger while processes stand still."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TypeVar

Answer = TypeVar("Answer")


def ask_at_a_standstill(
    pids: Collection[int], ask: Callable[[], Answer], *, send: Callable[[int, int], None] = os.killpg
) -> Answer:
    """Stop processes, ask the ledger, and leave them stopped.

    A process may be stopped in the middle of a step that nobody can pass, such as a commit; it is let go on and
    stopped again.

    Parameters
    ----------
    pids : collection of int
        Leaders of groups, or single processes where `send` is ``os.kill``.
    ask : callable
        Raises ``sqlite3.OperationalError`` where it meets a lock.
    """
    while True:
        _signal(pids, signal.SIGSTOP, send)
        try:
            return ask()
        except sqlite3.OperationalError:
            _signal(pids, signal.SIGCONT, send)


def _signal(pids: Collection[int], number: int, send: Callable[[int, int], None]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            send(pid, number)
