"""S5, S6: verifying and adopting beside runs that work on the same ledger."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from midasdl import adopt, verify
from midasdl.adopt import Adopter, How, Site, files_below
from midasdl.crew import Crew
from midasdl.errors import StorageError, WorkerCrashedError
from midasdl.ledger.adoption import Names
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.outcomes import Finished
from midasdl.ledger.tasks import TaskQueue
from midasdl.ledger.verification import Verification
from midasdl.ledger.verify_statements import FINISHED_AFTER
from midasdl.manifest import OWN_FOLDER
from midasdl.verify import Verifier, VerifyPlan
from tests.integration.test_query_plans import plan, text_of

ME = 1
SOMEBODY = 99
FILES = 10


def body(number: int) -> bytes:
    return b"Conventions,G,BADC-CSV,1\n%d" % number


def md5_of(number: int) -> str:
    return hashlib.md5(body(number)).hexdigest()


class SameProcess:
    """A crew of nobody: the work is done here, and something may happen after it was done."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)  # type: ignore[assignment]

    def __init__(self, *_: Any) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, work: Callable[[Any], list[Any]], items: Sequence[Any], *_: Any, **__: Any) -> list[Any]:
        results = work(items)
        type(self).meanwhile()
        return results


@pytest.fixture
def root(ledger: Ledger) -> Path:
    return ledger.path.parent / "midas-open"


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> type[SameProcess]:
    """Verifying and adopting without processes; what happens meanwhile is the test's to say."""

    class Alone(SameProcess):
        pass

    monkeypatch.setattr(verify, "Crew", Alone)
    monkeypatch.setattr(adopt, "Crew", Alone)
    return Alone


@pytest.fixture
def loaded(load: Callable[..., Any]) -> None:
    load(*(f"{md5_of(number)}  data/{number}.csv" for number in range(FILES)))


@pytest.fixture
def done(ledger: Ledger, loaded: None, root: Path) -> TaskQueue:
    """Ten files that are done and on disk."""
    (root / "data").mkdir(parents=True)
    (root / OWN_FOLDER).mkdir()
    for number in range(FILES):
        (root / f"data/{number}.csv").write_bytes(body(number))
    queue = TaskQueue(ledger)
    claims = queue.settle(ME, [], want=FILES).claims
    queue.settle(ME, [Finished(claim, 1, from_cache=False) for claim in claims], want=0)
    return queue


def verifier(ledger: Ledger, root: Path, **plan: Any) -> Verifier:
    return Verifier(ledger, root, VerifyPlan(1, **plan), random.Random(3).uniform)


def test_a_file_that_a_run_takes_up_meanwhile_is_not_called_damaged(
    ledger: Ledger, root: Path, done: TaskQueue, alone: type[SameProcess]
) -> None:
    """S5 I3: what was read is believed only if the ledger stood still since; a claim is never taken from a run."""
    (root / "data/3.csv").unlink()

    def take_up() -> None:
        with ledger.write() as connection:
            done.reopen(connection, [4], "destination changed")
        assert len(done.settle(2, [], want=1).claims) == 1

    alone.meanwhile = take_up
    verified = verifier(ledger, root, repair=True).run()

    assert (verified.missing, verified.changed, verified.put_back) == (0, 1, 0)
    with ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT id, state FROM task WHERE state <> 'done'").all() == [
            (4, "in_progress")
        ]


def test_a_file_that_is_replaced_meanwhile_is_looked_at_again(
    ledger: Ledger, root: Path, done: TaskQueue, alone: type[SameProcess]
) -> None:
    """S5: half a copy that somebody was just writing is not damage."""
    (root / "data/3.csv").write_bytes(b"half")
    alone.meanwhile = lambda: (root / "data/3.csv").write_bytes(body(3))  # type: ignore[assignment]
    verified = verifier(ledger, root).run()
    assert (verified.ok, verified.corrupt, verified.changed) == (FILES, 0, 0)


def test_damage_is_put_back_only_if_the_task_still_stands_as_it_was_seen(
    ledger: Ledger, root: Path, done: TaskQueue, alone: type[SameProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S5 I3: the fence is in the transaction that writes, not before it."""
    (root / "data/3.csv").unlink()
    unchanged = Verification.unchanged

    def finished_again_just_after(self: Verification, files: Any) -> Any:
        standing = unchanged(self, files)
        with ledger.write() as connection:
            done.reopen(connection, [4], "destination changed")
        (claim,) = done.settle(2, [], want=1).claims
        done.settle(2, [Finished(claim, 1, from_cache=True)], want=0)
        return standing

    monkeypatch.setattr(Verification, "unchanged", finished_again_just_after)
    assert verifier(ledger, root, repair=True).run().put_back == 0
    with ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM task WHERE state <> 'done'").scalar() == 0
        assert connection.exec_driver_sql("SELECT count(*) FROM damage").scalar() == 0


def test_an_interrupted_verification_goes_on_where_it_was(
    ledger: Ledger, root: Path, done: TaskQueue, alone: type[SameProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S5: batches that were recorded are not read again, except what was found wrong in them."""
    monkeypatch.setattr(verify, "BATCH", 3)
    (root / "data/1.csv").unlink()
    first = verifier(ledger, root)
    batches: list[int] = []

    def stop_after_two() -> None:
        batches.append(1)
        if len(batches) == 3:
            first.stop(130)
            raise verify.StoppedError("asked")

    alone.meanwhile = stop_after_two
    stopped = first.run()
    assert (stopped.looked_at, stopped.interrupted_by, stopped.unknown) == (6, 130, None)

    alone.meanwhile = lambda: None  # type: ignore[assignment]
    again = verifier(ledger, root, resume=True, repair=True).run()
    assert (again.looked_at, again.ok, again.missing, again.put_back, again.unknown) == (1 + 4, 4, 1, 1, 0)
    assert verifier(ledger, root, resume=True).run().looked_at == 0
    assert verifier(ledger, root).run().looked_at == FILES - 1, "without --resume everything is read again"


def test_files_are_streamed_from_the_ledger_by_an_index(ledger: Ledger, done: TaskQueue) -> None:
    """S5: the next thousand of millions cost the same wherever they stand, without a sort."""
    sql = text_of(FINISHED_AFTER)
    steps = plan(ledger, sql, ("",) * sql.count("?"))
    assert "(path>?)" in steps
    assert "TEMP B-TREE" not in steps
    assert not re.search(r"^SCAN", steps, re.MULTILINE)


def test_a_task_that_a_run_holds_is_not_taken_from_it(
    ledger: Ledger, root: Path, loaded: None, alone: type[SameProcess], tmp_path: Path
) -> None:
    """S6 I3: it is told as busy, and the run's claim stays good."""
    old = tmp_path / "old"
    old.mkdir()
    for number in range(FILES):
        (old / f"{number}.csv").write_bytes(body(number))
    queue = TaskQueue(ledger)
    (claim,) = queue.settle(SOMEBODY, [], want=1).claims
    left: list[Any] = []

    adopted = Adopter(ledger, Site(root, "hardlink", How.COPY), 1, left.append).adopt(old)

    assert (adopted.adopted, adopted.busy) == (FILES - 1, 1)
    assert [item.why for item in left] == ["busy"]
    assert not queue.settle(SOMEBODY, [Finished(claim, 1, from_cache=False)], want=0).lost


@pytest.mark.parametrize("how", list(How))
def test_bytes_that_change_between_reading_and_bringing_never_get_a_final_name(
    ledger: Ledger, root: Path, loaded: None, alone: type[SameProcess], tmp_path: Path, how: How
) -> None:
    """S6 I1: it is what was brought that is checked; the file stays where it was, and its task is pending."""
    old = tmp_path / "old"
    old.mkdir()
    (old / "3.csv").write_bytes(body(3))
    alone.meanwhile = lambda: (old / "3.csv").write_bytes(b"edited")  # type: ignore[assignment]

    adopted = Adopter(ledger, Site(root, "hardlink", how), 1).adopt(old)

    assert (adopted.adopted, adopted.different) == (0, 1)
    assert (old / "3.csv").read_bytes() == b"edited"
    assert not (root / "data/3.csv").exists()
    assert list((root / ".midasdl/parts").iterdir()) == []
    with ledger.read() as connection:
        assert (
            connection.exec_driver_sql("SELECT count(*) FROM task WHERE state = 'pending'").scalar() == FILES
        )


def test_nothing_is_recorded_as_done_before_its_folder_is_on_disk(
    ledger: Ledger,
    root: Path,
    loaded: None,
    alone: type[SameProcess],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S6 I2: where making the names durable fails, no task is done, no moved file has lost its old name."""
    old = tmp_path / "old"
    old.mkdir()
    (old / "3.csv").write_bytes(body(3))
    adopter = Adopter(ledger, Site(root, "hardlink", How.MOVE), 1)
    adopt.CacheStore(root).prepare()

    def broken(self: Any) -> None:
        raise StorageError("the disk is gone")

    monkeypatch.setattr(adopt.CacheStore, "prepare", lambda _: None)
    monkeypatch.setattr(adopt.CacheStore, "sync_folders", broken)
    with pytest.raises(StorageError):
        adopter.adopt(old)
    assert (old / "3.csv").exists()
    with ledger.read() as connection:
        assert (
            connection.exec_driver_sql("SELECT count(*) FROM task WHERE state = 'pending'").scalar() == FILES
        )


def test_copies_leave_the_disk_what_runs_must_leave_it(
    ledger: Ledger, root: Path, loaded: None, alone: type[SameProcess], tmp_path: Path
) -> None:
    """S6 S7: a disk that is nearly full ends it with every task pending; links need no room."""
    old = tmp_path / "old"
    old.mkdir()
    (old / "3.csv").write_bytes(body(3))
    with pytest.raises(StorageError, match="min_free_bytes"):
        Adopter(ledger, Site(root, "hardlink", How.COPY, 10**18), 1).adopt(old)
    with ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT DISTINCT state FROM task").scalars().all() == ["pending"]
    assert Adopter(ledger, Site(root, "hardlink", How.LINK, 10**18), 1).adopt(old).adopted == 1


def test_the_data_root_is_not_searched_by_way_of_a_folder_around_it(tmp_path: Path) -> None:
    """S6: `adopt ~` finds what lies beside the data root, never midasdl's own files."""
    root = tmp_path / "work/midas-open"
    for name in ("data/a.csv", ".midasdl/parts/x.part"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(name)
    (tmp_path / "work/b.csv").write_text("b")

    def found(folder: Path) -> list[str]:
        return [Path(path).name for path in files_below(folder, root, pytest.fail)]

    assert found(tmp_path) == ["b.csv"]
    assert found(root) == found(root / "data") == ["a.csv"]


def test_names_are_known_without_keeping_them_in_memory(ledger: Ledger, load: Callable[..., Any]) -> None:
    """S6: one destination is told by its number, several as several."""
    load(f"{'a' * 32}  data/x/a.csv", f"{'b' * 32}  data/y/a.csv", f"{'c' * 32}  data/x/c.csv")
    with Names(ledger) as names:
        assert names.known(["a.csv", "c.csv", "d.csv"]) == {"a.csv": None, "c.csv": 3}


# --- the crew


def exit_hard(_: Sequence[int]) -> list[int]:
    os._exit(9)


def double(numbers: Sequence[int]) -> list[int]:
    return [2 * number for number in numbers]


def test_results_come_in_the_order_of_the_items() -> None:
    """S5: whoever is ready first."""
    with Crew(3, __name__) as crew:
        assert crew.map(double, range(100), 7) == [2 * number for number in range(100)]
        assert crew.map(double, [], 7) == []


def test_a_process_that_dies_ends_the_command_with_words() -> None:
    """S5 U1: no hanging, no traceback."""
    with pytest.raises(WorkerCrashedError, match="died"), Crew(2, __name__) as crew:
        crew.map(exit_hard, range(2), 1)


def test_nobody_survives_a_kill_of_the_command() -> None:
    """S5 W4: kill -9 of the command alone closes the pipes, and its processes end."""
    code = (
        "import sys, time\nfrom midasdl.crew import Crew\n"
        "with Crew(2, 'midasdl.look') as crew:\n"
        "    print(*(process.pid for process in crew._processes), flush=True)\n    time.sleep(60)\n"
    )
    command = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert command.stdout is not None
    pids = [int(word) for word in command.stdout.readline().split()]
    command.send_signal(signal.SIGKILL)
    command.communicate()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "processes were left behind"
        time.sleep(0.05)
