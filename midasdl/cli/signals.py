"""Ctrl-C and its relatives: once is a wish, twice is an order."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from midasdl.errors import ExitCode, LedgerBusyError, StoppedError

EXIT_CODES = {"SIGINT": ExitCode.INTERRUPTED, "SIGTERM": ExitCode.TERMINATED, "SIGHUP": ExitCode.TERMINATED}

SAID_AGAIN_AFTER_S = 0.02


class Stoppable(Protocol):
    """What can be asked to end soon."""

    def stop(self, exit_code: int) -> None:
        """Set a flag."""


class Hurried(Protocol):
    """What waits, and can be asked not to."""

    def hurry(self) -> None:
        """Set a flag."""


@contextmanager
def ending_on_signals() -> Iterator[list[ExitCode]]:
    """During the block, a signal raises `KeyboardInterrupt`, and a second one ends the process at once.

    So a command tidies up on its way out, whichever signal it was.

    Yields
    ------
    list
        The exit code that the signal asks for, once there was one.
    """
    asked: list[ExitCode] = []

    def interrupt(exit_code: ExitCode) -> None:
        asked.append(exit_code)
        raise KeyboardInterrupt

    with _heeding_signals(interrupt) as handler, _saying_again_what_is_lost(handler):
        yield asked


@contextmanager
def stopping_on_signals(job: Stoppable, patience: Hurried | None = None) -> Iterator[None]:
    """During the block, a signal asks `job` to stop, and a second one ends the process at once.

    Parameters
    ----------
    patience : Patience, optional
        Of the ledger that the job works on; whoever wishes an end does not wait for its lock.

    Raises
    ------
    StoppedError
        Where the job could not tidy up, because somebody else has locked the ledger.
    """
    asked: list[ExitCode] = []

    def ask(exit_code: ExitCode) -> None:
        asked.append(exit_code)
        if patience is not None:
            patience.hurry()
        job.stop(exit_code)

    with _heeding_signals(ask):
        try:
            yield
        except LedgerBusyError as error:
            if not asked:
                raise
            raise _stopped_at_a_lock(asked[0]) from error


def _stopped_at_a_lock(exit_code: ExitCode) -> StoppedError:
    error = StoppedError(
        "Stopped while another program keeps the ledger locked: what was claimed comes back with the next run.",
        "Close the program that writes to it, then type: midasdl resume",
    )
    error.exit_code = exit_code
    return error


class _Handler:
    """What a signal meets: the first is passed on to `first`, a second one ends the process at once."""

    def __init__(self, first: Callable[[ExitCode], None]) -> None:
        self._first = first
        self.heard: int | None = None

    def __call__(self, number: int, _: FrameType | None) -> None:
        exit_code = EXIT_CODES[signal.Signals(number).name]
        if self.heard is not None:
            _end_at_once(exit_code)
        self.heard = number
        self._first(exit_code)


@contextmanager
def _heeding_signals(first: Callable[[ExitCode], None]) -> Iterator[_Handler]:
    """A signal that is ignored, as ``nohup`` does with SIGHUP, stays ignored; only a main thread hears any."""
    handler = _Handler(first)
    if threading.current_thread() is not threading.main_thread():
        yield handler
        return
    numbers = [getattr(signal, name) for name in EXIT_CODES if hasattr(signal, name)]
    heeded = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heeded}
    try:
        yield handler
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextmanager
def _saying_again_what_is_lost(handler: _Handler) -> Iterator[None]:
    """What is raised while Python finalizes an object goes nowhere: the signal is sent again a moment later."""
    report = sys.unraisablehook

    def look(lost: sys.UnraisableHookArgs) -> None:
        if lost.exc_type is not KeyboardInterrupt or handler.heard is None:
            report(lost)
            return
        again = threading.Timer(SAID_AGAIN_AFTER_S, _send, [handler.heard])
        again.daemon = True
        handler.heard = None
        again.start()

    sys.unraisablehook = look
    try:
        yield
    finally:
        sys.unraisablehook = report


def _send(number: int) -> None:
    """To the main thread, which wakes up for it where the system can wake one thread."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)
    else:
        signal.raise_signal(number)


def _end_at_once(exit_code: int) -> None:
    """Leave nobody behind: processes that were started would take seconds to find out."""
    import multiprocessing

    for child in multiprocessing.active_children():
        child.kill()
    os._exit(exit_code)
