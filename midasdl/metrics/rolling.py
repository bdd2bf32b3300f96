"""Rates over a window of time, and the curve of a whole run in a bounded number of points. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

WINDOW_S = 60.0

MOST_POINTS = 480
"""A curve has no more points than this, and half as many at least once it is that long."""


class Window:
    """Sums that only grow, looked at now and then, and how fast they have grown lately.

    Parameters
    ----------
    window_s : float
        How far back the rates reach.
    """

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._looks: deque[tuple[float, tuple[float, ...]]] = deque()

    def add(self, now_s: float, sums: Sequence[float]) -> tuple[float, ...]:
        """Take in how large the sums are now.

        Returns
        -------
        tuple of float
            How much each has grown a second, over the window or as long as there has been anything to look at.
        """
        self._looks.append((now_s, tuple(sums)))
        while len(self._looks) > 2 and self._looks[1][0] <= now_s - self._window_s:
            self._looks.popleft()
        then_s, before = self._looks[0]
        elapsed_s = max(now_s - then_s, 1e-9)
        if len(self._looks) == 1:
            return tuple(0.0 for _ in sums)
        return tuple(max(now - then, 0.0) / elapsed_s for now, then in zip(sums, before, strict=True))


class Curve:
    """How some rates went over a whole run.

    Notes
    -----
    When there are too many points, each two neighbours become one in their middle: a run of days has the same memory
    as one of minutes.
    """

    def __init__(self, most: int = MOST_POINTS) -> None:
        self._most = most
        self._points: list[tuple[float, ...]] = []
        self._every = 1
        self._held: list[tuple[float, ...]] = []

    def add(self, *point: float) -> None:
        """Take in a moment and what was measured then."""
        self._held.append(point)
        if len(self._held) < self._every:
            return
        self._points.append(_mean(self._held))
        self._held.clear()
        if len(self._points) > self._most:
            pairs = [self._points[number : number + 2] for number in range(0, len(self._points), 2)]
            self._points = [_mean(pair) for pair in pairs]
            self._every *= 2

    @property
    def points(self) -> tuple[tuple[float, ...], ...]:
        """The curve so far, from its beginning."""
        return tuple(self._points)


def _mean(points: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(sum(values) / len(points) for values in zip(*points, strict=True))
