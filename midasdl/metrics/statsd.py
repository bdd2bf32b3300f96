"""Figures pushed to a StatsD server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

from midasdl.metrics.figures import Figures

NO_NAME = re.compile(r"[^A-Za-z0-9_-]+")
"""What may not stand in a part of a StatsD name."""


@dataclass(frozen=True, slots=True)
class StatsdAddress:
    """Where figures are pushed to, and what their names begin with."""

    host: str
    port: int
    prefix: str


class StatsdPush:
    """Pushes the figures of one moment after the other.

    Notes
    -----
    The name of the server is looked up for each push, which may take long: this belongs into a thread of its own. What
    is counted is sent as what has been added since the push before.
    """

    def __init__(self, address: StatsdAddress) -> None:
        self._address = address
        self._sent: dict[str, float] = {}

    def __call__(self, figures: Figures) -> None:
        """Push.

        Raises
        ------
        OSError
            The server's name is not known.
        """
        from statsd import StatsClient

        at = self._address
        with closing(StatsClient(at.host, at.port, at.prefix)) as client, client.pipeline() as push:
            for name, value in gauges(figures):
                push.gauge(name, _plain(value))
            for name, value in counters(figures):
                more = value - self._sent.get(name, 0)
                if more > 0:
                    push.incr(name, _plain(more))
                self._sent[name] = max(value, self._sent.get(name, 0))


def gauges(figures: Figures) -> Iterator[tuple[str, float]]:
    """What goes up and down."""
    snapshot = figures.snapshot
    yield from _named("tasks", figures.depths)
    yield "files.done", snapshot.files.done
    yield "files.failed", snapshot.files.failed
    yield from _named("workers", figures.workers)
    yield from _named("memory_bytes", figures.memory)
    yield "bytes_per_second", snapshot.bytes_per_s
    yield "downloads_per_second", snapshot.files_per_s
    if figures.busy_share is not None:
        yield "worker_utilisation", figures.busy_share
    if figures.cache_share is not None:
        yield "cache_hit_ratio", figures.cache_share
    if figures.times.mean_s is not None:
        yield "mean_download_seconds", figures.times.mean_s
    for row in figures.standing.servers:
        host = _word(row["host"])
        yield f"server.{host}.throttle", row["throttle_share"]
        yield f"server.{host}.in_flight", row["active_requests"]
        yield f"server.{host}.breaker_open", float(row["breaker"] != "closed")


def counters(figures: Figures) -> Iterator[tuple[str, float]]:
    """What only grows in a run."""
    snapshot = figures.snapshot
    yield "fetched", snapshot.fetched
    yield "cached", snapshot.cached
    yield "bytes_fetched", snapshot.bytes_fetched
    for (name, again), count in figures.errors.items():
        yield f"errors.{_word(name)}.{'retried' if again else 'failed'}", count
    for (host, outcome), count in figures.standing.requests.items():
        yield f"requests.{_word(host)}.{_word(outcome)}", count
    for state, seconds in figures.task_seconds.items():
        yield f"task_seconds.{state}", seconds


def _named(prefix: str, values: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        yield f"{prefix}.{_word(name)}", value


def _word(text: str) -> str:
    """A part of a name: dots divide names, colons end them."""
    return NO_NAME.sub("_", text)


def _plain(value: float) -> float:
    """Servers read no exponents."""
    return int(value) if value == int(value) else round(value, 4)
