"""Workloads of the benchmarks run at a tiny scale, and see for themselves whether what they measure is right."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from benchmarks.bench import Result
from benchmarks.many_lines import add_lines, write_manifest
from benchmarks.workloads.claims import Shift, claim_and_finish, read_on, require_once
from benchmarks.workloads.memory import peak_pss, pss_of
from midasdl.errors import LedgerBusyError
from midasdl.identity import ProcessIdentity
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.outcomes import Settled
from midasdl.ledger.runs import RunRegistry
from midasdl.ledger.tasks import TaskQueue

ROOT = Path(__file__).parents[2]
MEASURE = """
import sys
from pathlib import Path
from benchmarks.bench import Bench
from benchmarks.workloads import workload
folder = Path(sys.argv[2])
workload(sys.argv[1]).measure(Bench(folder, rounds=1, scale=0.001)).keep(folder)
"""
HOLD = """
import subprocess, sys
held = bytearray(b"1") * int(sys.argv[1])
if len(sys.argv) > 2:
    child = subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]], stdin=sys.stdin)
else:
    print("ready", flush=True)
sys.stdin.read()
"""
MB = 1_000_000

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="no other system tells how memory is shared")


def measured(name: str, folder: Path) -> Result:
    """A workload as it is kept, measured by an interpreter of its own: it starts processes for good."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, name, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Result.kept(folder / f"{name}.json")


@linux_only
def test_memory_is_that_of_all_processes_and_has_its_targets(tmp_path: Path) -> None:
    result = measured("memory", tmp_path)
    peak, growth = result.targets
    assert (peak.first, peak.aim, peak.at_least) == (200, 120, False)
    assert (growth.first, growth.aim, growth.at_least) == (1.1, 1.1, False)
    assert peak.reached == max(result.series[1].values) > 30, "more than one process takes"


@pytest.mark.soak
def test_claims_finds_no_task_finished_twice_and_has_its_targets(tmp_path: Path) -> None:
    result = measured("claims", tmp_path)
    speed, errors = result.targets
    assert (speed.first, speed.aim, speed.at_least) == (5_000, 10_000, True)
    assert (errors.first, errors.aim, errors.reached, errors.at_least) == (0, 0, 0, False)
    assert all(value > 0 for series in result.series for value in series.values)


@contextmanager
def holding(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process, and perhaps one that it has started, with some memory each."""
    command = [sys.executable, "-c", HOLD, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        assert process.stdin is not None
        process.stdin.close()


@linux_only
def test_what_a_process_has_started_counts_with_it() -> None:
    with holding(str(30 * MB)) as alone:
        assert 30 * MB < pss_of(alone.pid) < 60 * MB
    with holding(str(30 * MB), HOLD) as parent:
        assert 60 * MB < pss_of(parent.pid) < 100 * MB
    assert pss_of(parent.pid) == 0, "it has ended"


@linux_only
def test_a_process_that_does_not_end_is_looked_at_for_so_long_and_no_longer() -> None:
    with holding(str(MB)) as process:
        assert peak_pss(process, longest_s=0.01) > MB
        assert process.poll() is None


class Shaky(TaskQueue):
    """A queue that is locked when it is asked for the second and the third time."""

    asked = 0

    def settle(self, *words: Any, **named: Any) -> Settled:
        self.asked += 1
        if self.asked in {2, 3}:
            raise LedgerBusyError("locked")
        return super().settle(*words, **named)


@pytest.fixture
def shift(ledger: Ledger, load: Callable[..., Any]) -> Shift:
    """A hundred tasks, of which a worker wants ten at a time."""
    load(*(f"{number:032x}  file-{number}" for number in range(100)))
    run_id = RunRegistry(ledger).start_run("run", {})
    return Shift(ledger.path, run_id, 10, 60.0, Barrier(1))


@pytest.fixture
def worker(ledger: Ledger, shift: Shift) -> int:
    return RunRegistry(ledger).register(shift.run_id, "worker", "w", ProcessIdentity.current())


def test_a_lock_error_is_counted_and_what_was_claimed_is_finished_all_the_same(
    ledger: Ledger, shift: Shift, worker: int
) -> None:
    stint = claim_and_finish(Shaky(ledger), worker, shift)
    assert (stint.finished, stint.errors) == (100, 2)
    require_once(shift.ledger, 100)


def test_what_the_ledger_does_not_confirm_is_no_measurement(
    ledger: Ledger, shift: Shift, worker: int
) -> None:
    """Neither what is still claimed, nor what was finished by two, nor what was claimed once more."""
    queue = TaskQueue(ledger)
    require_once(shift.ledger, 0)
    queue.settle(worker, [], want=1)
    with pytest.raises(RuntimeError, match="finished 0 tasks; 0 are done, with 1 claims"):
        require_once(shift.ledger, 0)
    RunRegistry(ledger).retire([worker], dead=True)
    again = RunRegistry(ledger).register(shift.run_id, "worker", "again", ProcessIdentity.current())
    assert claim_and_finish(queue, again, shift).finished == 100
    with pytest.raises(RuntimeError, match="with 101 claims"):
        require_once(shift.ledger, 100)


def test_the_reader_looks_at_least_once(shift: Shift) -> None:
    assert read_on(Shift(shift.ledger, shift.run_id, 1, 0.01, Barrier(1))) == 0


def test_added_lines_come_behind_those_that_are_there(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.txt"
    manifest.write_text("first\n")
    add_lines(manifest, write_manifest(tmp_path / "more.txt", 50))
    lines = manifest.read_text().splitlines()
    assert lines[0] == "first"
    assert len(set(lines)) == 51
