"""Promises about sums: what is kept of datasets, kinds and states is what a count of all files would find (I4)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from midasdl.ledger import totals
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.outcomes import Claim, Failed, Finished, Outcome, Postponed, Released
from midasdl.ledger.overview import Counts, Overview
from midasdl.ledger.tasks import TaskQueue
from midasdl.ledger.totals import Totals, progress_rows
from midasdl.models import ErrorClass
from midasdl.progress.sizes import Group

Load = Callable[..., Any]
ROOT = "./data/{0}/dataset-version-202407/"
SHAPES = (
    ROOT + "devon/01234_exeter/qc-version-1/midas-open_{0}_dv-202407_devon_01234_exeter_qcv-1_{1}.csv",
    ROOT + "devon/01234_exeter/midas-open_{0}_dv-202407_devon_01234_exeter_capability.csv",
)
DATASETS = ("uk-daily-rain-obs", "uk-soil-temperature-obs")
PATHS = [
    shape.format(dataset, year)
    for dataset in DATASETS
    for year in range(1990, 1996)
    for shape in SHAPES
    if year == 1990 or "{1}" in shape
] + ["./data/readme.txt", "./data/notes/readme.txt"]
MD5S = [digit * 32 for digit in "0123456789"]
ME = 7


@pytest.fixture(autouse=True)
def few_files_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with millions, a count is put together from many."""
    monkeypatch.setattr(totals, "FILES_AT_A_TIME", 5)


def some_lines(dice: random.Random) -> list[str]:
    """Of a manifest in which several paths share their contents, within and across datasets and kinds."""
    return [f"{dice.choice(MD5S)}  {path}" for path in dice.sample(PATHS, dice.randint(1, len(PATHS)))]


def some_outcome(dice: random.Random, claim: Claim) -> Outcome:
    return dice.choice(
        [
            Finished(claim, dice.randint(0, 9_000), from_cache=dice.random() < 0.5),
            Finished(claim, dice.randint(0, 9_000), from_cache=False),
            Failed(claim, ErrorClass.CHECKSUM, "wrong bytes"),
            Postponed(claim, 0, ErrorClass.TIMEOUT, "slow"),
            Released(claim, "stopped"),
        ]
    )


def do_something(dice: random.Random, ledger: Ledger, load: Load) -> None:
    """One thing that changes tasks, as workers, loads and commands do."""
    queue = TaskQueue(ledger)
    done = [row[0] for row in rows_of(ledger, "SELECT id FROM task WHERE state = 'done'")]
    match dice.randrange(6):
        case 0:
            load(*some_lines(dice))
        case 1:
            queue.requeue()
        case 2 if done:
            with ledger.write() as connection:
                queue.reopen(connection, dice.sample(done, 1), "why not", bytes_are_there=dice.random() < 0.5)
        case 3:
            Totals(ledger).count_if_due()
        case _:
            claims = queue.settle(ME, [], want=dice.randint(1, 4)).claims
            queue.settle(ME, [some_outcome(dice, claim) for claim in claims], want=0)


def rows_of(ledger: Ledger, query: str) -> list[tuple[Any, ...]]:
    with ledger.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


@pytest.mark.parametrize("seed", range(12))
def test_i4_sums_are_what_a_count_finds_whatever_happens(ledger: Ledger, load: Load, seed: int) -> None:
    """Files, contents and bytes of each dataset, kind and state; and the view ``progress`` says the same."""
    dice = random.Random(seed)
    load(*some_lines(dice))
    for _ in range(25):
        do_something(dice, ledger, load)
        assert Totals(ledger).disagreement() is None
        with ledger.read() as connection:
            found = {row[:4] for row in progress_rows(connection)}
            sizes = set(totals.groups(connection))
        assert found == set(rows_of(ledger, "SELECT dataset, state, files, tasks FROM progress"))
        assert Overview(ledger).counts() == counts_by_walking(ledger)
        assert sizes == sizes_by_walking(ledger)


def sizes_by_walking(ledger: Ledger) -> set[Group]:
    """Each content where its first path is."""
    firsts: dict[int, tuple[str, str, str, int | None]] = {}
    query = "SELECT t.id, coalesce(d.dataset, ''), d.kind, t.state, t.size_bytes FROM destination d"
    for task_id, *facts in rows_of(ledger, f"{query} JOIN task t ON t.id = d.task_id ORDER BY d.id"):
        firsts.setdefault(task_id, tuple(facts))
    groups: dict[tuple[str, str], Group] = {}
    for dataset, kind, state, size in firsts.values():
        before = groups.get((dataset, kind), Group(dataset, kind, 0, 0, 0))
        is_done, is_open = state == "done", state not in {"done", "failed"}
        groups[dataset, kind] = Group(
            dataset,
            kind,
            before.done + is_done,
            before.bytes_done + is_done * (size or 0),
            before.unfinished + is_open,
        )
    return set(groups.values())


def counts_by_walking(ledger: Ledger) -> Counts:
    states = dict(rows_of(ledger, "SELECT state, count(*) FROM task GROUP BY state"))
    ((size,),) = rows_of(ledger, "SELECT coalesce(sum(size_bytes), 0) FROM task WHERE state = 'done'")
    ((files,),) = rows_of(ledger, "SELECT count(*) FROM destination")
    return Counts(**states, files=files, bytes_done=size)


def test_sums_that_somebody_has_changed_are_found_and_a_load_counts_anew(ledger: Ledger, load: Load) -> None:
    """I4: ``midasdl doctor`` says so, and names the cure."""
    line = f"{MD5S[0]}  {PATHS[0]}"
    load(line)
    queue = TaskQueue(ledger)
    queue.settle(
        ME, [Finished(claim, 5, from_cache=False) for claim in queue.settle(ME, [], want=1).claims], want=0
    )
    with ledger.write() as connection:
        connection.exec_driver_sql("UPDATE total SET files = files + 1 WHERE state = 'done'")

    assert "uk-daily-rain-obs" in str(Totals(ledger).disagreement())
    load(line)
    assert Totals(ledger).disagreement() is None


def test_a_ledger_of_before_is_counted_when_it_is_upgraded(ledger: Ledger, load: Load) -> None:
    """L8: what was finished then is in the sums."""
    load(*some_lines(random.Random(1)))
    queue = TaskQueue(ledger)
    claims = queue.settle(ME, [], want=5).claims
    queue.settle(ME, [Finished(claim, 5, from_cache=False) for claim in claims], want=0)
    with ledger.write() as connection:
        for trigger in ("total_gains", "total_loses"):
            connection.exec_driver_sql(f"DROP TRIGGER {trigger}")
        connection.exec_driver_sql("DROP TABLE total")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0002'")
    ledger.close()

    with Ledger.open(ledger.path, ledger.clock) as upgraded:
        assert Totals(upgraded).disagreement() is None
        assert Overview(upgraded).counts() == counts_by_walking(upgraded)
