"""I8: whoever reads what a run shows may stop reading: a program, a pager, a person who typed Ctrl-S."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from midasdl.simulator import Fault
from tests.acceptance.conftest import JobOnTrial
from tests.conftest import Archive
from tests.support.background import eventually, started
from tests.support.promptness import CROWDED_END_S
from tests.support.terminal import Terminal

JobOn = Callable[..., JobOnTrial]
CLAIMED = "SELECT count(*) FROM task WHERE state = 'in_progress'"
ENDED_WELL = "SELECT count(*) FROM run WHERE exit_code = 0"


@contextmanager
def nobody_reads() -> Iterator[tuple[int, Callable[[], str]]]:
    """The end of a full pipe that is written to, and what reads the pipe to its end once everybody has closed that."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writes, b"\n" * 4096)
    os.set_blocking(writes, True)

    def read_to_the_end() -> str:
        os.close(writes)
        with os.fdopen(os.dup(reads), encoding="utf-8") as reader:
            return reader.read().lstrip("\n")

    try:
        yield writes, read_to_the_end
    finally:
        os.close(reads)
        with suppress(OSError):
            os.close(writes)


def test_i8_a_reader_that_hangs_holds_no_run_up(job_on: JobOn, small_archive: Archive) -> None:
    """W4 P4: a program that stopped reading records: the run ends, as the ledger says, and the rest waits for it."""
    job = job_on(small_archive, first_byte_delay_s=0.02)
    job.init()
    with (
        nobody_reads() as (pipe, read_to_the_end),
        started(job.command, "run", "--workers", "2", "--progress", "json", stdout=pipe) as process,
    ):
        eventually(lambda: job.one(ENDED_WELL))
        assert job.is_complete
        assert process.poll() is None
        records = [json.loads(line) for line in read_to_the_end().splitlines()]
        assert process.wait(10) == 0

    assert [record["kind"] for record in records][-1] == "run"
    assert records[-2]["phase"] == "ended"


def test_i8_ctrl_c_ends_a_run_whose_reader_hangs(job_on: JobOn, small_archive: Archive) -> None:
    """W4: who was asked to end waits for nobody: within five seconds, with the right exit code."""
    job = job_on(small_archive, faults=[Fault("stall", route="download", seconds=60, times=None)])
    job.init()
    with (
        nobody_reads() as (pipe, _),
        started(job.command, "run", "--workers", "2", "--progress", "json", stdout=pipe) as process,
    ):
        eventually(lambda: job.one(CLAIMED) >= 2)
        time.sleep(0.5)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert time.monotonic() - began < CROWDED_END_S
    assert job.one(CLAIMED) == 0
    assert job.one("SELECT count(*) FROM worker WHERE state = 'alive'") == 0


def test_i8_a_run_that_waits_for_its_reader_hears_a_signal(job_on: JobOn, small_archive: Archive) -> None:
    """W4: all is done and recorded; only the last words are lost."""
    job = job_on(small_archive)
    job.init()
    with (
        nobody_reads() as (pipe, _),
        started(job.command, "run", "--workers", "2", "--progress", "json", stdout=pipe) as process,
    ):
        eventually(lambda: job.one(ENDED_WELL))
        time.sleep(2)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143
    assert job.is_complete


def test_i8_a_terminal_on_which_ctrl_s_was_typed_holds_no_run_up(
    job_on: JobOn, small_archive: Archive
) -> None:
    """P2: the picture stands still, the files come; Ctrl-Q brings the rest."""
    job = job_on(small_archive, first_byte_delay_s=0.02)
    job.init()
    with Terminal(job.command, ["run", "--workers", "2"]) as terminal:
        terminal.read_until("working")
        terminal.type("\x13")
        eventually(lambda: job.one(ENDED_WELL))
        assert terminal.process.poll() is None
        terminal.type("\x11")
        ended = terminal.read_to_the_end()

    assert ended.code == 0
    assert "All" in ended.out
    assert job.is_complete
