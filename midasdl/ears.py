"""Listening to several pipes at a time, again and again: who is listened to is noted once, and not for each time."""

from __future__ import annotations

import selectors
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import cast

TOGETHER_S = 0.005
"""Who sends at the same moment as others is heard together with them: so much later come the last of them."""


class Ears:
    """What a process listens with.

    Parameters
    ----------
    nap : callable
        Sleeps for so many seconds.

    Notes
    -----
    Concurrency: belongs to one thread.
    """

    def __init__(self, nap: Callable[[float], object]) -> None:
        self._nap = nap
        self._pipes: list[Connection] = []
        self._selector: selectors.BaseSelector | None = None
        if sys.platform != "win32":  # its pipes are no sockets
            self._selector = getattr(selectors, "PollSelector", selectors.DefaultSelector)()

    def open_for(self, pipe: Connection) -> None:
        """Listen to a pipe from now on."""
        self._pipes.append(pipe)
        if self._selector is not None:
            self._selector.register(pipe, selectors.EVENT_READ)

    def shut_for(self, pipe: Connection) -> None:
        """Listen to it no more; must be called before it is closed."""
        with suppress(ValueError):
            self._pipes.remove(pipe)
        if self._selector is not None:
            with suppress(KeyError):
                self._selector.unregister(pipe)

    def wait(self, seconds: float) -> list[Connection]:
        """Those from which something can be received, or that are closed at the other end, after so long at most."""
        heard = self._ready(seconds)
        if heard and len(heard) < len(self._pipes):
            self._nap(TOGETHER_S)
            heard = self._ready(0.0)
        return heard

    def close(self) -> None:
        """Listen to nobody any more."""
        self._pipes.clear()
        if self._selector is not None:
            self._selector.close()

    def _ready(self, seconds: float) -> list[Connection]:
        if self._selector is None:
            return cast("list[Connection]", wait(self._pipes, timeout=seconds))
        return [cast("Connection", key.fileobj) for key, _ in self._selector.select(seconds)]
