"""Reading the ledger now and then, beside the run: whoever shows the run never waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

from midasdl.clock import Clock
from midasdl.progress.snapshot import Reading

READ_EVERY_S = 2.0
COST = 50
"""Reading takes at most a fiftieth of the time."""

PATIENCE_S = 2.0
"""A reading that takes longer at the end is left behind."""


class Lookout:
    """A thread that reads, and the latest reading; a context.

    Parameters
    ----------
    read : callable
        What it raises is left for the next time (invariant I8).

    Notes
    -----
    Concurrency: `take` may be called from any thread.
    """

    def __init__(self, read: Callable[[], Reading], clock: Clock, every_s: float = READ_EVERY_S) -> None:
        self._read = read
        self._clock = clock
        self._every_s = every_s
        self._fresh: Reading | None = None
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True, name="lookout")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(PATIENCE_S)

    def take(self) -> Reading | None:
        """The latest reading, once; None where there is none that was not taken yet."""
        with self._turn:
            reading, self._fresh = self._fresh, None
        return reading

    def _put(self, reading: Reading) -> None:
        """Sizes that nobody has taken yet are not lost to a reading without any."""
        with self._turn:
            waiting = self._fresh
            if waiting is not None and reading.groups is None:
                reading = replace(reading, groups=waiting.groups)
            self._fresh = reading

    def _look(self) -> None:
        while not self._ended.is_set():
            began_s = self._clock.monotonic()
            with suppress(Exception, KeyboardInterrupt):
                self._put(self._read())
            took_s = self._clock.monotonic() - began_s
            self._ended.wait(max(self._every_s, took_s * COST))
