"""Promises about merging a manifest, and about sharing the end of the queue (L2, L4, M5, M7)."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midasdl.ledger.merge import Known, LoadSummary, Seen, sort_out
from midasdl.ledger.tasks import fair_share
from midasdl.models import FileInfo, Kind

A, B, C = "a" * 32, "b" * 32, "c" * 32


def entry(path: str, md5: str = A, line_no: int = 1) -> FileInfo:
    return FileInfo(md5, path, path, *(None,) * 7, Kind.OTHER, line_no)


def test_a_line_is_new_changed_or_unchanged() -> None:
    """M7: each first mention of a path is compared with what the ledger holds of it."""
    known = {"same": Known(1, A), "other": Known(2, A)}
    batch = sort_out([entry("same"), entry("other", B), entry("new", C)], known, Seen(), count(10))
    assert batch.added == [(10, entry("new", C))]
    assert batch.changed == [(2, entry("other", B))]
    assert (batch.unchanged, batch.repeated, batch.rejected) == (1, 0, [])


def test_what_was_decided_is_known_to_the_next_lines() -> None:
    """M7: `known` and `seen` are brought up to date, so that a path is new only once."""
    known: dict[str, Known] = {"other": Known(2, A)}
    seen = Seen()
    sort_out([entry("new", B), entry("other", C)], known, seen, count(10))
    assert known == {"new": Known(10, B), "other": Known(2, C)}
    assert 10 in seen
    assert 2 in seen


@pytest.mark.parametrize("held", [{}, {"path": Known(3, A)}], ids=["new", "known"])
def test_a_line_said_twice_counts_once(held: dict[str, Known]) -> None:
    """M5: the same line again is a repetition, whether the ledger knew the path before or not."""
    batch = sort_out([entry("path"), entry("path")], held, Seen(), count(10))
    assert batch.repeated == 1
    assert len(batch.added) + batch.unchanged == 1


@pytest.mark.parametrize("held", [{}, {"path": Known(3, A)}], ids=["new", "known"])
def test_the_first_of_two_lines_that_contradict_each_other_holds(held: dict[str, Known]) -> None:
    """M2: a later line that gives the same path another md5 is rejected with its number and a reason."""
    batch = sort_out([entry("path", A, 7), entry("path", B, 9)], held, Seen(), count(10))
    assert not batch.changed
    [reject] = batch.rejected
    assert reject == (9, f"{B}  path", "the same path stands on an earlier line with another md5")


def test_a_contradiction_of_an_earlier_batch_is_found() -> None:
    """M2: batches share `seen`, and the ledger tells what earlier batches wrote."""
    seen = Seen()
    sort_out([entry("path", A)], {}, seen, count(10))
    batch = sort_out([entry("path", B), entry("path", A)], {"path": Known(10, A)}, seen, count(11))
    assert (len(batch.rejected), batch.repeated) == (1, 1)


@given(st.lists(st.tuples(st.sampled_from("pqrs"), st.sampled_from([A, B]))), st.booleans())
def test_every_line_is_counted_exactly_once(lines: list[tuple[str, str]], known_before: bool) -> None:
    """L5: whatever is merged, added + changed + unchanged + repeated + rejected are all lines."""
    held = {"p": Known(1, A), "q": Known(2, B)} if known_before else {}
    batch = sort_out([entry(*line) for line in lines], held, Seen(), count(10))
    parts = (len(batch.added), len(batch.changed), batch.unchanged, batch.repeated, len(batch.rejected))
    assert sum(parts) == len(lines)
    assert sum(parts[:3]) == len({path for path, _ in lines})


@given(st.sets(st.integers(0, 100_000)))
def test_seen_remembers_just_what_it_was_told(numbers: set[int]) -> None:
    """M7: one bit each, and none of them touches another."""
    seen = Seen()
    for number in numbers:
        seen.add(number)
    assert all(number in seen for number in numbers)
    neighbours = {number + step for number in numbers for step in (-1, 1, 8)} - numbers - {-1}
    assert not any(number in seen for number in neighbours)


def test_seen_stays_small_for_millions() -> None:
    """M1: two million destinations take a quarter of a megabyte."""
    seen = Seen()
    for number in range(0, 2_000_000, 1_000):
        seen.add(number)
    assert len(seen._bits) < 256 * 1024


def test_accepted_lines_are_those_that_the_ledger_holds_now() -> None:
    """L5: accepted = added + changed + unchanged."""
    assert LoadSummary(rejected=9, repeated=8, added=1, changed=2, unchanged=3, gone=7).accepted == 6


@pytest.mark.parametrize(
    ("claimable", "want", "workers", "share"),
    [
        (1_024, 64, 8, 64),
        (512, 64, 8, 32),
        (100, 64, 8, 6),
        (8, 64, 8, 1),
        (3, 64, 8, 1),
        (0, 64, 8, 1),
        (20, 4, 2, 4),
        (5, 64, 1, 5),
        (5, 64, 0, 5),
    ],
    ids=[
        *("plenty", "towards-the-end", "near-the-end", "one-each", "too-few", "none", "modest", "alone"),
        "workers-unknown",
    ],
)
def test_nobody_hoards_the_tail(claimable: int, want: int, workers: int, share: int) -> None:
    """L4: near the end of the queue a worker takes half of its share at most, and never less than one."""
    assert fair_share(claimable, want, workers) == share
