"""Promises about loading manifests (M2, M5, M6, M7, I4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from midasdl.errors import ManifestError, SelectionError
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.merge import LoadSummary
from midasdl.ledger.outcomes import Failed, Finished, Settled
from midasdl.ledger.overview import Counts, Overview
from midasdl.ledger.tasks import TaskQueue
from midasdl.models import ErrorClass
from midasdl.selection import Selection
from tests.support.clock import FakeClock

A, B, C, D = (letter * 32 for letter in "abcd")
STATION = "data/uk-daily-rain-obs/dataset-version-202407/devon/01381_twist/qc-version-1"
RAIN = f"{STATION}/midas-open_uk-daily-rain-obs_dv-202407_devon_01381_twist_qcv-1_%d.csv"
WORKER = 7

Load = Callable[..., LoadSummary]


@pytest.fixture(autouse=True)
def sums(ledger: Ledger) -> Iterator[None]:
    """I4 after every test of this module: no task and no path was lost."""
    yield
    Overview(ledger).require_that_all_adds_up()


def rows(ledger: Ledger, sql: str) -> list[tuple[Any, ...]]:
    with ledger.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


def held(ledger: Ledger) -> dict[str, str]:
    """Path to md5."""
    return dict(rows(ledger, "SELECT path, md5 FROM downloads"))  # type: ignore[arg-type]


def states(ledger: Ledger) -> dict[str, str]:
    """Letter of the md5 to the state of its task."""
    return dict(rows(ledger, "SELECT substr(md5, 1, 1), state FROM task ORDER BY 1"))  # type: ignore[arg-type]


def rejects(ledger: Ledger) -> list[tuple[Any, ...]]:
    return rows(ledger, "SELECT line_no, text, reason FROM reject ORDER BY line_no")


def claim(ledger: Ledger, want: int = 99) -> Settled:
    return TaskQueue(ledger).settle(WORKER, [], want=want)


def finish(ledger: Ledger, settled: Settled) -> Settled:
    outcomes = [Finished(each, 10, from_cache=False, http_status=200) for each in settled.claims]
    return TaskQueue(ledger).settle(WORKER, outcomes, want=0)


# --- M5: one task, many paths


def test_lines_with_the_same_md5_are_one_task_and_no_path_is_lost(ledger: Ledger, load: Load) -> None:
    """M5: the scenario of 1,000 lines of which 900 repeat the contents of the first: 100 tasks, 1,000 paths."""
    lines = [f"{'0' * 32 if n < 901 else f'{n:032x}'}  data/{n:04}.csv" for n in range(1_000)]
    summary = load(*lines)
    assert summary == LoadSummary(lines=1_000, added=1_000)
    assert Overview(ledger).counts() == Counts(pending=100, files=1_000)
    assert held(ledger) == {line[34:]: line[:32] for line in lines}
    [first, *_] = claim(ledger).claims
    assert first.paths == tuple(f"data/{n:04}.csv" for n in range(901))


def test_a_path_may_be_repeated_with_the_same_md5(ledger: Ledger, load: Load) -> None:
    """M5: a line that says again what an earlier one said is counted and changes nothing."""
    assert load(f"{A}  p", f"{A}  ./p", f"{A} *p") == LoadSummary(lines=3, added=1, repeated=2)
    assert held(ledger) == {"p": A}


def test_the_fields_of_a_line_stand_in_its_row(ledger: Ledger, load: Load) -> None:
    """M4: what the path tells can be asked for; a path of unknown shape is kept as kind other."""
    load(f"{A}  {RAIN % 1992}", f"{B}  somewhere/else")
    fields = "dataset, release, county, station_id, station_name, qc_version, year, kind, line_no"
    assert rows(ledger, f"SELECT {fields} FROM downloads ORDER BY line_no") == [
        ("uk-daily-rain-obs", "202407", "devon", "01381", "twist", 1, 1992, "data", 1),
        (*(None,) * 7, "other", 2),
    ]


# --- M2: lines that cannot be used


def test_a_bad_line_becomes_a_row_and_the_others_are_loaded(ledger: Ledger, load: Load) -> None:
    """M2: number, text and reason; every line is counted in exactly one way."""
    summary = load("# comment", f"{A}  good", "", "not a line", f"{B}  ../escape", f"{B}  good", f"{A}  good")
    assert summary == LoadSummary(lines=7, rejected=3, added=1, repeated=1)
    assert [(line_no, reason[:20]) for line_no, _, reason in rejects(ledger)] == [
        (4, "the line does not be"),
        (5, "the path climbs out "),
        (6, "the same path stands"),
    ]
    assert states(ledger) == {"a": "pending"}


def test_strict_loads_nothing_if_any_line_cannot_be_used(ledger: Ledger, load: Load) -> None:
    """M2: neither a malformed line nor one that contradicts another is let pass, and nothing stays."""
    load(f"{A}  old")
    for lines in ([f"{B}  new", "not a line"], [f"{B}  new", f"{C}  new"], [f"{B}  new", f"{C}  new/er"]):
        with pytest.raises(ManifestError, match="Nothing was loaded"):
            load(*lines, strict=True)
    assert held(ledger) == {"old": A}
    assert rows(ledger, "SELECT count(*) FROM manifest") == [(1,)]
    assert rejects(ledger) == []
    assert load(f"{B}  new", strict=True).added == 1


@pytest.mark.parametrize("lines", [[], ["# only", ""], ["<html>"]], ids=["empty", "comments", "html"])
def test_a_manifest_without_a_usable_line_is_refused(ledger: Ledger, load: Load, lines: list[str]) -> None:
    """M2: and the ledger stays as it was."""
    with pytest.raises(ManifestError):
        load(*lines)
    assert rows(ledger, "SELECT count(*) FROM manifest") == [(0,)]


# --- M6: a file that is also a folder


def test_within_a_manifest_the_file_gives_way_to_the_folder(ledger: Ledger, load: Load) -> None:
    """M6: `p` cannot be beside `p/q`; names between them in the order of text do not hide it."""
    summary = load(f"{A}  p", f"{B}  p-q", f"{C}  p/q/r", f"{D}  p/q")
    assert summary == LoadSummary(lines=4, added=2, rejected=2)
    assert held(ledger) == {"p-q": B, "p/q/r": C}
    assert states(ledger) == {"b": "pending", "c": "pending"}
    reason = "this file would have to be a folder for another line"
    assert rejects(ledger) == [(1, f"{A}  p", reason), (4, f"{D}  p/q", reason)]


def test_what_the_ledger_holds_stays_whatever_would_lie_beneath(ledger: Ledger, load: Load) -> None:
    """M6: an old file is kept and new paths beneath it are rejected, however many and however deep."""
    load(f"{A}  p")
    summary = load(f"{A}  p", f"{B}  p/q", f"{C}  p/r/s", f"{D}  p0")
    assert summary == LoadSummary(lines=4, added=1, unchanged=1, rejected=2)
    assert held(ledger) == {"p": A, "p0": D}
    assert [(line_no, reason) for line_no, _, reason in rejects(ledger)] == [
        (2, "p is a file"),
        (3, "p is a file"),
    ]


def test_a_new_file_does_not_replace_an_old_folder(ledger: Ledger, load: Load) -> None:
    """M6: the other way round too."""
    load(f"{A}  p/q")
    assert load(f"{B}  p", f"{C}  p/r") == LoadSummary(lines=2, added=1, rejected=1, gone=1)
    assert held(ledger) == {"p/q": A, "p/r": C}


def test_a_rejected_path_does_not_disturb_finished_work(ledger: Ledger, load: Load) -> None:
    """M7: a line that comes to nothing leaves the task that has its contents done, however often it is loaded."""
    lines = [f"{A}  p/q", f"{B}  r", f"{B}  p"]
    load(*lines)
    finish(ledger, claim(ledger))
    for _ in range(2):
        assert load(*lines) == LoadSummary(lines=3, rejected=1, unchanged=2)
        assert states(ledger) == {"a": "done", "b": "done"}
    assert len(rejects(ledger)) == 1


# --- M7: loading again


def test_loading_the_same_manifest_again_changes_nothing(ledger: Ledger, load: Load) -> None:
    """M7: neither tasks, nor paths, nor states, nor rejects, nor history; only the load itself is kept."""
    lines = [f"{A}  p", f"{A}  q", f"{B}  r", "not a line", f"{C}  r"]
    assert load(*lines) == LoadSummary(lines=5, added=3, rejected=2)
    finish(ledger, claim(ledger, 1))
    before = [rows(ledger, f"SELECT * FROM {name}") for name in ("task", "destination", "history")]
    for _ in range(2):
        assert load(*lines) == LoadSummary(lines=5, unchanged=3, rejected=2)
    assert [rows(ledger, f"SELECT * FROM {name}") for name in ("task", "destination", "history")] == before
    assert [line_no for line_no, *_ in rejects(ledger)] == [4, 5]
    assert rows(ledger, "SELECT added, unchanged FROM manifest ORDER BY id") == [(3, 0), (0, 3), (0, 3)]


def test_a_newer_manifest_is_merged_and_counted(ledger: Ledger, load: Load) -> None:
    """M7: new, changed, unchanged and gone; what is gone from the manifest stays in the ledger."""
    load(f"{A}  same", f"{B}  other", f"{C}  gone")
    finish(ledger, claim(ledger))
    summary = load(f"{A}  same", f"{D}  other", f"{'e' * 32}  new")
    assert summary == LoadSummary(lines=3, added=1, changed=1, unchanged=1, gone=1)
    assert held(ledger) == {"same": A, "other": D, "gone": C, "new": "e" * 32}
    assert states(ledger) == {"a": "done", "c": "done", "d": "pending", "e": "pending"}


def test_counts_are_right_when_only_a_part_is_selected(ledger: Ledger, load: Load) -> None:
    """M7: paths of the manifest outside the selection are neither gone nor touched."""
    years = {year: f"{year:032x}  {RAIN % year}" for year in range(1990, 1996)}
    load(*years.values())
    newer = [f"{year + 5_000:032x}  {RAIN % year}" for year in range(1991, 1997)]
    chosen = Selection.parse(year=["1993:"])
    summary = load(*newer, selection=chosen)
    assert summary == LoadSummary(lines=6, not_selected=2, added=1, changed=3, gone=1)
    assert held(ledger)[RAIN % 1991] == f"{1991:032x}"
    assert held(ledger)[RAIN % 1993] == f"{1993 + 5_000:032x}"


def test_a_wider_selection_adds_the_rest(ledger: Ledger, load: Load) -> None:
    """M7: init may be repeated with more; what was there is unchanged."""
    lines = [f"{year:032x}  {RAIN % year}" for year in range(1990, 1996)]
    assert load(*lines, selection=Selection.parse(year=["1990"])) == LoadSummary(6, not_selected=5, added=1)
    assert load(*lines) == LoadSummary(6, added=5, unchanged=1)


def test_a_selection_that_matches_nothing_loads_nothing(ledger: Ledger, load: Load) -> None:
    """M3: it is an error that suggests near names."""
    with pytest.raises(SelectionError, match="devon"):
        load(f"{A}  {RAIN % 1990}", selection=Selection.parse(county=["devn"]))
    assert rows(ledger, "SELECT count(*) FROM manifest") == [(0,)]


def test_an_md5_that_nobody_wants_any_more_goes_with_its_history(ledger: Ledger, load: Load) -> None:
    """M7: its task does not linger, whatever state it is in; tasks with other paths stay."""
    load(f"{A}  p", f"{B}  q", f"{B}  r")
    failed = [Failed(each, ErrorClass.NOT_FOUND, "404") for each in claim(ledger).claims]
    TaskQueue(ledger).settle(WORKER, failed, want=0)
    assert load(f"{C}  p", f"{C}  q", f"{B}  r").changed == 2
    assert states(ledger) == {"b": "failed", "c": "pending"}
    assert rows(ledger, "SELECT count(*) FROM history WHERE task_id NOT IN (SELECT id FROM task)") == [(0,)]


def test_a_done_task_that_gains_a_path_is_pending_again_and_its_history_is_whole(
    ledger: Ledger, load: Load, clock: FakeClock
) -> None:
    """M7, L1: its bytes must go there too; that it was done before can still be asked."""
    load(f"{A}  p")
    clock.advance(1)
    settled = claim(ledger)
    clock.advance(2)
    finish(ledger, settled)
    clock.advance(4)
    load(f"{A}  p", f"{A}  q")
    assert states(ledger) == {"a": "pending"}
    assert rows(ledger, "SELECT finished_at, attempts FROM task") == [(None, 0)]
    assert rows(ledger, "SELECT from_state, to_state, reason FROM history ORDER BY seq") == [
        (None, "pending", "loaded"),
        ("pending", "in_progress", "claimed"),
        ("in_progress", "done", "finished"),
        ("done", "pending", "new destination"),
    ]
    assert rows(ledger, "SELECT state, seconds FROM time_in_state ORDER BY 1") == [
        ("done", 4.0),
        ("in_progress", 2.0),
        ("pending", 1.0),
    ]
    [again] = claim(ledger).claims
    assert again.paths == ("p", "q")


@pytest.mark.parametrize(
    "newer",
    [[f"{A}  p", f"{A}  q", f"{B}  r"], [f"{A}  p", f"{A}  r"], [f"{B}  p", f"{A}  s"]],
    ids=["gained-a-path", "gained-another's-path", "swapped"],
)
def test_a_worker_loses_its_claim_when_the_paths_of_its_task_change(
    ledger: Ledger, load: Load, newer: list[str]
) -> None:
    """I3: it knows the old paths only; what it reports is dropped and the task is claimed anew with all."""
    load(f"{A}  p", f"{B}  r")
    settled = claim(ledger, 1)
    load(*newer)
    assert finish(ledger, settled).lost == {1}
    assert states(ledger)["a"] == "pending"
    assert rows(ledger, "SELECT to_state, reason FROM history WHERE task_id = 1 ORDER BY seq")[:2] == [
        ("pending", "loaded"),
        ("in_progress", "claimed"),
    ]


def test_a_task_that_loses_a_path_is_claimed_anew_without_it(ledger: Ledger, load: Load) -> None:
    """I3: a worker that holds it would still write to that path."""
    load(f"{A}  p", f"{A}  q")
    settled = claim(ledger)
    load(f"{A}  p", f"{B}  q")
    assert finish(ledger, settled).lost == {1}
    assert {each.md5: each.paths for each in claim(ledger).claims} == {A: ("p",), B: ("q",)}


@pytest.mark.parametrize("others", [[f"{A}  p"], []], ids=["task-kept", "task-gone"])
def test_what_a_late_worker_may_have_overwritten_is_checked_again(
    ledger: Ledger, load: Load, others: list[str]
) -> None:
    """I1: who publishes old bytes late, over new ones that are done, reports it and so undoes the harm."""
    load(*others, f"{A}  q")
    late = claim(ledger)
    load(*others, f"{B}  q")
    finish(ledger, claim(ledger))
    assert states(ledger)["b"] == "done"
    assert finish(ledger, late).lost == {1}
    assert states(ledger)["b"] == "pending"
    assert rows(ledger, "SELECT reason FROM history WHERE task_id = 2 ORDER BY seq DESC LIMIT 1") == [
        ("written by a late worker",)
    ]


def test_a_failed_task_that_gains_a_path_stays_failed(ledger: Ledger, load: Load) -> None:
    """M7: only a person puts failures back."""
    load(f"{A}  p")
    [only] = claim(ledger).claims
    TaskQueue(ledger).settle(WORKER, [Failed(only, ErrorClass.CHECKSUM, "wrong bytes")], want=0)
    load(f"{A}  p", f"{A}  q")
    assert states(ledger) == {"a": "failed"}
    assert len(rows(ledger, "SELECT path FROM failures")) == 2
