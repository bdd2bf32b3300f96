"""Something that may take long, or for ever, done in a thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")

TURNS = 3
"""Whoever still makes way at the end gets so many times the patience."""


class Aside(Generic[Item]):
    """Hands items on in a thread of its own; whoever posts them never waits.

    Parameters
    ----------
    name : str
        Of the thread.
    act : callable
        Takes an item; may hang or raise.
    most : int
        Items that are held while `act` is busy; when more come, the oldest are dropped.
    tell : callable
        Takes one sentence when `act` fails for the first time in a row.

    Attributes
    ----------
    dropped : int
        Items that nobody got; close enough where several threads post.

    Notes
    -----
    Concurrency: any thread may post. The thread is a daemon: where `act` hangs for ever, the process ends all the same.
    """

    def __init__(
        self,
        name: str,
        act: Callable[[Item], None],
        most: int = 1,
        tell: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        self._act = act
        self._tell = tell
        self._items: deque[Item] = deque(maxlen=most)
        self._ending = False
        self._has_failed = False
        self.dropped = 0
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name=name)
        self._thread.start()

    @property
    def held(self) -> int:
        """How many items wait."""
        return len(self._items)

    def post(self, item: Item) -> None:
        """Hand an item on, soon."""
        if len(self._items) == self._items.maxlen:
            self.dropped += 1
        self._items.append(item)
        self._wake.set()

    def close(self, patience_s: float) -> bool:
        """Let what is left be handed on: for no longer than this if nothing moves, `TURNS` times as long if it does.

        Returns
        -------
        bool
            Whether it was.
        """
        self._ending = True
        self._wake.set()
        for _ in range(TURNS):
            held = len(self._items)
            self._thread.join(patience_s)
            if len(self._items) == held:
                break
        return not self._thread.is_alive()

    def wait(self) -> None:
        """After `close`: wait for whatever hangs, however long; a signal's handler may raise out of it."""
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            is_the_last = self._ending
            while self._items:
                self._hand_on(self._items.popleft())
            if is_the_last:
                return

    def _hand_on(self, item: Item) -> None:
        try:
            self._act(item)
        except Exception as error:
            if not self._has_failed:
                self._has_failed = True
                self._tell(error)
        else:
            self._has_failed = False
