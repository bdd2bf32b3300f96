"""The harness beside which midasdl is measured says what it measured, and makes the same archive each time."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest
import requests

from benchmarks.archives import SMALL_ONLY, TRUE_MIX, make_archive
from benchmarks.bench import Bench, Result, Series, Target, ratio
from benchmarks.page import BEGIN, END, write_page
from benchmarks.servers import slow_server
from benchmarks.workloads import NAMES, small, workload
from benchmarks.workloads.latency import share

FIGURES = {
    "midasdl": [3_000.0, 4_000.0, 3_500.0],
    "curl": [6_000.0, 5_000.0, 7_000.0],
    "wget2": [5_000.0, 8_000.0, 6_000.0],
    "aria2c": [1_000.0, 1_000.0, 500.0],
    "curl, then md5sum": [3_000.0, 5_000.0, 3_500.0],
}


def test_ratios_are_taken_within_each_round() -> None:
    """The median of 3, 4 and 7, not the ratio of the medians; against the fastest of each round."""
    reached = {target.what.split()[-1]: target.reached for target in small.targets(FIGURES)}
    assert reached == {"checksums": 4.0, "-c": 1.0, "unverified": 0.5}
    assert ratio([2.0, 9.0], [1.0, 3.0]) == 2.5


@pytest.mark.parametrize(
    ("reached", "at_least", "verdict"),
    [
        (1.2, True, "aim met"),
        (1.0, True, "first target met"),
        (0.8, True, "missed"),
        (0.8, False, "aim met"),
        (1.3, False, "missed"),
    ],
)
def test_a_target_is_met_from_its_own_side(reached: float, at_least: bool, verdict: str) -> None:
    first, aim = (0.9, 1.2) if at_least else (1.2, 0.9)
    assert Target("x", reached, first, aim, at_least=at_least).verdict == verdict


def test_the_page_is_written_between_its_marks_from_what_was_kept(tmp_path: Path) -> None:
    series = tuple(Series(name, "files/s", tuple(values)) for name, values in FIGURES.items())
    kept = Result("small", small.TITLE, series, tuple(small.targets(FIGURES)), ("A note.",), "2 cores")
    kept.keep(tmp_path / "results")
    assert Result.kept(tmp_path / "results/small.json") == kept
    (tmp_path / "benchmarks.md").write_text(f"before\n{BEGIN}stale\n{END}\nafter\n")
    write_page(tmp_path / "results", tmp_path)
    page = (tmp_path / "benchmarks.md").read_text()
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "stale" not in page
    for words in ("| midasdl | 3,500 files/s | 3,000 files/s | 4,000 files/s | 3 |", "A note.", "2 cores"):
        assert words in page
    picture = ET.parse(tmp_path / "images/bench-small.svg").getroot()
    assert picture.tag.endswith("svg")


def test_an_archive_is_the_same_each_time_and_has_the_mix_that_was_asked_for(tmp_path: Path) -> None:
    one, other = (make_archive(tmp_path / name, 1_000, TRUE_MIX) for name in ("one", "other"))
    assert one.sums == other.sums
    assert len({path for _, path in one.sums}) == len({md5 for md5, _ in one.sums}) == 1_000
    datasets = Counter(path.split("/")[1] for _, path in one.sums)
    assert datasets["uk-daily-rain-obs"] == 460
    md5, path = one.sums[0]
    assert hashlib.md5((one.root / path).read_bytes()).hexdigest() == md5


def test_each_workload_has_what_the_harness_asks_for() -> None:
    for name in NAMES:
        assert workload(name).TITLE
        assert callable(workload(name).measure)


def test_contenders_take_turns(tmp_path: Path) -> None:
    turns: list[str] = []
    runners = {name: (lambda name=name: turns.append(name) or 1.0) for name in "abc"}
    Bench(tmp_path, rounds=2, say=lambda _: None).in_alternation(runners)
    assert turns == ["a", "b", "c", "b", "c", "a"]


def test_the_slow_server_counts_from_its_own_side(tmp_path: Path) -> None:
    """A run without any cost of its own reaches the whole of the ceiling, or what this machine lets it reach."""
    archive = make_archive(tmp_path, 3, SMALL_ONLY)
    with slow_server(archive.root, 0.001) as server, requests.Session() as session:

        def run() -> float:
            for _ in range(200):
                assert session.get(f"{server.url}/{archive.sums[0][1]}").ok
            return 0.0

        assert 0 < share(server, run) <= 1 / 8 * 1.05, "one connection of eight"
        assert len(server.started_s) == 200
        assert server.most_in_flight == 1
