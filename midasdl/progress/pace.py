"""How fast files come: counted by the second, looked at over a window that moves along."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

WINDOW_S = 60
"""Speed is that of the last minute."""

LONGEST_WINDOW_S = 600
"""Where little comes, the end is predicted from a longer window, up to this."""

ENOUGH_FILES = 500
"""A window that holds so many files need not grow."""

SLICE_S = 10
"""Speed is compared between slices of a window: what is slow in one second is slow in the next."""

LATEST_FILES = 200
"""The mean time of a file, and the shares of what fails and what is on disk, are those of so many files."""


@dataclass(frozen=True, slots=True)
class Window:
    """What came within the last so many seconds.

    Attributes
    ----------
    seconds : float
        At least 1.
    size_bytes, files : int
        What came in it.
    error : float
        By how much the speed may be wrong, as a share of it: the standard error over its slices.
    """

    seconds: float
    size_bytes: int
    files: int
    error: float = 1.0

    @property
    def bytes_per_s(self) -> float:
        """Never negative."""
        return max(0, self.size_bytes) / self.seconds

    @property
    def files_per_s(self) -> float:
        """Files that were fetched."""
        return self.files / self.seconds


class Meter:
    """Bytes and files by the second in which they came, for the last ten minutes.

    Notes
    -----
    Memory is bounded: one figure a second.
    """

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int, int]] = deque(maxlen=LONGEST_WINDOW_S + 2)
        self._began_s: float | None = None

    def begin(self, now_s: float) -> None:
        """Work has begun: time before that is no part of any window."""
        if self._began_s is None:
            self._began_s = now_s

    def add(self, now_s: float, size_bytes: int, files: int = 0) -> None:
        """Take in what came; bytes of a file that failed are taken back as less than none."""
        self.begin(now_s)
        second = math.floor(now_s)
        if self._seconds and self._seconds[-1][0] >= second:
            second, bytes_before, files_before = self._seconds.pop()
            size_bytes, files = size_bytes + bytes_before, files + files_before
        self._seconds.append((second, size_bytes, files))

    def window(self, now_s: float, longest_s: float = WINDOW_S) -> Window:
        """The last `longest_s` seconds, or as many as there have been."""
        began_s = now_s if self._began_s is None else self._began_s
        seconds = min(max(now_s - began_s, 1.0), longest_s)
        slices = [0] * math.ceil(seconds / SLICE_S)
        came = 0
        for second, size, files in self._seconds:
            if second > now_s - seconds - 1:
                slices[min(int(max(0.0, now_s - second)) // SLICE_S, len(slices) - 1)] += size
                came += files
        return Window(seconds, sum(slices), came, standard_error(slices))

    def window_with_enough(self, now_s: float) -> Window:
        """The last minute, or longer where little has come in it: in a stall, speed shall fade, not vanish."""
        window = self.window(now_s)
        longest_s = float(WINDOW_S)
        while window.files < ENOUGH_FILES and longest_s <= window.seconds and longest_s < LONGEST_WINDOW_S:
            longest_s = min(longest_s * 1.5, LONGEST_WINDOW_S)
            window = self.window(now_s, longest_s)
        return window


class Latest:
    """The latest files: how long they took, and how they ended."""

    def __init__(self) -> None:
        self._took_s: deque[float] = deque(maxlen=LATEST_FILES)
        self._ends: deque[str] = deque(maxlen=LATEST_FILES)

    def fetched(self, seconds: float) -> None:
        """A file came, and took a worker so long."""
        self._took_s.append(seconds)
        self._ends.append("fetched")

    def failed(self) -> None:
        """A file failed for good."""
        self._ends.append("failed")

    def cached(self) -> None:
        """A file was on disk."""
        self._ends.append("cached")

    @property
    def file_s(self) -> float:
        """The mean time of a file; 0 while none has come."""
        return sum(self._took_s) / len(self._took_s) if self._took_s else 0.0

    @property
    def came_share(self) -> float:
        """How many of the latest files came by a request; the others bring no bytes."""
        return self._ends.count("fetched") / len(self._ends) if self._ends else 1.0

    @property
    def asked_share(self) -> float:
        """How many of the latest files were asked for; what is on disk takes no time to speak of."""
        return 1 - self._ends.count("cached") / len(self._ends) if self._ends else 1.0


def standard_error(slices: list[int]) -> float:
    """Of the mean of what came in each slice, as a share of it; 1 where nothing can be said."""
    count, total = len(slices), sum(slices)
    if total <= 0 or count < 2:
        return 1.0
    mean = total / count
    variance = sum((size - mean) ** 2 for size in slices) / (count - 1)
    return math.sqrt(variance / count) / mean
