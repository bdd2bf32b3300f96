"""A clock that moves only when it is told to, or when somebody waits on it."""

from __future__ import annotations

from collections.abc import Callable


class FakeClock:
    """Keeps the time of a test; waiting advances it and is written down."""

    def __init__(self, now_us: int = 1_790_000_000_000_000) -> None:
        self._now_us = now_us
        self._jumped_us = 0
        self.waits: list[float] = []
        self.stopped = False

    def now_us(self) -> int:
        return self._now_us

    def monotonic(self) -> float:
        return (self._now_us - self._jumped_us) / 1e6

    def wait(self, seconds: float) -> bool:
        if not self.stopped and seconds > 0:
            self.waits.append(seconds)
            self.advance(seconds)
        return self.stopped

    def nap(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self._now_us += int(seconds * 1e6)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back; what is measured and waited does not notice."""
        self._now_us += int(seconds * 1e6)
        self._jumped_us += int(seconds * 1e6)

    def stop(self) -> None:
        self.stopped = True


class NappingClock(FakeClock):
    """Calls `alarm` when so many seconds of naps are over."""

    def __init__(self, after_s: float, alarm: Callable[[], object]) -> None:
        super().__init__()
        self._until_s = self.monotonic() + after_s
        self._alarm = alarm
        self.naps: list[float] = []

    def nap(self, seconds: float) -> None:
        super().nap(seconds)
        self.naps.append(seconds)
        if self.monotonic() >= self._until_s:
            self._alarm()
