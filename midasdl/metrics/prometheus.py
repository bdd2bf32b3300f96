"""Figures as Prometheus reads them, by the official client library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from midasdl.metrics.figures import TIMES_S, Figures
from midasdl.progress.snapshot import Tally
from midasdl.version import __version__

if TYPE_CHECKING:
    from prometheus_client.core import Metric

BREAKER_STATES = ("closed", "open", "half-open")


def exposition(figures: Figures, accept: str) -> tuple[bytes, str]:
    """What a scrape is answered with.

    Parameters
    ----------
    accept : str
        The header of the request: Prometheus says which format it likes best.

    Returns
    -------
    tuple
        The text, and its type.
    """
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import choose_encoder

    class Now:
        """Collects one moment."""

        def collect(self) -> Iterable[Metric]:
            return metrics(figures)

        def describe(self) -> Iterable[Metric]:
            return ()

    registry = CollectorRegistry()
    registry.register(Now())
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def metrics(figures: Figures) -> Iterator[Metric]:
    """Every metric; counters are those of this run and never fall."""
    yield from _job(figures)
    yield from _work(figures)
    yield from _process(figures)
    yield from _servers(figures)


def _job(figures: Figures) -> Iterator[Metric]:
    snapshot = figures.snapshot
    yield _gauge("midasdl_build_info", "The version of midasdl; always 1.", ["version"], [([__version__], 1)])
    yield _gauge("midasdl_tasks", "Tasks (distinct contents) by state.", ["state"], _named(figures.depths))
    yield _gauge("midasdl_files", "Files (paths) by state.", ["state"], _named(_files(snapshot.files)))
    yield _gauge(
        "midasdl_failed_tasks", "Failed tasks by error class.", ["class"], _named(figures.standing.failed)
    )
    sizes = {"done": snapshot.bytes_done, "expected": snapshot.bytes_expected}
    yield _gauge(
        "midasdl_size_bytes",
        "Distinct bytes on disk, and as many as are expected in all.",
        ["what"],
        _named({name: value for name, value in sizes.items() if value is not None}),
    )
    yield _gauge(
        "midasdl_remaining_seconds",
        "Until the predicted end; missing while nobody can tell.",
        [],
        _if_known(snapshot.eta_s),
    )
    yield _gauge("midasdl_elapsed_seconds", "Since the run began.", [], [([], snapshot.elapsed_s)])
    yield _gauge(
        "midasdl_downloads_per_second",
        "Contents fetched a second, over the last minute.",
        [],
        [([], snapshot.files_per_s)],
    )
    yield _gauge(
        "midasdl_bandwidth_bytes_per_second",
        "Bytes fetched a second, over the last minute.",
        [],
        [([], snapshot.bytes_per_s)],
    )
    yield _gauge(
        "midasdl_cache_hit_ratio",
        "Share of what this run finished that was on disk already.",
        [],
        _if_known(figures.cache_share),
    )
    yield _gauge(
        "midasdl_alert",
        "Whether something is worse than usual.",
        ["kind"],
        [([a.kind], 1) for a in figures.alerts],
    )


def _work(figures: Figures) -> Iterator[Metric]:
    from prometheus_client.core import HistogramMetricFamily

    snapshot = figures.snapshot
    how = {"fetched": snapshot.fetched, "cached": snapshot.cached}
    yield _counter("midasdl_finished_tasks", "Tasks that this run brought to done.", ["how"], _named(how))
    yield _counter("midasdl_fetched_bytes", "Bytes fetched by this run.", [], [([], snapshot.bytes_fetched)])
    yield _counter(
        "midasdl_download_errors",
        "Downloads that did not succeed, by error class and what became of the task.",
        ["class", "fate"],
        [
            ([name, "retried" if again else "failed"], count)
            for (name, again), count in figures.errors.items()
        ],
    )
    bounds = [*(str(bound) for bound in TIMES_S), "+Inf"]
    times = HistogramMetricFamily(
        "midasdl_download_duration_seconds", "How long downloads took, with waiting, checking and writing."
    )
    buckets = list(zip(bounds, map(float, accumulate(figures.times.counts)), strict=True))
    times.add_metric([], buckets, figures.times.sum_s)
    yield times
    yield _counter(
        "midasdl_task_state_seconds",
        "Time that tasks have spent in each state during this run, all tasks together.",
        ["state"],
        _named(figures.task_seconds),
    )


def _process(figures: Figures) -> Iterator[Metric]:
    yield _gauge(
        "midasdl_workers", "Living workers by what they are doing.", ["doing"], _named(figures.workers)
    )
    yield _gauge(
        "midasdl_worker_utilisation_ratio",
        "Share of the workers' time in which they had tasks at hand, over the last minute.",
        [],
        _if_known(figures.busy_share),
    )
    yield _gauge("midasdl_resident_memory_bytes", "Memory of the run.", ["process"], _named(figures.memory))


def _servers(figures: Figures) -> Iterator[Metric]:
    yield _counter(
        "midasdl_requests",
        "Requests of this run by server and outcome.",
        ["host", "outcome"],
        [([host, outcome], count) for (host, outcome), count in figures.standing.requests.items()],
    )
    rows = figures.standing.servers
    yield _gauge(
        "midasdl_requests_in_flight",
        "Requests in flight now, of everything that shares the ledger.",
        ["host"],
        _column(rows, "active_requests"),
    )
    yield _gauge(
        "midasdl_response_time_seconds",
        "Time to the first byte, by percentile.",
        ["host", "percentile"],
        [
            ([row["host"], str(share)], row[f"p{share}_ms"] / 1000)
            for row in rows
            for share in (50, 95, 99)
            if row[f"p{share}_ms"] is not None
        ],
    )
    yield _gauge(
        "midasdl_throttle_ratio",
        "Share of the allowed request rate that is used.",
        ["host"],
        _column(rows, "throttle_share"),
    )
    yield _gauge(
        "midasdl_consecutive_errors",
        "Errors in a row, over all workers.",
        ["host"],
        _column(rows, "consecutive_errors"),
    )
    yield _gauge(
        "midasdl_breaker_state",
        "1 for the state in which the breaker is.",
        ["host", "state"],
        [([row["host"], state], int(row["breaker"] == state)) for row in rows for state in BREAKER_STATES],
    )
    yield _gauge(
        "midasdl_paused",
        "1 while everybody waits because the server asked for it.",
        ["host"],
        [([row["host"]], int(row["paused_until"] is not None)) for row in rows],
    )


Samples = Iterable[tuple[list[str], float]]


def _gauge(name: str, meaning: str, labels: list[str], samples: Samples) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    return _filled(GaugeMetricFamily(name, meaning, labels=labels), samples)


def _counter(name: str, meaning: str, labels: list[str], samples: Samples) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    return _filled(CounterMetricFamily(name, meaning, labels=labels), samples)


def _filled(family: Any, samples: Samples) -> Metric:
    for values, value in samples:
        family.add_metric(values, value)
    return family  # type: ignore[no-any-return]


def _named(values: Mapping[str, float]) -> Samples:
    return [([name], value) for name, value in values.items()]


def _files(tally: Tally) -> dict[str, float]:
    return {"done": tally.done, "failed": tally.failed, "left": tally.left}


def _column(rows: Iterable[Mapping[str, Any]], name: str) -> Samples:
    return [([row["host"]], row[name]) for row in rows]


def _if_known(value: float | None) -> Samples:
    return [] if value is None else [([], value)]
