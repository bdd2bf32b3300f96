"""O1-O5, P6, I8: a run is watched by everybody at once, they all say the same, and none of them can hurt it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from midasdl.simulator import Fault, make_archive
from tests.acceptance.conftest import JobOnTrial
from tests.conftest import Archive
from tests.support.command import Command
from tests.support.programs import require_program

PATIENCE_S = 600.0
NOT_THERE = "*station-metadata*"
SPOILT = "*capability*"


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Statsd:
    """What has been pushed: sums of counters, and the last value of each gauge."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.counters: Counter[str] = Counter()
        self.gauges: dict[str, float] = {}

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def receive(self) -> None:
        try:
            while True:
                for line in self._socket.recv(65_536).decode().split("\n"):
                    self._take(line)
        except BlockingIOError:
            return

    def _take(self, line: str) -> None:
        name, _, rest = line.partition(":")
        value, kind = rest.split("|")
        if kind == "c":
            self.counters[name] += float(value)  # type: ignore[assignment]
        else:
            self.gauges[name] = float(value)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def statsd() -> Iterator[Statsd]:
    with closing(Statsd()) as listener:
        yield listener


class Moment:
    """What everybody said at about one moment, the ledger last."""

    def __init__(self, job: JobOnTrial, url: str) -> None:
        self.status = json.loads(read(f"{url}status"))
        self.text = read(f"{url}metrics").decode()
        self.later = json.loads(read(f"{url}status"))
        self.told = job.command("--json", "status").record("status")["counts"]
        self.ledger = Counter(dict(job.rows("SELECT state, count(*) FROM task GROUP BY state")))

    def metric(self, name: str, **labels: str) -> float:
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def read(url: str) -> bytes:
    with urlopen(url, timeout=30) as answer:
        return bytes(answer.read())


def moments_of(
    job: JobOnTrial, process: subprocess.Popen[str], url: str, statsd: Statsd, every_s: float
) -> list[Moment]:
    """Ask everybody again and again until the run has ended; the simulator needs this process in between."""
    moments: list[Moment] = []
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None:
        assert time.monotonic() < deadline
        statsd.receive()
        time.sleep(every_s)
        try:
            moments.append(Moment(job, url))
            if moments[-1].ledger["done"] and not (job.folder / "during.html").exists():
                job.command("report", "--output", "during.html")
        except (URLError, ConnectionError):
            time.sleep(0.05)
    statsd.receive()
    return moments


def require_agreement(moments: list[Moment], total: int) -> None:
    """Everybody shows the same picture, and the ledger has it: what is finished and not recorded yet is in progress."""
    done = [0]
    for moment in moments:
        tasks, later = moment.status["tasks"], moment.later["tasks"]
        assert tasks["total"] == total == sum(tasks.values()) - tasks["total"]
        assert tasks["done"] <= moment.metric("midasdl_tasks", state="done") <= later["done"]
        assert later["done"] <= moment.ledger["done"] + moment.ledger["in_progress"]
        assert all(moment.told[name] <= moment.ledger[name] for name in ("done", "failed"))
        assert later["failed"] <= moment.ledger["failed"] + moment.ledger["in_progress"]
        assert moment.status["files"]["done"] <= moment.metric("midasdl_files", state="done")
        assert done[-1] <= tasks["done"]
        done.append(later["done"])
        for name in ("fetched", "cached"):
            assert moment.metric("midasdl_finished_tasks_total", how=name) <= moment.later["run"][name]
    for name in ("midasdl_fetched_bytes_total", "midasdl_requests_total", "midasdl_task_state_seconds_total"):
        values = [moment.metric(name) for moment in moments]
        assert values == sorted(values), name
    assert len(set(done)) > 2, "nobody looked while it moved"


@pytest.mark.parametrize(
    "size", [120, pytest.param(5_000, marks=pytest.mark.soak)], ids=["small", "five-thousand"]
)
def test_everybody_who_watches_says_the_same_as_the_ledger(
    job_on: Callable[..., JobOnTrial], statsd: Statsd, tmp_path_factory: pytest.TempPathFactory, size: int
) -> None:
    """O1 O2 O4 O5 P4 P6: page, Prometheus, StatsD, status, records, log and SQL agree on the way and at the end."""
    root = tmp_path_factory.mktemp("watched")
    archive = Archive(root, make_archive(root, size, seed=8, mean_kb=2))
    job = job_on(archive, first_byte_delay_s=0.2 if size < 1_000 else 0.03)
    job = job.with_settings(ceda_client__backoff__base_backoff_ms=50, circuit_breaker__enabled=False)
    job.simulator.add_fault(Fault("status", status=404, path=NOT_THERE, times=None))
    job.simulator.add_fault(Fault("corrupt", path=SPOILT, times=None, probability=0.3))
    job.simulator.add_fault(Fault("reset", route="download", probability=0.03, times=None))
    port = free_port()
    settings = {
        "MIDASDL_METRICS__INTERVAL_SECONDS": "0.1",
        "MIDASDL_METRICS__STATSD_HOST": "127.0.0.1",
        "MIDASDL_METRICS__STATSD_PORT": str(statsd.port),
    }
    command = Command(job.folder, {**job.command.environment, **settings})
    job.init()
    (job.folder / "data-root").mkdir(exist_ok=True)
    options = ("--metrics-port", str(port), "--status-file", "status.json", "--log-file", "run.jsonl")
    process = command.start("run", *options, "--progress", "json")

    with ThreadPoolExecutor(1) as reader:
        heard = reader.submit(process.communicate)  # a full pipe would hold up its last words
        try:
            moments = moments_of(job, process, f"http://127.0.0.1:{port}/", statsd, size / 5_000)
            out, err = heard.result()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 1, err
    assert f"Status page: http://127.0.0.1:{port}/" in err
    require_agreement(moments, archive.distinct)
    judged = subprocess.run(
        [require_program("promtool"), "check", "metrics"],
        input=moments[-1].text.encode(),
        capture_output=True,
        check=False,
    )
    assert (judged.returncode, judged.stdout + judged.stderr) == (0, b"")

    assert re.search(r"<b>\d+\.\d %</b>", (job.folder / "during.html").read_text()), (
        "a report of a run that is on"
    )

    done, failed = (
        job.one(f"SELECT count(*) FROM task WHERE state = '{state}'") for state in ("done", "failed")
    )
    assert failed > 0
    status = json.loads((job.folder / "status.json").read_text())
    records = [json.loads(line) for line in out.splitlines()]
    summary = next(record for record in records if record["kind"] == "run")
    shown = [record for record in records if record["kind"] == "progress"]
    log = [json.loads(line) for line in (job.folder / "run.jsonl").read_text().splitlines()]
    last = log[-1]
    assert (status["phase"], status["exit_code"], last["action"], last["exit_code"]) == (
        "ended",
        1,
        "run_ended",
        1,
    )
    everybody = {
        "status": (status["tasks"]["done"], status["tasks"]["failed"], status["run"]["bytes_fetched"]),
        "progress": (shown[-1]["tasks_done"], shown[-1]["tasks_failed"], shown[-1]["bytes_fetched"]),
        "log": (last["done"], last["failed"], last["bytes_fetched"]),
        "summary": (summary["done"], summary["failed"], summary["bytes_fetched"]),
        "statsd": (
            statsd.gauges["midasdl.tasks.done"],
            statsd.gauges["midasdl.tasks.failed"],
            statsd.counters["midasdl.bytes_fetched"],
        ),
        "ledger": (
            done,
            failed,
            job.one("SELECT sum(size_bytes) FROM task WHERE from_cache = 0 AND state = 'done'"),
        ),
    }
    assert set(everybody.values()) == {everybody["ledger"]}, everybody
    assert [record["tasks_done"] for record in shown] == sorted(record["tasks_done"] for record in shown)
    assert status["files"] == {
        "total": size,
        "done": job.one("SELECT count(*) FROM downloads WHERE state = 'done'"),
        "failed": job.one("SELECT count(*) FROM downloads WHERE state = 'failed'"),
    }
    by_class = dict(job.rows("SELECT error_class, count(*) FROM task WHERE state = 'failed' GROUP BY 1"))
    assert status["failures"] == by_class
    assert (
        Counter({line["class"]: 0 for line in log if line["action"] == "download_failed"}).keys()
        >= by_class.keys()
    )
    assert sum(line["action"] == "download_failed" and not line["will_retry"] for line in log) == failed
    requests = {
        outcome: count
        for host in status["requests"].values()
        for outcome, count in host.items()
        if outcome != "untold"
    }
    assert requests == dict(
        job.rows(
            "SELECT outcome, sum(requests) FROM responses WHERE run = 1 AND outcome <> 'untold' GROUP BY 1"
        )
    )


@pytest.mark.effect_of("logging.level", "logging.file", "logging.text_file")
def test_o4_each_change_of_state_of_each_task_is_a_line_at_debug_level(job: JobOnTrial) -> None:
    """O4: none is missing, none is invented, in the ledger's order; also those that went wrong and were tried again."""
    job.simulator.add_fault(Fault("reset", route="download", after=5, times=3))
    job.simulator.add_fault(Fault("status", status=404, path=f"*{job.lone_path()}", times=None))
    settings = {
        "MIDASDL_LOGGING__LEVEL": "debug",
        "MIDASDL_LOGGING__FILE": "all.jsonl",
        "MIDASDL_LOGGING__TEXT_FILE": "all.log",
        "MIDASDL_PERFORMANCE__CEDA_CLIENT__BACKOFF__BASE_BACKOFF_MS": "20",
    }
    job.init()
    job.command.with_environment(**settings)("run", code=1)

    log = [json.loads(line) for line in (job.folder / "all.jsonl").read_text().splitlines()]
    moves = [line for line in log if line["action"] == "task_moved"]
    kept = job.rows(
        "SELECT t.task_id, t.from_state, t.to_state, w.name, t.reason "
        "FROM transition t LEFT JOIN worker w ON w.id = t.worker_id ORDER BY t.id"
    )
    assert [(m["task"], m["from"], m["to"], m["worker"], m["reason"]) for m in moves] == kept
    chains: dict[int, list[str]] = {}
    for line in moves:
        chains.setdefault(line["task"], ["pending"]).append(line["to"])
        assert chains[line["task"]][-2] == line["from"]
    ends = Counter(chain[-1] for chain in chains.values())
    assert ends == dict(job.rows("SELECT state, count(*) FROM task GROUP BY state"))
    assert any(len(chain) > 3 for chain in chains.values())
    assert (job.folder / "all.log").read_text().count("in_progress -> done (finished)") == ends["done"]


def test_i8_whatever_watches_and_cannot_changes_no_download(job: JobOnTrial) -> None:
    """I8: port taken, log disk full, status file nowhere, StatsD unknown: each is said once, and every file comes."""
    (job.folder / "full.jsonl").symlink_to("/dev/full")
    settings = {
        "MIDASDL_METRICS__INTERVAL_SECONDS": "0.1",
        "MIDASDL_METRICS__STATSD_HOST": "no..name",
        "MIDASDL_METRICS__STATUS_FILE": str(job.folder / "nowhere" / "status.json"),
        "MIDASDL_LOGGING__FILE": "full.jsonl",
        "MIDASDL_LOGGING__TEXT_FILE": str(job.folder),
        "MIDASDL_LOGGING__LEVEL": "debug",
    }
    job.init()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = job.command.with_environment(**settings)("run", "--metrics-port", port)

    assert job.is_complete
    for words in (
        f"port {port} cannot be used (Address already in use)",
        "full.jsonl cannot be written (No space left on device)",
        f"The log {job.folder} cannot be written (Is a directory)",
        "nowhere/status.json: No such file or directory",
        "StatsD at no..name",
    ):
        assert ended.err.count(words) == 1, (words, ended.err)


def test_i8_the_end_of_a_run_is_told_also_where_it_never_began(job: JobOnTrial) -> None:
    """O4: a headless job reads from the status file that CEDA did not accept it, and with which exit code."""
    job.init()
    command = job.command.with_environment(CEDA_PASSWORD="wrong")
    command("run", "--status-file", "status.json", "--log-file", "run.jsonl", code=3)

    status: dict[str, Any] = json.loads((job.folder / "status.json").read_text())
    assert (status["phase"], status["exit_code"], status["tasks"]["done"]) == ("ended", 3, 0)
    assert json.loads((job.folder / "run.jsonl").read_text().splitlines()[-1])["exit_code"] == 3


def test_nobody_pays_for_watchers_that_nobody_has(job: JobOnTrial) -> None:
    """U1: a plain run leaves no log and no status file, opens no port, and loads none of what they need.

    Nor what draws the picture, where there is no terminal, nor what reads a file that is not there.
    """
    job.init()
    script = (
        "import sys, midasdl.cli.main as m; code = m.main(['run']); "
        "print('LOADED', *sorted({'prometheus_client', 'statsd', 'http.server', 'rich', 'dotenv'} & set(sys.modules)), "
        "file=sys.stderr); "
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=job.folder,
        env=job.command.environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.decode().splitlines()[-1] == "LOADED"
    assert {path.name for path in Path(job.folder).iterdir()} <= {
        *("cache", "data-root", "progress.db", "progress.db-wal", "progress.db-shm", "home"),
    }
