"""How further processes are started: nothing open crosses a fork, and no signal meets one that is not ready for it."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

OBJECTS_BETWEEN_LOOKS = 50_000
"""A fetched file makes about a hundred objects that the collector follows, and no circle; the default is 700."""

LONGEST_FOLDER_BYTES = 70
"""Of temporary files. Multiprocessing puts a socket there, and the path of a socket has a hundred bytes at most."""

SHORT_FOLDERS = ("/tmp", "/var/tmp")  # noqa: S108 - what is made there is private to the user

LOOKS_FOR_THE_END = 200
"""A process that ends closes its files first, and is gone a moment later: two seconds are plenty."""

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals that are the business of the process that a person started."""


def process_context(preload: str) -> Any:
    """Forkserver where it exists, with the imports of module `preload` made once; else spawn."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    return context


@contextmanager
def importing() -> Iterator[None]:
    """Import much in the block: what is imported stays, and is not looked through for garbage, now or later."""
    was_looked_for = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_looked_for:
            gc.enable()


def warm_up(preload: str) -> None:
    """Make the process that others will be forked off; call it when module `preload` has been imported.

    Where that is safe, it is a copy of this process as it is now: nothing has to be imported twice, and what was
    imported lies in memory once. Elsewhere it is a new one, and its imports begin now.

    Notes
    -----
    Call it before anything is open that must not be shared, such as a ledger.
    """
    context = process_context(preload)
    if context.get_start_method() == "forkserver":
        from multiprocessing import forkserver  # noqa: PLC0415 - not on every system

        _track_nothing()
        with _deaf(), _near_by(), _as_a_copy():
            forkserver.ensure_running()


@contextmanager
def _as_a_copy() -> Iterator[None]:
    """Let multiprocessing start its server of forks without a new interpreter, where nothing speaks against it.

    Threads do not survive a fork and their locks do; and some systems' own libraries do not bear one.
    """
    from multiprocessing import util  # noqa: PLC0415 - as above

    starter: Any = util
    usual = starter.spawnv_passfds
    if sys.platform == "linux" and threading.active_count() == 1:
        starter.spawnv_passfds = _fork_off
    try:
        yield
    finally:
        starter.spawnv_passfds = usual


def _fork_off(program: object, arguments: Sequence[str], kept: Sequence[int]) -> int:
    """Do in a copy of this process what ``python -c`` would do in a new one; the copy's number.

    Parameters
    ----------
    kept : sequence of int
        Open files that the copy needs; it closes all others but the standard ones.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    command = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        _close_all_but({0, 1, 2, *map(int, kept)})
        exec(arguments[-1], {})  # noqa: S102 - a line of multiprocessing's own
    finally:
        try:
            _clear_away_what_is_left_of(command)
        finally:
            os._exit(0)  # whatever happened: nothing of the command may go on here


def _clear_away_what_is_left_of(command: int) -> None:
    """In its copy: a command that was killed has left the folder of the socket between the two."""
    from multiprocessing import util  # noqa: PLC0415 - not on every system

    for _ in range(LOOKS_FOR_THE_END):
        if os.getppid() != command:
            shutil.rmtree(util.get_temp_dir(), ignore_errors=True)
            return
        time.sleep(0.01)


def _close_all_but(kept: set[int]) -> None:
    """Close what is open, as the system lists it: there may be room for a thousand million more."""
    is_open = {int(place.name) for place in Path("/proc/self/fd").iterdir()}
    for descriptor in is_open - kept:
        with suppress(OSError):  # that of the list itself
            os.close(descriptor)


def let_garbage_wait() -> None:
    """In a process that makes many short-lived objects: look for circles among them seldom.

    What is there by now stays for as long as the process, and is never looked through again.
    """
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_LOOKS, 20, 100)


def start(process: BaseProcess) -> None:
    """Start a process that never hears of signals.

    Notes
    -----
    Ctrl-C, a closed terminal and batch systems signal the whole group. What is started inherits a mask that holds
    such signals off, from its first instruction on; those that arrive here meanwhile are delivered afterwards.
    """
    if not hasattr(signal, "pthread_sigmask"):
        process.start()
        return
    _track_nothing()
    with _deaf(), _near_by():
        process.start()


@contextmanager
def _near_by() -> Iterator[None]:
    """Let temporary files come where a socket can be, also where the user's folder for them has a long name."""
    before = tempfile.tempdir
    if len(os.fsencode(tempfile.gettempdir())) > LONGEST_FOLDER_BYTES:
        tempfile.tempdir = next((folder for folder in SHORT_FOLDERS if os.access(folder, os.W_OK)), before)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _track_nothing() -> None:
    """Keep multiprocessing from starting a process that clears away shared memory and semaphores of the dead.

    midasdl has none, and what would watch over them takes as much memory as half a worker. It is heard of by what is
    written to a file, and nobody has to read it; this holds for the whole process. A Python that does this another way
    has its process.
    """
    from multiprocessing import resource_tracker  # noqa: PLC0415 - of systems that have such signals

    tracker: Any = getattr(resource_tracker, "_resource_tracker", None)
    if not hasattr(tracker, "_fd"):
        with _deaf():
            resource_tracker.ensure_running()  # it lifts the mask when it starts its own process
    elif tracker._fd is None:  # noqa: SLF001 - there is no other way to it
        tracker._fd = os.open(os.devnull, os.O_WRONLY)  # noqa: SLF001


def ignore_signals() -> None:
    """In a process that was started: leave signals to whoever started it."""
    for name in STOPPING:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


@contextmanager
def _deaf() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [getattr(signal, name) for name in STOPPING])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
