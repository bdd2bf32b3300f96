"""How further processes are started: nothing crosses a fork, and no signal meets one that is not ready for it."""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

OBJECTS_BETWEEN_LOOKS = 50_000
"""A fetched file makes about a hundred objects that the collector follows, and no circle; the default is 700."""

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals that are the business of the process that a person started."""


def process_context(preload: str) -> Any:
    """Forkserver where it exists, with the imports of module `preload` made once; else spawn."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    return context


def warm_up(preload: str) -> None:
    """Let the imports of module `preload` begin now, in the process that others will be forked off."""
    context = process_context(preload)
    if context.get_start_method() == "forkserver":
        from multiprocessing import forkserver, resource_tracker  # noqa: PLC0415 - not on every system

        with _deaf():
            resource_tracker.ensure_running()  # it lifts the mask when it starts its own process
        with _deaf():
            forkserver.ensure_running()


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
    from multiprocessing import resource_tracker  # noqa: PLC0415 - of systems that have such signals

    with _deaf():
        resource_tracker.ensure_running()  # it lifts the mask when it starts its own process
    with _deaf():
        process.start()


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
