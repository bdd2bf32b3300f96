"""Workers that do nothing but claim and record, on a large ledger that somebody reads meanwhile."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

from sqlalchemy.exc import DBAPIError

from benchmarks.bench import Bench, Result, Series, Target
from benchmarks.contenders import MIDASDL
from benchmarks.many_lines import write_manifest
from midasdl.errors import MidasdlError
from midasdl.identity import ProcessIdentity
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.library import best_library
from midasdl.ledger.outcomes import Claim, Finished
from midasdl.ledger.runs import RunRegistry
from midasdl.ledger.tasks import TaskQueue
from midasdl.policy import MOST_CLAIMS
from midasdl.processes import let_garbage_wait, process_context

TITLE = "claiming and finishing on a million rows, with 8 processes and a reader"
ROWS = 1_000_000
WORKERS = 8
SPAN_S = 10.0
SHORTEST_SPAN_S = 0.5
READ_EVERY_S = 1.0
MOST_ERRORS = 10
"""A process that meets more of them gives up."""

START_S = 120.0
"""Within this all processes have started and opened the ledger."""

TROUBLE = (MidasdlError, DBAPIError, best_library().module.Error)
"""What a ledger that cannot be used raises."""

STATES = "SELECT state, count(*) FROM task GROUP BY state"
DONE_AND_CLAIMS = "SELECT sum(state = 'done'), sum(claim_no) FROM task"


@dataclass(frozen=True)
class Shift:
    """What all processes do at once.

    Attributes
    ----------
    want : int
        Tasks that a worker claims at a time.
    together : Barrier
        Where everybody waits for the last.
    """

    ledger: Path
    run_id: int
    want: int
    span_s: float
    together: Barrier


@dataclass(frozen=True)
class Stint:
    """What one worker has done.

    Attributes
    ----------
    errors : int
        How often the ledger could not be used: locked, or anything else.
    began_s, ended_s : float
        On the monotonic clock, which is the same for all processes.
    longest_s : float
        For which it waited for an answer of the ledger.
    """

    finished: int
    errors: int
    began_s: float
    ended_s: float
    longest_s: float


@dataclass(frozen=True)
class Figures:
    """What came of a shift.

    Attributes
    ----------
    rate : float
        Tasks finished a second, from the first beginning to the last end.
    errors : int
        Of workers and reader.
    longest_s : float
        For which any worker waited for an answer.
    """

    rate: float
    errors: int
    longest_s: float


def measure(bench: Bench) -> Result:
    """As many at a time as a quick worker claims, and one at a time; each shift from the same ledger."""
    context = process_context(__name__)
    with (
        bench.scratch("claims") as folder,
        context.Manager() as manager,
        ProcessPoolExecutor(WORKERS + 1, mp_context=context) as pool,
    ):
        loaded = _load(folder, bench.files(ROWS))
        together = manager.Barrier(WORKERS + 1)
        span_s = max(SHORTEST_SPAN_S, SPAN_S * min(1.0, bench.scale))
        many: list[Figures] = []
        single: list[Figures] = []
        for number in range(min(bench.rounds, 3)):
            for want, figures in ((MOST_CLAIMS, many), (1, single)):
                shift = Shift(*_fresh_run(loaded), want, span_s, together)
                figures.append(_figures_of(pool, shift))
            bench.say(
                f"  round {number + 1}  {many[-1].rate:,.0f} tasks/s, one at a time {single[-1].rate:,.0f} tasks/s, "
                f"{many[-1].errors + single[-1].errors} errors"
            )
    rates = tuple(each.rate for each in many)
    return Result(
        "claims",
        TITLE,
        (
            Series(f"{MOST_CLAIMS} at a time", "tasks/s", rates),
            Series("one at a time", "tasks/s", tuple(each.rate for each in single)),
            Series(
                f"{MOST_CLAIMS} at a time, longest wait for an answer",
                "s",
                tuple(each.longest_s for each in many),
            ),
            Series(
                "one at a time, longest wait for an answer", "s", tuple(each.longest_s for each in single)
            ),
        ),
        (
            Target("tasks claimed and finished", statistics.median(rates), 5_000, 10_000, "tasks/s"),
            Target("lock errors", max(each.errors for each in [*many, *single]), 0, 0, "", at_least=False),
        ),
        (
            "Each process records what it has claimed and claims the next in one transaction, again and again; a real "
            "worker fetches files for about a second in between. The reader keeps one view of the ledger open all the "
            "time and counts tasks by state each second.",
        ),
    )


def work_off(shift: Shift, name: str) -> Stint:
    """A worker's part, in a process of its own."""
    let_garbage_wait()
    with Ledger.open(shift.ledger) as ledger:
        worker_id = RunRegistry(ledger).register(shift.run_id, "worker", name, ProcessIdentity.current())
        shift.together.wait(START_S)
        return claim_and_finish(TaskQueue(ledger), worker_id, shift)


def claim_and_finish(queue: TaskQueue, worker_id: int, shift: Shift) -> Stint:
    """Go on until the time is over or nothing is left, and leave nothing claimed; what failed is tried again."""
    finished = errors = 0
    longest_s = 0.0
    claims: tuple[Claim, ...] = ()
    began_s = ended_s = time.monotonic()
    while errors <= MOST_ERRORS:
        want = shift.want if ended_s - began_s < shift.span_s else 0
        asked_s = ended_s
        try:
            settled = queue.settle(worker_id, _finish(claims), want=want, share_among=WORKERS)
        except TROUBLE:
            errors += 1
            continue
        finally:
            ended_s = time.monotonic()
            longest_s = max(longest_s, ended_s - asked_s)
        finished += len(claims) - len(settled.lost)
        claims = settled.claims
        if not claims:
            break
    return Stint(finished, errors, began_s, ended_s, longest_s)


def _finish(claims: tuple[Claim, ...]) -> list[Finished]:
    """Each of them fetched, with what a small file would have cost."""
    return [Finished(claim, 12_000, False, 200, 80_000, 1) for claim in claims]


def read_on(shift: Shift) -> int:
    """The reader's part: look at the same moment of the ledger again and again; how often it could not be read.

    Raises
    ------
    RuntimeError
    """
    with Ledger.open(shift.ledger, read_only=True) as ledger, ledger.read() as connection:
        before = connection.exec_driver_sql(STATES).all()
        errors = 0
        shift.together.wait(START_S)
        until_s = time.monotonic() + shift.span_s
        while time.monotonic() < until_s:
            try:
                if connection.exec_driver_sql(STATES).all() != before:
                    raise RuntimeError("the reader has seen two moments of the ledger in one view")
            except TROUBLE:
                errors += 1
            time.sleep(min(READ_EVERY_S, max(0.0, until_s - time.monotonic())))
    return errors


def _figures_of(pool: Executor, shift: Shift) -> Figures:
    reader = pool.submit(read_on, shift)
    workers = [pool.submit(work_off, shift, f"worker-{number}") for number in range(1, WORKERS + 1)]
    stints = [worker.result() for worker in workers]
    finished = sum(each.finished for each in stints)
    require_once(shift.ledger, finished)
    elapsed_s = max(each.ended_s for each in stints) - min(each.began_s for each in stints)
    return Figures(
        finished / elapsed_s,
        reader.result() + sum(each.errors for each in stints),
        max(each.longest_s for each in stints),
    )


def require_once(ledger: Path, finished: int) -> None:
    """See that the ledger has so many tasks done, each claimed once, and no claim that was not finished.

    Raises
    ------
    RuntimeError
    """
    with Ledger.open(ledger, read_only=True) as opened, opened.read() as connection:
        done, claims = connection.exec_driver_sql(DONE_AND_CLAIMS).one()
    if not done == claims == finished:
        raise RuntimeError(f"workers finished {finished} tasks; {done} are done, with {claims} claims")


def _load(folder: Path, rows: int) -> Path:
    manifest = write_manifest(folder / "manifest.txt", rows)
    command = [*MIDASDL, "--ledger", "loaded.db", "-q", "init", str(manifest), "--dest", "out"]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    return folder / "loaded.db"


def _fresh_run(loaded: Path) -> tuple[Path, int]:
    """A ledger as it was loaded, and the number of a run on it."""
    ledger = loaded.with_name("progress.db")
    for path in ledger.parent.glob(f"{ledger.name}*"):
        path.unlink()
    shutil.copy(loaded, ledger)
    with Ledger.open(ledger) as opened:
        return ledger, RunRegistry(opened).start_run("run", {})
