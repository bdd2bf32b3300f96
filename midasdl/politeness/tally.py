"""What came of requests, counted in memory until somebody writes it down. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from midasdl.ledger.responses import NO_ANSWER, Responses

UNTOLD = "untold"
"""The outcome of a request that was given up on this side, as when the disk is full."""

BUCKETS_REMEMBERED = 4_096
"""Latencies of one server are alike, to the microsecond."""


class Tally:
    """The requests of one process that no transaction has recorded yet.

    Notes
    -----
    Concurrency: belongs to one thread. Crash safety: what was counted and not yet written dies with the process.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, int]] = Counter()

    def count(self, host: str, outcome: str, latency_us: int | None) -> None:
        """Count one request; without a latency there was no answer."""
        up_to_us = NO_ANSWER if latency_us is None else bucket_us(latency_us)
        self._counts[host, outcome, up_to_us] += 1

    def counted(self) -> tuple[Responses, ...]:
        """Everything that has not been forgotten; to be forgotten once it is written."""
        return tuple(Responses(*key, count) for key, count in self._counts.items())

    def forget(self, written: Iterable[Responses]) -> None:
        """Take off what a committed transaction holds; what was counted meanwhile stays."""
        for each in written:
            key = (each.host, each.outcome, each.up_to_us)
            self._counts[key] -= each.count
            if self._counts[key] <= 0:
                del self._counts[key]


@lru_cache(maxsize=BUCKETS_REMEMBERED)
def bucket_us(latency_us: int) -> int:
    """A latency, rounded up to two digits: 123,456 becomes 130,000.

    The order of latencies stays, so that percentiles of what was rounded are rounded percentiles.
    """
    latency_us = max(latency_us, 1)
    unit = int(10 ** max(len(str(latency_us)) - 2, 0))
    return -(-latency_us // unit) * unit
