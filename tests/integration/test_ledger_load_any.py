"""Promises about loading manifests of any size, and any sequence of them (M1, M5, M6, M7, I4)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midasdl.ledger.ledger import Ledger
from midasdl.ledger.load import ManifestLoader
from midasdl.ledger.outcomes import Finished
from midasdl.ledger.overview import Overview
from midasdl.ledger.tasks import TaskQueue
from midasdl.manifest import ManifestParser
from midasdl.selection import Selection
from tests.support.clock import FakeClock

A, B, C = (letter * 32 for letter in "abc")
WORKER = 7


# --- size

FLAT = """
import resource, sys
from pathlib import Path
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.load import ManifestLoader
from midasdl.ledger.overview import Overview
from midasdl.manifest import ManifestParser
from midasdl.selection import Selection

ROOT = "data/uk-daily-rain-obs/dataset-version-202407/devon/"
FILE = "midas-open_uk-daily-rain-obs_dv-202407_devon_%05d_twist_qcv-1_%d.csv"
LINE = "%032x  " + ROOT + "%05d_twist/qc-version-1/" + FILE + "\\n"

def lines(count, first=0):
    for n in range(first, first + count):
        yield (LINE % (n // 2, n // 100, n // 100, 1900 + n % 100)).encode()

def load(ledger, *some):
    with ledger.write() as connection:
        return ManifestLoader(ledger, "m", Selection()).load(connection, ManifestParser(lines(*some)))

peak_kb = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with Ledger.create(Path(sys.argv[1])) as ledger:
    load(ledger, 20_000)
    before = peak_kb()
    summary = load(ledger, 120_000, 10_000)
    Overview(ledger).require_that_all_adds_up()
    print(summary.added, summary.unchanged, summary.gone, peak_kb() - before)
"""


def test_memory_stays_flat_for_many_lines(tmp_path: Path) -> None:
    """M1: six times the lines take hardly more memory, though they are merged with what is there."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FLAT, str(tmp_path / "progress.db")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    added, unchanged, gone, more_kb = map(int, done.stdout.split())
    assert (added, unchanged, gone) == (110_000, 10_000, 10_000)
    assert more_kb < 20_000


# --- any sequence of manifests

PATHS = ["p", "p/q", "p/q/r", "p-q", "s", "s/t"]
MANIFESTS = st.lists(
    st.lists(st.tuples(st.sampled_from([A, B, C]), st.sampled_from(PATHS)), min_size=1, max_size=8),
    min_size=1,
    max_size=5,
)


def is_beneath(path: str, file: str) -> bool:
    return path.startswith(f"{file}/")


def merged(old: dict[str, str], manifest: list[tuple[str, str]]) -> dict[str, str]:
    """What a ledger should hold after another manifest, in plain words."""
    said: dict[str, str] = {}
    for md5, path in manifest:
        said.setdefault(path, md5)
    new = {path for path in said if path not in old}
    below_old = {path for path in new if any(is_beneath(path, file) for file in old)}
    folders = {path for path in new if any(is_beneath(other, path) for other in {*old, *said})}
    return old | {path: md5 for path, md5 in said.items() if path not in below_old | folders}


@settings(max_examples=40)
@given(manifests=MANIFESTS, work=st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_any_sequence_of_manifests_gives_what_plain_dictionaries_give(
    tmp_path_factory: pytest.TempPathFactory, manifests: list[list[tuple[str, str]]], work: list[int]
) -> None:
    """M5, M6, M7, I4: paths, tasks, states and counts, with finished work in between."""
    clock = FakeClock()
    with Ledger.create(tmp_path_factory.mktemp("model") / "progress.db", clock) as ledger:
        model: dict[str, str] = {}
        done: set[str] = set()
        for manifest, tasks in zip(manifests, work, strict=False):
            before, model = model, merged(model, manifest)
            lines = [f"{md5}  {path}\n".encode() for md5, path in manifest]
            with ledger.write() as connection:
                loader = ManifestLoader(ledger, "m", Selection(), batch_lines=3)
                summary = loader.load(connection, ManifestParser(lines))
            touched = {path for path in model if model[path] != before.get(path)}
            done = {md5 for md5 in done if md5 in model.values()} - {model[path] for path in touched}
            with ledger.read() as connection:
                rows = connection.exec_driver_sql("SELECT path, md5, state FROM downloads").all()
            assert {path: md5 for path, md5, _ in rows} == model
            assert {md5: state for _, md5, state in rows} == {
                md5: "done" if md5 in done else "pending" for md5 in model.values()
            }
            assert summary.added == len(model.keys() - before.keys())
            assert summary.changed == len(touched & before.keys())
            assert summary.gone == len(before.keys() - {path for _, path in manifest})
            assert summary.accepted + summary.repeated + summary.rejected == summary.lines == len(manifest)
            Overview(ledger).require_that_all_adds_up()
            if tasks:
                queue = TaskQueue(ledger)
                claims = queue.settle(WORKER, [], want=tasks).claims
                queue.settle(WORKER, [Finished(each, 10, from_cache=False) for each in claims], want=0)
                done |= {each.md5 for each in claims}
