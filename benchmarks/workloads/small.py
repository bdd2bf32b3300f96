"""Many small files: what a file costs beyond its bytes."""

from __future__ import annotations

from benchmarks.archives import SMALL_ONLY, make_archive
from benchmarks.bench import Bench, Result, Series, Target, ratio
from benchmarks.contenders import DOES, Course, runners
from benchmarks.servers import nginx_serving

TITLE = "20,000 files of about 12 KB from nginx"
FILES = 20_000


def measure(bench: Bench) -> Result:
    """Fetch all of them with everybody."""
    with bench.scratch("small") as folder:
        archive = make_archive(folder, bench.files(FILES), SMALL_ONLY)
        with nginx_serving(archive.root, folder) as url:
            figures = bench.in_alternation(runners(Course(archive, url, folder)))
    series = tuple(Series(name, "files/s", tuple(values), DOES[name]) for name, values in figures.items())
    return Result("small", TITLE, series, tuple(targets(figures)))


def targets(figures: dict[str, list[float]]) -> list[Target]:
    """Against the only peer that verifies, the fastest verified pipeline, and the fastest of all."""
    ours = figures.get("midasdl", [])
    found = []
    if "aria2c" in figures:
        found.append(
            Target("files/s against aria2c with checksums", ratio(ours, figures["aria2c"]), 3.0, 5.0)
        )
    if "curl, then md5sum" in figures:
        verified = ratio(ours, figures["curl, then md5sum"])
        found.append(Target("files/s against curl followed by md5sum -c", verified, 0.9, 1.2))
    unverified = [figures[name] for name in ("curl", "wget2", "rclone") if name in figures]
    if unverified:
        fastest = [max(values) for values in zip(*unverified, strict=True)]
        found.append(Target("files/s against the fastest peer, unverified", ratio(ours, fastest), 0.7, 1.0))
    return found
