"""How long to wait before a retry: pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential waits with jitter.

    Attributes
    ----------
    base_s, longest_s : float
        Seconds before the first retry, and at most.
    multiplier : float
        Growth from one wait to the next.
    jitter : float
        Share by which a wait may vary either way.
    """

    base_s: float
    longest_s: float
    multiplier: float
    jitter: float

    def wait_s(self, failures: int, uniform: Callable[[float, float], float]) -> float:
        """Seconds to wait after `failures` failures in a row (at least 1).

        Parameters
        ----------
        uniform : callable
            Source of randomness, such as `random.uniform`.
        """
        exponent = min(max(failures, 1) - 1, 64)
        plain = min(self.base_s * self.multiplier**exponent, self.longest_s)
        return min(plain * uniform(1 - self.jitter, 1 + self.jitter), self.longest_s)
