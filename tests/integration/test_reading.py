"""P1, P6: what is read of a ledger again and again: true at every moment, and cheap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from midasdl.identity import ProcessIdentity
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.outcomes import Failed, Finished, Postponed
from midasdl.ledger.overview import Overview
from midasdl.ledger.reading import LedgerReader
from midasdl.ledger.runs import RunRegistry
from midasdl.ledger.tasks import TaskQueue
from midasdl.models import ErrorClass
from midasdl.progress.sizes import Group
from midasdl.progress.snapshot import Reading, Tally

STEM = "data/uk-daily-rain-obs/dataset-version-202407"
CHANGES = f"{STEM}/midas-open_uk-daily-rain-obs_dv-202407_change_log.txt"


def line(number: int, path: str | None = None) -> str:
    return f"{number:032x}  ./{path or f'data/{number}.csv'}"


@pytest.fixture
def me(ledger: Ledger) -> int:
    return RunRegistry(ledger).register(None, "worker", "worker-1", ProcessIdentity.current())


def says(reading: Reading) -> tuple[Tally, Tally, int, int]:
    return reading.files, reading.tasks, reading.bytes_done, reading.claimed


def test_a_reading_counts_files_tasks_and_bytes_as_sql_does(
    ledger: Ledger, load: Callable[..., Any], me: int
) -> None:
    """P1: a task with three paths is three files; at every moment the sums are those of the views."""
    load(
        *(line(n) for n in range(1, 9)), line(1, "data/twin.csv"), line(1, "data/third.csv"), line(2, CHANGES)
    )
    queue, reader = TaskQueue(ledger), LedgerReader(ledger)
    assert says(reader.read()) == (Tally(11, 0, 0), Tally(8, 0, 0), 0, 0)

    one, two, three, four, _ = queue.settle(me, [], want=5).claims
    queue.settle(
        me,
        [
            Finished(one, 100, from_cache=False),
            Failed(two, ErrorClass.NOT_FOUND, "not there"),
            Finished(three, 10, from_cache=True),
            Postponed(four, ledger.clock.now_us() + 90_000_000, ErrorClass.TIMEOUT, "late"),
        ],
        want=0,
    )
    for reading in (reader.read(), LedgerReader(ledger).read()):
        assert says(reading)[1:] == (Tally(8, 2, 1), 110 if reading.groups else 0, 1)
        assert reading.workers == 1
        assert reading.not_before_s == pytest.approx(90)

    full = LedgerReader(ledger).read()
    files = dict.fromkeys(("done", "failed", "pending", "in_progress"), 0)
    for row in Overview(ledger).progress():
        files[row["state"]] += row["files"]
    assert full.files == Tally(11, files["done"], files["failed"]) == Tally(11, 4, 2)
    assert full.groups == (Group("", "other", 2, 110, 5),), "a content counts where its first path is"
