"""A server that is far away: each file keeps a worker waiting, and nothing else should."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

from benchmarks.archives import SMALL_ONLY, make_archive
from benchmarks.bench import Bench, Result, Series, Target
from benchmarks.contenders import CONNECTIONS, DOES, Course, runners
from benchmarks.servers import SlowServer, slow_server

TITLE = "2,000 files of about 12 KB from a server that waits 40 ms before the first byte"
FILES = 2_000
DELAY_S = 0.04
STEADY = ("midasdl", "curl")


def measure(bench: Bench) -> Result:
    """Fetch all of them; what counts is the rate between the first request and the last, by the server's clock."""
    with bench.scratch("latency") as folder:
        archive = make_archive(folder, bench.files(FILES), SMALL_ONLY)
        with slow_server(archive.root, DELAY_S) as server:
            everybody = runners(Course(archive, server.url, folder))
            few = {name: partial(share, server, everybody[name]) for name in STEADY if name in everybody}
            figures = bench.in_alternation(few, "of the ceiling")
    series = tuple(
        Series(name, "of the ceiling", tuple(values), DOES[name]) for name, values in figures.items()
    )
    ours = figures.get("midasdl")
    targets = (
        [Target("share of connections / latency", statistics.median(ours), 0.97, 0.99, "")] if ours else []
    )
    note = (
        "The ceiling is the number of connections divided by the time for which the server really kept each request "
        "waiting. Start and end of the command are not in it."
    )
    return Result("latency", TITLE, series, tuple(targets), (note,))


def share(server: SlowServer, run: Callable[[], float]) -> float:
    """How much of what the waits allow was reached, once all connections were there."""
    server.forget()
    run()
    starts = sorted(server.started_s)[CONNECTIONS * 10 : -CONNECTIONS * 10]
    rate = (len(starts) - 1) / (starts[-1] - starts[0])
    return rate * statistics.mean(server.kept_s) / CONNECTIONS
