"""I8, O1, O3, O4: what the settings ask for happens beside a run, and whatever fails there is told and left out."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from midasdl.config import Settings, resolve
from midasdl.config.keys import tree_of
from midasdl.errors import AuthenticationError
from midasdl.ledger import figures
from midasdl.ledger.ledger import Ledger
from midasdl.metrics import observatory
from midasdl.metrics.logs import Log
from midasdl.metrics.observatory import Observatory
from midasdl.metrics.records import LogRecord
from midasdl.models import ErrorClass
from midasdl.progress.events import DownloadFailed, Waiting
from midasdl.progress.snapshot import Phase, Snapshot, Tally

PATIENCE_S = 60.0


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger that knows the true time."""
    with Ledger.create(tmp_path / "progress.db") as opened:
        yield opened


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings_of(**values: Any) -> Settings:
    """Settings by name, written as ``metrics__port=1``."""
    return resolve(tree_of({name.replace("__", "."): value for name, value in values.items()}))


def picture(done: int) -> Snapshot:
    """A run of a thousand that works."""
    tally = Tally(1_000, done, 0)
    return Snapshot(tally, tally, Phase.WORKING, fetched=done, bytes_fetched=done * 1_000, workers=1)


def add_a_task(ledger: Ledger) -> None:
    """Something is left to do."""
    with ledger.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO manifest VALUES (1, 'm', '0', 0, '{}', 1, 0, 0, 0, 1, 0, 0, 0)"
        )
        connection.exec_driver_sql(
            "INSERT INTO task (id, md5, state, claim_no, not_before, attempts, manifest_id) "
            "VALUES (1, '0', 'pending', 0, 0, 0, 1)"
        )


class Watched:
    """An observatory, and what it has told."""

    def __init__(self, ledger: Ledger, **values: Any) -> None:
        self.told: list[str] = []
        first = picture(0)
        self.observatory = Observatory(ledger, settings_of(**values), Path("out"), first, self.told.append)

    def show(self, done: int) -> None:
        self.observatory.show(picture(done))

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Show the same again until something is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < deadline, self.told
            self.observatory.show(self.observatory._gatherer._snapshot)
            time.sleep(0.02)


@contextmanager
def watching(ledger: Ledger, **values: Any) -> Iterator[Watched]:
    watched = Watched(ledger, **values)
    with watched.observatory:
        yield watched


def status_at(url: str | None) -> dict[str, Any]:
    with urlopen(f"{url}status", timeout=30) as answer:
        return dict(json.loads(answer.read()))


# --- the port


@pytest.mark.effect_of("metrics.port")
def test_o1_the_port_is_the_one_that_was_asked_for_or_none(ledger: Ledger) -> None:
    port = free_port()
    with watching(ledger, metrics__port=port) as watched:
        assert status_at(f"http://127.0.0.1:{port}/")["tasks"]["total"] == 1_000
        assert watched.told == [
            f"Status page: http://127.0.0.1:{port}/ (for programs: /status and /metrics there)"
        ]
    with watching(ledger) as watched:
        assert (watched.observatory.url, watched.told) == (None, [])


@pytest.mark.effect_of("metrics.host")
def test_o1_nobody_else_can_ask_unless_told_otherwise(ledger: Ledger) -> None:
    """O1: by default the port is open at this machine's own address alone, not at all of its addresses."""
    port = free_port()
    with watching(ledger, metrics__port=port), closing(socket.socket()) as another:
        another.bind(("127.0.0.2", port))
    with watching(ledger, metrics__port=port, metrics__host="127.0.0.2") as watched:
        assert "Everybody" not in " ".join(watched.told)
        assert watched.observatory.url == f"http://127.0.0.2:{port}/"
    with (
        watching(ledger, metrics__port=port, metrics__host="0.0.0.0") as watched,
        closing(socket.socket()) as another,
        pytest.raises(OSError, match="in use"),
    ):
        another.bind(("127.0.0.2", port))
    assert "Everybody who can reach 0.0.0.0 can look at it" in watched.told[-1]


def test_i8_a_port_in_use_is_told_once_and_taken_when_it_is_free(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I8: two runs of one folder want one port: the second goes on without, and has it when the first has ended."""
    monkeypatch.setattr(observatory, "SERVE_AGAIN_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        watched = Watched(ledger, metrics__port=port, metrics__interval_seconds=0.1)
        with watched.observatory:
            watched.show(1)
            time.sleep(0.5)
            watched.show(2)
            assert len(watched.told) == 1
            assert f"port {port} cannot be used (Address already in use). The run goes on" in watched.told[0]
            taken.close()
            watched.wait_for(lambda: watched.observatory.url is not None)
            watched.show(3)
            assert "Status page" in watched.told[-1]
            assert status_at(watched.observatory.url)["phase"] == "working"


# --- StatsD


class Listener:
    """A StatsD server, as far as receiving goes."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(PATIENCE_S)
        self.port = int(self._socket.getsockname()[1])

    def lines(self, until: str) -> list[str]:
        """Every line up to and including the first that begins so."""
        lines: list[str] = []
        while not any(line.startswith(until) for line in lines):
            lines += self._socket.recv(65_536).decode().split("\n")
        return lines

    def all_that_came(self) -> list[str]:
        self._socket.settimeout(0.2)
        lines: list[str] = []
        with closing(self._socket):
            try:
                while True:
                    lines += self._socket.recv(65_536).decode().split("\n")
            except TimeoutError:
                return lines


@pytest.mark.effect_of("metrics.statsd_host", "metrics.statsd_port", "metrics.statsd_prefix")
def test_o1_statsd_receives_gauges_and_what_was_added(ledger: Ledger) -> None:
    """O1: a real listener gets names with the prefix; the increments of a counter add up to its sum."""
    listener = Listener()
    address = {"metrics__statsd_host": "127.0.0.1", "metrics__statsd_port": listener.port}
    with watching(
        ledger, metrics__interval_seconds=0.1, metrics__statsd_prefix="midas.test", **address
    ) as watched:
        watched.show(40)
        first = listener.lines("midas.test.fetched:40|c")
        watched.show(100)
        watched.observatory.follow(DownloadFailed(1, "a", ErrorClass.TIMEOUT, "slow", will_retry=True))
        second = listener.lines("midas.test.errors.timeout.retried:1|c")
        watched.observatory.ended(0, picture(150))
    lines = [*first, *second, *listener.all_that_came()]

    assert all(line.startswith("midas.test.") for line in lines)
    added = [
        float(line.split(":")[1].split("|")[0]) for line in lines if line.startswith("midas.test.fetched:")
    ]
    assert sum(added) == 150
    assert "midas.test.tasks.pending:960|g" in first
    assert any(line.startswith("midas.test.bytes_per_second:") for line in lines)


def test_i8_a_statsd_host_whose_name_is_never_found_holds_nothing_up(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """I8: while the look-up hangs, pictures are taken, the status file is written, and the run ends."""
    hangs, asked = threading.Event(), threading.Event()

    def look_up(*_: Any, **__: Any) -> Any:
        asked.set()
        hangs.wait(PATIENCE_S)
        raise socket.gaierror("name not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(observatory, "FAREWELL_S", 0.3)
    file = tmp_path / "status.json"
    host = {"metrics__statsd_host": "nowhere.example", "metrics__status_file": file}
    with watching(ledger, metrics__interval_seconds=0.1, **host) as watched:
        assert asked.wait(PATIENCE_S)
        watched.show(7)
        watched.wait_for(lambda: file.exists() and json.loads(file.read_text())["run"]["fetched"] == 7)
        watched.observatory.ended(0, picture(8))

    assert json.loads(file.read_text())["run"]["fetched"] == 8
    assert not hangs.is_set()
    hangs.set()


def test_i8_a_statsd_host_that_cannot_be_is_told_once(ledger: Ledger) -> None:
    with watching(ledger, metrics__statsd_host="a..b", metrics__interval_seconds=0.1) as watched:
        watched.wait_for(lambda: bool(watched.told))
        time.sleep(0.3)
        watched.show(1)
    assert len(watched.told) == 1
    assert "StatsD at a..b" in watched.told[0]
    assert "the run goes on without it" in watched.told[0]


# --- the status file


@pytest.mark.effect_of("metrics.status_file", "metrics.interval_seconds")
@pytest.mark.parametrize(("every_s", "again"), [(0.1, True), (3_600, False)], ids=["often", "rarely"])
def test_o4_the_status_file_is_whole_at_every_moment_and_tells_the_end(
    ledger: Ledger, tmp_path: Path, every_s: float, again: bool
) -> None:
    """O4: a reader that looks all the time always finds JSON; the last state is the end of the run."""
    file, found, over = tmp_path / "status.json", [], threading.Event()

    def read_all_the_time() -> None:
        while not over.is_set():
            if file.exists():
                found.append(json.loads(file.read_text()))

    reader = threading.Thread(target=read_all_the_time)
    with watching(ledger, metrics__status_file=file, metrics__interval_seconds=every_s) as watched:
        watched.wait_for(file.exists)
        reader.start()
        for done in range(5):
            watched.show(done)
            time.sleep(0.1)
        if again:
            watched.wait_for(lambda: json.loads(file.read_text())["run"]["fetched"] == 4)
        watched.observatory.ended(1, picture(77))
    over.set()
    reader.join()

    seen = {status["run"]["fetched"] for status in found}
    assert (len(seen - {0, 77}) > 0) is again
    last = json.loads(file.read_text())
    assert (last["phase"], last["exit_code"], last["run"]["fetched"]) == ("ended", 1, 77)
    assert {path.name for path in tmp_path.iterdir()} <= {
        "status.json",
        "progress.db",
        "progress.db-wal",
        "progress.db-shm",
    }


def test_o4_an_error_that_ends_the_run_stands_in_the_status(ledger: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "status.json"
    with pytest.raises(AuthenticationError), watching(ledger, metrics__status_file=file):
        raise AuthenticationError("wrong password")
    assert json.loads(file.read_text())["exit_code"] == 3


# --- logs and alerts


@pytest.mark.effect_of("logging.performance_seconds")
def test_o3_performance_is_logged_and_a_stall_is_told_logged_and_shown(
    ledger: Ledger, tmp_path: Path
) -> None:
    """O3: records in the log; a run that comes to a halt is told at the terminal, in the log and in the status."""
    file, log, done = tmp_path / "status.json", tmp_path / "run.jsonl", 0
    add_a_task(ledger)
    values = {"metrics__interval_seconds": 0.1, "logging__performance_seconds": 0.25}
    with watching(ledger, metrics__status_file=file, logging__file=log, **values) as watched:

        def alerts() -> list[str]:
            return (
                [alert["kind"] for alert in json.loads(file.read_text())["alerts"]] if file.exists() else []
            )

        watched.show(1)
        watched.wait_for(lambda: "stalled" in alerts())
        assert "Nothing has been finished for a while, and nobody was told to wait." in watched.told

        def works_again() -> bool:
            nonlocal done
            done += 1
            watched.show(done % 1_000)
            return "stalled" not in alerts()

        watched.wait_for(works_again)

    found = [json.loads(line) for line in log.read_text().splitlines()]
    records = [line for line in found if line["action"] == "performance"]
    assert len(records) >= 4
    assert all(record["seconds"] >= 0.2 for record in records)
    assert {"mean_files_per_s", "mean_bytes_per_s", "error_share", "latency_ms"} <= set(records[0])
    kinds = [(line["action"], line["kind"]) for line in found if "alert" in line["action"]]
    assert kinds.index(("alert_begun", "stalled")) < kinds.index(("alert_ended", "stalled"))


def test_o4_events_become_lines_for_programs_and_for_people(ledger: Ledger, tmp_path: Path) -> None:
    """O4: JSON beside plain words; what a run waits for is there too."""
    files = {"logging__file": tmp_path / "run.jsonl", "logging__text_file": tmp_path / "run.log"}
    with watching(ledger, **files) as watched:
        watched.observatory.follow(Waiting("CEDA is away"))
        watched.observatory.follow(
            DownloadFailed(1, "data/a.csv", ErrorClass.TIMEOUT, "slow", will_retry=True)
        )
        watched.observatory.ended(0, picture(1_000))

    actions = [json.loads(line)["action"] for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert actions == ["run_started", "waiting", "download_failed", "run_ended"]
    words = (tmp_path / "run.log").read_text()
    assert "CEDA is away" in words
    assert "data/a.csv: slow (timeout; will be tried again)" in words


def test_i8_an_observatory_that_cannot_even_begin_is_no_trouble(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I8: whatever breaks inside, the block around the run is left as if nothing had been."""

    def broken(*_: object) -> None:
        raise RuntimeError

    for name in ("_open", "_look", "_close"):
        monkeypatch.setattr(Observatory, name, broken)
    with watching(ledger, metrics__port=free_port()) as watched:
        watched.show(5)
    assert watched.told == []


def test_o4_a_log_that_is_slower_than_the_ledger_misses_no_change_of_state(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """O4: what the log has no room for waits in the ledger; in the end each of 400 changes has its line, in order."""
    monkeypatch.setattr(observatory, "LINES_HELD", 60)
    monkeypatch.setattr(observatory, "MOST_ROWS", 50)
    monkeypatch.setattr(figures, "MOST_ROWS", 50)
    monkeypatch.setattr(figures, "MOVES_AFTER", figures.MOVES_AFTER.limit(50))
    write = Log.__call__

    def slowly(self: Log, record: LogRecord) -> None:
        time.sleep(0.002)
        write(self, record)

    monkeypatch.setattr(Log, "__call__", slowly)
    log = tmp_path / "run.jsonl"
    add_a_task(ledger)
    monkeypatch.setattr(observatory, "FAREWELL_S", PATIENCE_S)
    debug = {"logging__level": "debug", "metrics__interval_seconds": 0.1}
    with watching(ledger, logging__file=log, **debug), ledger.write() as connection:
        for number in range(400):
            connection.exec_driver_sql(
                "INSERT INTO transition (task_id, at, from_state, to_state, reason) "
                f"VALUES (1, 0, 'pending', 'done', '{number}')"
            )

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    moves = [line["reason"] for line in lines if line["action"] == "task_moved"]
    assert moves == [str(number) for number in range(400)]
    assert [line for line in lines if line["action"] == "lines_dropped"] == []
