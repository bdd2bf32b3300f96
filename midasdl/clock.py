"""Time as a value that is passed in, so that no test has to wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

LOOK_EVERY_S = 0.2
"""How soon a wait notices that a flag was raised."""


class Clock(Protocol):
    """What the rest of midasdl knows of time."""

    def now_us(self) -> int:
        """Wall-clock time in microseconds since 1970, UTC: for what processes share."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary origin that never jump: for measuring and waiting."""

    def wait(self, seconds: float) -> bool:
        """Sleep, and return True at once if the sleeper is asked to stop."""

    def nap(self, seconds: float) -> None:
        """Sleep a moment, asked to stop or not."""


class SystemClock:
    """The machine's clock; `stop` wakes whoever waits.

    Concurrency: `stop` may be called from any thread.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()

    def now_us(self) -> int:
        """Wall-clock time in microseconds since 1970, UTC."""
        return time.time_ns() // 1000

    monotonic = staticmethod(time.monotonic)

    def wait(self, seconds: float) -> bool:
        """Sleep for `seconds`; True at once when `stop` has been or is called."""
        return self._stop.wait(seconds) if seconds > 0 else self._stop.is_set()

    def nap(self, seconds: float) -> None:
        """Sleep a moment, asked to stop or not."""
        time.sleep(seconds)

    def stop(self) -> None:
        """End every wait, now and from now on."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()


class WatchedClock:
    """Another clock, whose waits also end when somebody has raised a flag.

    Parameters
    ----------
    clock : Clock
    is_over : callable
        Looked at a few times a second while somebody waits; a signal handler may be what changes it.
    """

    def __init__(self, clock: Clock, is_over: Callable[[], bool]) -> None:
        self._clock = clock
        self._is_over = is_over

    def now_us(self) -> int:
        """Wall-clock time of the other clock."""
        return self._clock.now_us()

    def monotonic(self) -> float:
        """Seconds of the other clock."""
        return self._clock.monotonic()

    def wait(self, seconds: float) -> bool:
        """Sleep for `seconds`; True soon after the flag is raised, or the other clock is stopped."""
        until_s = self._clock.monotonic() + seconds
        while not self._is_over():
            left_s = until_s - self._clock.monotonic()
            if self._clock.wait(min(max(left_s, 0.0), LOOK_EVERY_S)):
                return True
            if left_s <= LOOK_EVERY_S:
                return self._is_over()
        return True

    def nap(self, seconds: float) -> None:
        """Sleep a moment, asked to stop or not."""
        self._clock.nap(seconds)


def iso_utc(us: int) -> str:
    """Render microseconds since 1970 as ``2026-09-08T10:11:12Z``, the form used in views and logs."""
    return datetime.fromtimestamp(us / 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
