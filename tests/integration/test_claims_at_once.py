"""Promises about many processes at one ledger (L2, L4, L6)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from midasdl.ledger.ledger import Ledger
from midasdl.ledger.overview import Counts, Overview

REPOSITORY = Path(__file__).resolve().parents[2]
PROCESSES, TASKS = 8, 20_000

WORK = """
import sys
from pathlib import Path
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.tasks import Finished, TaskQueue

with Ledger.open(Path(sys.argv[1])) as ledger:
    queue, me = TaskQueue(ledger), int(sys.argv[2])
    print("ready", flush=True)
    sys.stdin.readline()
    done, lost, settled = [], 0, queue.settle(me, [], want=64, share_among=8)
    while settled.claims:
        done += [f"{claim.task_id}:{claim.claim_no}" for claim in settled.claims]
        outcomes = [Finished(claim, 1, from_cache=False) for claim in settled.claims]
        settled = queue.settle(me, outcomes, want=64, share_among=8)
        lost += len(settled.lost)
    print(lost, *done)
"""


def test_eight_processes_claim_every_task_exactly_once(
    ledger: Ledger, load: Callable[..., Any], request: pytest.FixtureRequest
) -> None:
    """L2, L6: no id twice, none left, no lock error, while a reader holds a transaction open all the time."""
    load(*(f"{n:032x}  data/{n}.csv" for n in range(TASKS)))
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WORK, str(ledger.path), str(number)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(1, PROCESSES + 1)
    ]
    request.addfinalizer(lambda: [worker.kill() for worker in workers])
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    with Ledger.open(ledger.path, read_only=True) as reader, reader.read() as view:
        pending = "SELECT count(*) FROM downloads WHERE state = 'pending'"
        assert view.exec_driver_sql(pending).scalar() == TASKS
        started_s = time.monotonic()
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        ended = [worker.communicate() for worker in workers]
        took_s = time.monotonic() - started_s
        if ledger.journal_mode() == "wal":
            assert view.exec_driver_sql(pending).scalar() == TASKS
    assert [errors for _, errors in ended] == [""] * PROCESSES
    claimed: list[str] = []
    for out, _ in ended:
        lost, *ids = out.split()
        assert lost == "0"
        assert ids
        claimed += ids
    assert len(claimed) == TASKS
    assert set(claimed) == {f"{number}:1" for number in range(1, TASKS + 1)}
    assert Overview(ledger).counts() == Counts(done=TASKS, files=TASKS, bytes_done=TASKS)
    assert took_s < 30
