"""When the stand-in has had enough of a client: too many connections or too many requests a second.

Pure: the time and the number of connections are passed in.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from midasdl.errors import ConfigurationError

_ROUNDING_S = 1e-6


@dataclass(frozen=True, slots=True)
class Throttle:
    """How much a client may ask of the download host, and what it hears when it asks for more.

    Parameters
    ----------
    max_connections : int, optional
        Open connections that are tolerated, idle ones included.
    max_rate_per_s : float, optional
        Downloads that are tolerated in any one second.
    status : int
        The answer to every download once a bound was exceeded.
    retry_after : str, optional
        The ``Retry-After`` header of that answer.
    for_s : float
        How long the client is refused, in seconds, from the request that exceeded the bound.
    """

    max_connections: int | None = None
    max_rate_per_s: float | None = None
    status: int = 503
    retry_after: str | None = None
    for_s: float = 60.0

    def __post_init__(self) -> None:
        if self.max_rate_per_s is not None and self.max_rate_per_s <= 0:
            raise ConfigurationError(f"throttle: max_rate_per_s = {self.max_rate_per_s} must be above 0")
        if self.max_connections is not None and self.max_connections < 0:
            raise ConfigurationError(
                f"throttle: max_connections = {self.max_connections} must not be negative"
            )


class ThrottleGate:
    """Decides which requests a `Throttle` lets in.

    Concurrency: may be called from any thread.
    """

    def __init__(self, throttle: Throttle) -> None:
        self.throttle = throttle
        self._lock = threading.Lock()
        self._starts: deque[float] = deque()
        self._closed_until_s: float | None = None

    def admits(self, now_s: float, connections: int) -> bool:
        """Count a request that starts at `now_s` on one of `connections`, and tell whether it is let in."""
        with self._lock:
            exceeded = self._exceeds_rate(now_s) or self._exceeds_connections(connections)
            if self._closed_until_s is not None and now_s < self._closed_until_s:
                return False
            self._closed_until_s = now_s + self.throttle.for_s if exceeded else None
            return not exceeded

    def _exceeds_connections(self, connections: int) -> bool:
        most = self.throttle.max_connections
        return most is not None and connections > most

    def _exceeds_rate(self, now_s: float) -> bool:
        rate = self.throttle.max_rate_per_s
        if rate is None:
            return False
        window_s = max(1.0, 1.0 / rate)
        self._starts.append(now_s)
        while self._starts[0] <= now_s - window_s + _ROUNDING_S:
            self._starts.popleft()
        return len(self._starts) > rate * window_s + 1e-9
