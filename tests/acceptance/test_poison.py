"""C7 C8 C10 L4: a few files that never come do not hold up the others."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from midasdl.simulator import Fault, RequestRecord, Simulator, make_archive
from tests.acceptance.conftest import JobOnTrial
from tests.conftest import Archive
from tests.support.command import Command, kill_group

FILES, POISONED = 2_000, 20
MAX_RETRIES = 3
WAYS = (
    {"action": "status", "status": 500},
    {"action": "corrupt"},
    {"action": "truncate"},
    {"action": "status", "status": 404},
)
ATTEMPTS = {"server-error": 4, "checksum": 4, "incomplete": 4, "not-found": 1}


@pytest.fixture(scope="session")
def many_files(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """2,000 files, no two alike."""
    root = tmp_path_factory.mktemp("many-files")
    return Archive(root, make_archive(root, FILES, seed=6, mean_kb=2, duplicate_share=0))


def poison(archive: Archive) -> dict[str, Fault]:
    """One file in a hundred, all over the manifest, in four ways, each time that it is asked for."""
    chosen = [path for _, path in archive.lines][50 :: FILES // POISONED]
    return {
        path: Fault(path=f"*/{path}", times=None, **WAYS[number % len(WAYS)])
        for number, path in enumerate(chosen)
    }


@dataclass
class Brakes:
    """What everybody knew of the server at any moment while good files were still to come."""

    breaker_opened: bool = False
    paused: bool = False
    reasons: tuple[str, ...] = ()

    def look(self, job: JobOnTrial) -> None:
        rows = job.rows("SELECT breaker_open_since, paused_until, throttle_reason FROM politeness")
        for open_since, paused_until, reason in rows:
            self.breaker_opened |= open_since > 0
            self.paused |= paused_until > 0
            self.reasons += (reason,) if reason else ()


@pytest.fixture
def start(
    tmp_path: Path, command: Command
) -> Iterator[Callable[..., tuple[JobOnTrial, subprocess.Popen[str]]]]:
    """Start a job in a folder of its own, on a simulator of its own; its two workers have no time to spare."""
    with ExitStack() as stack:

        def starts(
            name: str, archive: Archive, faults: list[Fault]
        ) -> tuple[JobOnTrial, subprocess.Popen[str]]:
            server = stack.enter_context(Simulator(archive.root, faults=faults, first_byte_delay_s=0.03))
            folder = tmp_path / name
            folder.mkdir()
            there = Command(folder, command.environment | server.environment())
            job = JobOnTrial(there, server, archive.manifest).with_settings(
                workers__count=2,
                ceda_client__min_request_spacing_ms=18,
                ceda_client__max_concurrent_requests=2,
                ceda_client__backoff__max_retries=MAX_RETRIES,
                ceda_client__backoff__base_backoff_ms=1000,
                ceda_client__backoff__max_backoff_seconds=2,
            )
            job.init()
            process = job.command.start("run")
            stack.callback(kill_group, process)
            return job, process

        yield starts


def good_rate(records: list[RequestRecord], poisoned: dict[str, Fault]) -> float:
    """Good files a second, from the first request to the end of the last good file."""
    suffixes = tuple(poisoned)
    good = [record for record in records if not record.path.endswith(suffixes)]
    return len(good) / (max(record.ended for record in good) - min(record.started for record in records))


@pytest.mark.slow
def test_one_file_in_a_hundred_that_never_comes_costs_the_others_less_than_a_tenth(
    start: Callable[..., tuple[JobOnTrial, subprocess.Popen[str]]], many_files: Archive
) -> None:
    """C7 C8 C10 L4: 20 of 2,000 fail; measured against the same job without them, at the same time, so that whatever
    this machine does meanwhile happens to both."""
    poisoned = poison(many_files)
    (sick, sick_run), (well, well_run) = (
        start("sick", many_files, list(poisoned.values())),
        start("well", many_files, []),
    )
    brakes = Brakes()
    while good_files_done(sick) < FILES - POISONED:
        assert sick_run.poll() is None, sick_run.communicate()
        brakes.look(sick)
        time.sleep(0.5)

    sick_said, _ = sick_run.communicate(timeout=120)
    well_run.communicate(timeout=120)

    assert (sick_run.returncode, well_run.returncode) == (1, 0)
    assert good_rate(sick.downloads, poisoned) > 0.9 * good_rate(well.downloads, poisoned)
    assert not brakes.breaker_opened
    assert not brakes.paused
    assert not [reason for reason in brakes.reasons if "errors" in reason]
    assert "20 failed" in sick_said
    failures = sick.rows("SELECT path, class, attempts FROM failures")
    assert {path for path, _, _ in failures} == set(poisoned)
    assert Counter((name, attempts) for _, name, attempts in failures) == dict.fromkeys(ATTEMPTS.items(), 5)
    asked = Counter(record.path.removeprefix("/badc/ukmo-midas-open/") for record in sick.downloads)
    assert {asked[path] for _, path in many_files.lines if path not in poisoned} == {1}
    assert sick.rows("SELECT count(*) FROM task WHERE state = 'done'") == [(FILES - POISONED,)]
    assert well.is_complete


def good_files_done(job: JobOnTrial) -> int:
    return int(job.one("SELECT count(*) FROM task WHERE state = 'done'"))
