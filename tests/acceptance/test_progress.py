"""P1-P6, I8: a run that is watched in every way at once, and one that nobody can watch."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from midasdl.ceda.credentials import Credentials
from midasdl.ceda.secret import Secret
from midasdl.cli import summary
from midasdl.cli.display import Display, Mode
from midasdl.cli.output import Output
from midasdl.config import resolve
from midasdl.errors import ExitCode
from midasdl.job import Job
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.load import ManifestLoader
from midasdl.ledger.reading import LedgerReader
from midasdl.ledger.watching import LedgerWatch
from midasdl.manifest import ManifestParser
from midasdl.progress.audience import Audience
from midasdl.progress.events import Event
from midasdl.progress.facts import Facts, facts_of
from midasdl.progress.lookout import Lookout
from midasdl.progress.snapshot import Snapshot
from midasdl.progress.tracker import Tracker
from midasdl.selection import Selection
from midasdl.simulator import Fault, Simulator, make_archive
from tests.acceptance.conftest import JobOnTrial
from tests.conftest import ACCOUNT, Archive
from tests.support.screen import Screen, console_on

CREDENTIALS = Credentials(username=ACCOUNT["CEDA_USERNAME"], password=Secret(ACCOUNT["CEDA_PASSWORD"]))

AGREED = (
    *("files_total", "files_done", "files_failed", "tasks_total", "tasks_done", "tasks_failed", "claimed"),
    *("fetched", "cached", "bytes_fetched", "bytes_done", "bytes_expected", "failures", "phase"),
)
"""What everybody who shows a run must say alike."""

SQL = """
SELECT count(*) AS files_total,
       sum(state = 'done') AS files_done,
       sum(state = 'failed') AS files_failed,
       count(DISTINCT task_id) AS tasks_total,
       count(DISTINCT iif(state = 'done', task_id, NULL)) AS tasks_done,
       count(DISTINCT iif(state = 'failed', task_id, NULL)) AS tasks_failed,
       count(DISTINCT iif(state = 'in_progress', task_id, NULL)) AS claimed
  FROM downloads
"""


@dataclass
class Keeps:
    """A watcher that remembers every picture, and when it was shown."""

    pictures: list[tuple[float, Snapshot]] = field(default_factory=list)

    def follow(self, event: Event) -> None:
        pass

    def show(self, snapshot: Snapshot) -> None:
        self.pictures.append((time.monotonic(), snapshot))


@dataclass(eq=False)
class Looker(threading.Thread):
    """Somebody in another terminal: asks SQL and ``status --watch`` again and again while the run is on."""

    path: Path
    shown: Keeps
    samples: list[tuple[float, Snapshot, dict[str, int], Snapshot]] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        with Ledger.open(self.path, read_only=True) as ledger:
            watch = LedgerWatch(ledger)
            while not self.is_over.wait(0.15):
                if not self.shown.pictures:
                    continue
                _, before = self.shown.pictures[-1]
                with ledger.read() as connection:
                    said = dict(connection.exec_driver_sql(SQL).mappings().one())
                self.samples.append((time.monotonic(), before, said, watch.snapshot()))


def loaded(path: Path, archive: Archive) -> Ledger:
    ledger = Ledger.create(path)
    with ledger.write() as connection, archive.manifest.open("rb") as stream:
        ledger.set_setting(connection, "data_root", str(path.parent / "data-root"))
        ManifestLoader(ledger, "manifest", Selection()).load(connection, ManifestParser(stream))
    return ledger


@pytest.fixture(
    params=[pytest.param(300, id="300 files"), pytest.param(5_000, id="5,000 files", marks=pytest.mark.soak)]
)
def mixed_archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    """Files of every kind and dataset, some with the contents of others."""
    return Archive(tmp_path / "archive", make_archive(tmp_path / "archive", request.param, seed=11))


@pytest.fixture
def on_disk(mixed_archive: Archive, tmp_path: Path) -> int:
    """A twelfth of the archive is on disk already."""
    here = dict(mixed_archive.lines[::12])
    for path in here.values():
        place = tmp_path / "data-root" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((mixed_archive.root / path).read_bytes())
    return len(here)


def test_p6_display_records_watch_and_sql_agree_at_sampled_moments_and_at_the_end(
    mixed_archive: Archive, on_disk: int, tmp_path: Path
) -> None:
    """P1 P2 P4 P6: injected failures, retries and files that are on disk; five ways to look, one truth."""
    faults = [
        Fault("status", status=404, path="*_capability.csv"),
        Fault("reset", route="download", after=20, times=9),
        Fault("corrupt", path="*qcv-0_199*", times=5),
    ]
    screen, records = Screen(100), list[Facts]()
    with (
        Simulator(mixed_archive.root, faults=faults, first_byte_delay_s=0.02) as simulator,
        loaded(tmp_path / "progress.db", mixed_archive) as ledger,
    ):
        client = {
            "min_request_spacing_ms": 0,
            "max_concurrent_requests": 0,
            "backoff": {"base_backoff_ms": 50},
        }
        settings = resolve(
            {
                "ceda": {"archive_url": simulator.archive_url, "token_url": simulator.token_url},
                "storage": {"token_cache": str(tmp_path / "tokens")},
                "performance": {
                    "ceda_client": client,
                    "workers": {"count": 2},
                    "circuit_breaker": {"enabled": False},
                    "tuning": {"enabled": False},
                },
            }
        )
        output = Output()
        output.record = lambda kind, facts: records.append(dict(facts))  # type: ignore[method-assign]
        job, clock, keeps = Job(ledger, settings), ledger.clock, Keeps()
        counts = job.prepare().counts
        bar = Display(output, Mode.BAR, clock, console_on(screen))
        lines = Display(output, Mode.JSON, clock, console_on(Screen(80)))
        lookout = Lookout(LedgerReader(ledger).read, clock)
        tracker = Tracker(counts.tasks, 0, 0, clock.monotonic(), counts.files)
        audience = Audience(tracker, [bar, lines, keeps], clock, lookout.take)
        looker = Looker(ledger.path, keeps)
        with bar:
            looker.start()
            with lookout:
                result = job.run(lambda: CREDENTIALS, audience)
            end = audience.end(LedgerReader(ledger, result.run_id).read)
        looker.is_over.set()
        looker.join()
        watched = LedgerWatch(ledger).snapshot()
        with ledger.read() as connection:
            said = dict(connection.exec_driver_sql(SQL).mappings().one())

    assert result.exit_code is ExitCode.SOME_FAILED
    assert end.files.failed > 0
    assert end.retrying > 0
    assert end.cached == on_disk
    agreed = {name: facts_of(end)[name] for name in AGREED}
    assert {name: records[-1][name] for name in AGREED} == agreed
    assert {name: facts_of(watched)[name] for name in AGREED} == agreed
    assert said == {name: agreed[name] for name in said}
    shown = f"{end.files.done:,} of {end.files.total:,} done · {end.files.failed:,} failed"
    assert shown in screen.text
    assert screen.text.count("files   ") == 1, "one picture, drawn over again and again"

    assert looker.samples
    for at_s, before, then, seen in looker.samples:
        ended = then["tasks_done"] + then["tasks_failed"]
        told = before.tasks.done + before.tasks.failed
        assert told <= ended + then["claimed"], "what is shown as done is recorded, or in a worker's hands"
        assert ended <= seen.tasks.done + seen.tasks.failed, "who looks later sees no less"
        soon = [later.tasks for shown_s, later in keeps.pictures if at_s <= shown_s]
        assert any(ended <= later.done + later.failed for later in [*soon, end.tasks])
    done = [snapshot.files.done for _, snapshot in keeps.pictures]
    assert done == sorted(done)


def test_p4_a_program_gets_nothing_but_records(job: JobOnTrial) -> None:
    """U3: ``--progress json``: progress from the first second on, then the result, all of it JSON with its version."""
    job.init()
    ended = job.command("run", "--progress", "json")
    kinds = [record["kind"] for record in ended.records]
    assert kinds[0] == "progress"
    assert kinds[-1] == "run"
    assert all(record["schema"] == 1 for record in ended.records)
    last = ended.records[-2]
    assert (last["phase"], last["share_done"], last["eta_s"]) == ("ended", 1.0, 0.0)
    assert last["bytes_done"] == last["bytes_expected"] == job.one("SELECT sum(size_bytes) FROM task")
    assert last["fetched"] == ended.record("run")["fetched"]

    watched = job.command("status", "--watch", "--json").record("progress")
    assert {name: watched[name] for name in AGREED} == {name: last[name] for name in AGREED}
    assert job.command("status", "--json").record("status")["progress"]["files_done"] == last["files_done"]
    assert (
        "The run has ended: 120 of 120 files done (100.0 %), 0 failed."
        in job.command("status", "--watch").out
    )


def test_i8_a_full_disk_under_the_log_hurts_no_download(job: JobOnTrial) -> None:
    """I8: what progress and notes would say cannot be written; every file comes, and the exit code is 0."""
    job.init()
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "midasdl", "run", "-v", "--progress", "bar"],
            cwd=job.folder,
            env=job.command.environment,
            stdout=subprocess.DEVNULL,
            stderr=full,
            timeout=120,
            check=False,
        )
    assert done.returncode == ExitCode.DONE
    assert job.is_complete


def test_p5_the_summary_says_what_came_what_failed_and_what_to_type(
    job_on: Callable[..., JobOnTrial], small_archive: Archive
) -> None:
    """P5: time, files, bytes, speed, retries; failures with cures; the log; commands that work as they stand."""
    faults = [
        Fault("status", status=404, path="*_capability.csv"),
        Fault("status", status=400, path="*change_log.txt"),
        Fault("reset", route="download", after=10, times=2),
    ]
    job = job_on(small_archive, faults=faults).with_settings(ceda_client__backoff__base_backoff_ms=10)
    job.init()
    ended = job.command("run", "--ledger", str(job.ledger), code=1)
    out = ended.out
    fetched, size = job.rows("SELECT count(*), sum(size_bytes) FROM task WHERE state = 'done'")[0]
    assert out.startswith(f"Fetched {fetched} files ({size / 1000:.1f} kB) in ")
    assert "/s; 2 requests had to be tried again." in out
    failed = job.one("SELECT count(*) FROM downloads WHERE state = 'failed'")
    assert f"Of 120 files {failed} failed." in out
    for error_class, advice in (("not-found", "try again in some days"), ("rejected", "see the message")):
        assert f"x {error_class}: " in out
        assert advice in out
    [log] = job.folder.glob("download-errors-*.log")
    assert f"All of them: {log}" in out
    head, *rows = log.read_text().splitlines()
    assert head.split("\t") == ["when", "class", "http_status", "attempts", "md5", "path", "message"]
    assert {tuple(row.split("\t")[4:6]) for row in rows} == set(
        job.rows("SELECT md5, path FROM downloads WHERE state = 'failed'")
    )
    again = next(line for line in out.splitlines() if "retry --class" in line)
    words = again.partition("midasdl ")[2].partition(" && ")[0].split()
    assert json.loads(job.command(*words, "--json").out)["requeued"] > 0


def test_p5_where_the_log_of_failures_cannot_be_written_the_summary_says_so(
    job_on: Callable[..., JobOnTrial], small_archive: Archive
) -> None:
    """I8: a folder that takes no file costs the log, and the query that tells the same is named."""
    job = job_on(small_archive)
    job.init()
    job.change("UPDATE task SET state = 'failed', error_class = 'timeout', error = 'late', finished_at = 1")
    with Ledger.open(job.ledger, read_only=True) as ledger:
        failures = summary.Overview(ledger).failures()
        assert summary.write_error_log(summary.Overview(ledger), Path("/proc/nowhere")) is None
    lines = summary._failure_lines(failures, None)
    assert any('midasdl sql "SELECT * FROM failures"' in line for line in lines)
    assert not any("None" in line for line in lines)
