"""Files as MIDAS Open has them, from 2 kB to 3 MB."""

from __future__ import annotations

from benchmarks.archives import TRUE_MIX, make_archive
from benchmarks.bench import Bench, Result, Series, Target, ratio
from benchmarks.contenders import DOES, Course, runners
from benchmarks.servers import nginx_serving

TITLE = "3,000 files with the sizes of MIDAS Open from nginx"
FILES = 3_000


def measure(bench: Bench) -> Result:
    """Fetch all of them with everybody."""
    with bench.scratch("real") as folder:
        archive = make_archive(folder, bench.files(FILES), TRUE_MIX)
        with nginx_serving(archive.root, folder) as url:
            figures = bench.in_alternation(runners(Course(archive, url, folder)))
    series = tuple(Series(name, "files/s", tuple(values), DOES[name]) for name, values in figures.items())
    targets = []
    if {"midasdl", "curl, then md5sum"} <= figures.keys():
        reached = ratio(figures["midasdl"], figures["curl, then md5sum"])
        targets.append(Target("files/s against curl followed by md5sum -c", reached, 0.9, 1.1))
    total, mean = archive.size_bytes, archive.size_bytes / len(archive.sums)
    note = f"Together {total / 1e6:,.0f} MB, {mean / 1e3:,.0f} kB a file."
    return Result("real", TITLE, series, tuple(targets), (note,))
