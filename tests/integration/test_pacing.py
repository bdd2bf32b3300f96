"""F5, F6: a running job follows its schedule and the load, without losing or repeating a request."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import signal
import threading
import time as real_time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from midasdl import worker_process
from midasdl.berth import Berth, RunLimits
from midasdl.channel import Bye, News
from midasdl.clock import SystemClock
from midasdl.config import Settings, resolve
from midasdl.config.keys import tree_of
from midasdl.config.resolution import with_profile
from midasdl.coordinator import Coordinator
from midasdl.errors import ExitCode, StoppedError
from midasdl.job import Job, RunResult
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.load import ManifestLoader
from midasdl.ledger.overview import Overview
from midasdl.ledger.runs import RunRegistry
from midasdl.ledger.watching import LedgerWatch
from midasdl.manifest import ManifestParser
from midasdl.pacing import PaceKeeper, Paces, sit_out, told
from midasdl.progress.audience import Nobody
from midasdl.progress.events import Event, PaceChanged
from midasdl.selection import Selection
from midasdl.simulator import Simulator
from midasdl.tuning import Gauge, Sample
from tests.conftest import Archive
from tests.support.access import LOGIN
from tests.support.clock import FakeClock

SATURDAY_NOON_US = int(datetime(2026, 11, 28, 12, tzinfo=UTC).timestamp() * 1e6)
HOUR_S = 3_600.0
SETTLED_S = 2.0
"""A running job has changed its pace within this."""


def window(begins: str, ends: str, profile: str) -> dict[str, object]:
    return {"from": begins, "to": ends, "profile": profile, "time_zone": "UTC"}


def scheduled(*windows: dict[str, object], **values: object) -> Settings:
    """Settings with a schedule; without a word about tuning this machine's load does not matter."""
    values = values if any("tuning" in name for name in values) else {**values, "tuning__enabled": False}
    keys = {f"performance.{name.replace('__', '.')}": value for name, value in values.items()}
    return resolve(tree_of({"performance.schedule": list(windows), **keys}))


class Story(Nobody):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.changes: list[PaceChanged] = []

    def follow(self, event: Event) -> None:
        if isinstance(event, PaceChanged):
            self.changes.append(event)


# --- on a clock of the test


@pytest.fixture
def noon(ledger: Ledger, clock: FakeClock) -> FakeClock:
    """The ledger's clock, set to noon of a Saturday by UTC."""
    clock.jump(SATURDAY_NOON_US / 1e6 - clock.now_us() / 1e6)
    return clock


def steps_in(ledger: Ledger) -> list[tuple[Any, ...]]:
    with ledger.read() as connection:
        return [
            tuple(row)
            for row in connection.exec_driver_sql("SELECT what, from_value, to_value, reason FROM steps")
        ]


@pytest.mark.usefixtures("noon")
def test_a_run_that_begins_within_a_window_says_so_before_anything_else(ledger: Ledger) -> None:
    """F5: whoever listens knows from the start which profile holds."""
    story = Story()
    Coordinator(ledger, pytest.fail, scheduled(window("11:00", "13:00", "conservative")), 1, story)
    assert [change.after for change in story.changes] == ["conservative"]


@pytest.mark.effect_of("performance.schedule")
def test_a_job_changes_its_pace_with_the_schedule_and_keeps_why(ledger: Ledger, noon: FakeClock) -> None:
    """F5: limits and workers of each profile, none in a pause; told once each, and kept as steps."""
    settings = scheduled(
        window("12:00", "13:00", "conservative"),
        window("13:00", "14:00", "pause"),
        window("14:00", "15:00", "aggressive"),
    )
    story = Story()
    keeper = PaceKeeper(ledger, settings, story.follow)
    seen = []
    for _ in range(5):
        keeper.look([])
        spacing = keeper.pace.settings.performance.ceda_client.min_request_spacing_ms
        seen.append((keeper.pace.name, keeper.wanted, spacing))
        assert keeper.look([]) is False, "nothing changes within a second"
        noon.advance(HOUR_S)
    assert seen == [
        ("conservative", 2, 500),
        ("pause", 0, 100),
        ("aggressive", 8, 50),
        ("balanced", 4, 100),
        ("balanced", 4, 100),
    ]
    reasons = [
        "By the schedule, the profile conservative holds until Sat 13:00 (UTC).",
        "Paused by the schedule until Sat 14:00 (UTC).",
        "By the schedule, the profile aggressive holds until Sat 15:00 (UTC).",
        "By the settings, the profile balanced holds until Sun 12:00 (UTC).",
    ]
    assert [change.why for change in story.changes] == reasons
    names = ["balanced", "conservative", "pause", "aggressive", "balanced"]
    assert steps_in(ledger) == [
        ("profile", before, after, why)
        for (before, after), why in zip(itertools.pairwise(names), reasons, strict=True)
    ]


def test_workers_are_told_of_other_settings_only_when_there_are_others(
    ledger: Ledger, noon: FakeClock
) -> None:
    """F5."""
    keeper = PaceKeeper(ledger, scheduled(window("13:00", "14:00", "conservative")), Story().follow)
    assert [keeper.look([]) or noon.advance(HOUR_S / 2) for _ in range(2)] == [None, None]
    assert keeper.look([]) is True
    assert keeper.pace.settings.performance.workers.count == 2


def test_a_key_that_was_given_beats_the_profile_of_a_window(ledger: Ledger, noon: FakeClock) -> None:
    """F2 F5."""
    settings = scheduled(window("12:00", "13:00", "conservative"), ceda_client__min_request_spacing_ms=70)
    client = PaceKeeper(ledger, settings, Story().follow).pace.settings.performance.ceda_client
    assert (client.min_request_spacing_ms, client.max_concurrent_requests) == (70, 1)


def test_a_clock_that_is_set_does_not_keep_anybody_in_a_pause(ledger: Ledger, noon: FakeClock) -> None:
    """F5: the schedule is asked anew each second, not at an end that was worked out once."""
    keeper = PaceKeeper(ledger, scheduled(window("12:00", "13:00", "pause")), Story().follow)
    assert keeper.wanted == 0
    noon.jump(-2 * HOUR_S)
    noon.advance(1.0)
    keeper.look([])
    assert keeper.wanted == 4


def test_who_begins_in_a_pause_sits_it_out_and_can_be_stopped(ledger: Ledger, noon: FakeClock) -> None:
    """F5 W4 P6: told once with the end, and to whoever asks the ledger; nobody asks for a token meanwhile."""
    settings = scheduled(window("12:00", "13:00", "pause"))
    run_id = RunRegistry(ledger).start_run("run", {})
    overview = Overview(ledger)
    asked: list[list[str]] = []
    noticed: list[str | None] = []

    class Asks(Story):
        def tick(self, workers: int) -> None:
            if len(asked) < 4:
                asked.append(overview.pace())
                noticed.append(watch.snapshot().notice)

    story = Asks()
    watch = LedgerWatch(ledger)
    assert overview.pace() == []
    assert sit_out(ledger, settings, run_id, story, lambda: len(asked) > 3).holds.is_pause
    assert sit_out(ledger, settings, run_id, story, lambda: False).name == "balanced"
    assert noon.now_us() - SATURDAY_NOON_US == HOUR_S * 1e6
    reason = "Paused by the schedule until Sat 13:00 (UTC)."
    assert [change.why for change in story.changes] == [reason] * 2
    assert asked == [[reason]] * 4
    assert noticed == [reason] * 4
    assert overview.pace() == [], "nobody of the run is alive"


def test_a_pause_without_end_is_told_as_such(noon: FakeClock) -> None:
    """F5."""
    pace = Paces(scheduled(window("00:00", "24:00", "pause"))).at(noon.now_us())
    assert told(pace) == "Paused by the schedule."


@pytest.mark.parametrize("interval_s", [2.0, 20.0])
@pytest.mark.effect_of("performance.tuning.interval_seconds")
def test_the_load_is_looked_at_so_often(
    ledger: Ledger, noon: FakeClock, monkeypatch: pytest.MonkeyPatch, interval_s: float
) -> None:
    """F4 F6: a second look under strain lets a worker rest, and says so."""
    monkeypatch.setattr(Gauge, "sample", lambda *_: Sample(others_cpu_percent=99))
    story = Story()
    keeper = PaceKeeper(ledger, scheduled(tuning__interval_seconds=interval_s), story.follow)
    began_s = noon.monotonic()
    while keeper.wanted == 4:
        keeper.look([])
        noon.advance(0.2)
    assert interval_s <= noon.monotonic() - began_s <= interval_s + 0.41
    (change,) = story.changes
    assert change.why == "3 of 4 workers work: other programs use 99 % of the processors, more than 80 %."
    assert steps_in(ledger) == [("workers", "4", "3", change.why)]


# --- workers that rest


@pytest.fixture
def coordinator(ledger: Ledger, noon: FakeClock) -> Coordinator:
    """A coordinator of two berths whose processes are only imagined."""
    made = Coordinator(ledger, lambda _: None, scheduled(workers__count=2), 1, Nobody())  # type: ignore[arg-type, return-value]
    made._berths = [Berth("worker-1"), Berth("worker-2")]
    return made


def test_a_worker_that_dies_while_it_is_to_rest_is_not_replaced_and_not_given_up(
    coordinator: Coordinator,
) -> None:
    """F6 W1: it rests now; a run does not end because workers that nobody wants die again and again."""
    berth = coordinator._berths[1]
    for _ in range(50):
        berth.is_to_rest = True
        coordinator._bury(berth)
    assert (berth.is_empty, berth.ended, coordinator.report.error) == (True, False, None)


def test_nothing_left_ends_those_who_rest_too(coordinator: Coordinator) -> None:
    """W1 F6: the run is over as soon as one worker finds the queue empty for good and the others have ended."""
    working, resting = coordinator._berths
    assert not coordinator._is_over()
    coordinator._hear(working, Bye(None))
    assert (working.ended, resting.ended, coordinator._is_over()) == (True, True, True)


def test_a_farewell_before_the_work_has_begun_is_no_trouble(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """F6 W4: who is asked to rest while he starts says so, and stops nobody's run."""

    def stopped(*_: object) -> bool:
        raise StoppedError("The worker was asked to stop.")

    ours, theirs = multiprocessing.Pipe()
    for name, act in [("ignore_signals", lambda: None), ("_obey", lambda *_: None), ("_work_off", stopped)]:
        monkeypatch.setattr(worker_process, name, act)
    worker_process.work(worker_process.WorkerOrder(tmp_path, 1, "w", tmp_path, Settings(), LOGIN, 0), theirs)
    assert isinstance(ours.recv(), News)
    assert ours.recv() == Bye(None, is_at_rest=True)


def test_what_the_coordinator_sends_is_followed_until_it_says_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """F5: other settings hold at once; rest wakes whoever waits and kills nobody; stop ends by force if need be."""
    ours, theirs = multiprocessing.Pipe()
    clock, standing = SystemClock(), worker_process.Standing(Settings())
    followed: list[int] = []
    standing.be_followed(lambda now: followed.append(now.performance.workers.count))
    ended: list[int] = []
    monkeypatch.setattr(worker_process, "GRACE_S", 0.0)
    monkeypatch.setattr(worker_process.os, "_exit", ended.append)
    slow = with_profile(Settings(), "conservative")
    for word in (slow, worker_process.REST, worker_process.STOP):
        ours.send(word)
    worker_process._obey(theirs, clock, standing, worker_process.Doze(clock))
    assert (followed, ended, clock.stopped) == ([4, 2], [0], True)
    assert standing.limits("dap.ceda.ac.uk").spacing_us == 500_000


# --- in a run


@pytest.fixture
def job_with(tmp_path: Path, small_archive: Archive) -> Iterator[Callable[..., Job]]:
    """A job on the small archive, on the machine's clock."""
    with Ledger.create(tmp_path / "progress.db") as ledger:
        with ledger.write() as connection, small_archive.manifest.open("rb") as stream:
            ledger.set_setting(connection, "data_root", str(tmp_path / "data-root"))
            ManifestLoader(ledger, "manifest", Selection()).load(connection, ManifestParser(stream))

        def make(simulator: Simulator, **values: object) -> Job:
            keys = {f"performance.{name.replace('__', '.')}": value for name, value in values.items()}
            addresses = {
                "ceda.archive_url": simulator.archive_url,
                "ceda.token_url": simulator.token_url,
                "storage.token_cache": str(tmp_path / "tokens"),
            }
            job = Job(ledger, resolve(tree_of({**addresses, **keys})))
            job.prepare()
            return job

        yield make


def query(tmp_path: Path, text: str) -> list[tuple[Any, ...]]:
    with Ledger.open(tmp_path / "progress.db", read_only=True) as ledger, ledger.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(text)]


def see_that_each_file_was_asked_for_once(result: RunResult, simulator: Simulator, archive: Archive) -> None:
    """Nobody's request was cut off by a change of pace: it would have been repeated."""
    downloads = [record for record in simulator.requests if record.route == "download"]
    assert result.exit_code is ExitCode.DONE
    assert len(downloads) == result.counts.done == archive.distinct


class Week:
    """Windows that lie seconds ahead, and where the requests of a run fell among them."""

    def __init__(self, *parts: tuple[float, str]) -> None:
        self.begins_s = float(int(real_time.time())) + 1
        self.bounds_s: list[tuple[float, float, str]] = []
        at_s = self.begins_s
        for seconds, profile in parts:
            self.bounds_s.append((at_s, at_s + seconds, profile))
            at_s += seconds

    @property
    def windows(self) -> list[dict[str, object]]:
        def clock(at_s: float) -> str:
            return f"{datetime.fromtimestamp(at_s, UTC):%H:%M:%S}"

        return [window(clock(begins), clock(ends), profile) for begins, ends, profile in self.bounds_s]

    def starts_in(self, profile: str, simulator: Simulator, settled_s: float = SETTLED_S) -> list[float]:
        """When requests started while a profile held, but for the first seconds of it."""
        (bounds,) = [(begins, ends) for begins, ends, name in self.bounds_s if name == profile]
        starts = [record.started for record in simulator.requests if record.route == "download"]
        return sorted(start for start in starts if bounds[0] + settled_s <= start < bounds[1])


def see_the_rates(week: Week, simulator: Simulator) -> None:
    """Conservative: at most two a second; pause: none; aggressive: more than that, and at most twenty.

    How many there were in a while is judged, and not each gap: a machine that is busy delays this one and not the
    next. How many there must be at least is for the soak to judge.
    """
    slow = week.starts_in("conservative", simulator)
    length_s = next(ends - begins for begins, ends, name in week.bounds_s if name == "conservative")
    assert len(slow) <= 2 * (length_s - SETTLED_S) + 2
    assert week.starts_in("pause", simulator) == []
    fast = week.starts_in("aggressive", simulator, 0.0)
    assert 2.5 * (fast[-1] - fast[0]) < len(fast) <= 20 * (fast[-1] - fast[0]) + 5


@pytest.mark.slow
@pytest.mark.effect_of("performance.schedule")
def test_a_run_is_slow_then_paused_then_fast_as_its_schedule_says(
    job_with: Callable[..., Job], small_archive: Archive, tmp_path: Path
) -> None:
    """F5: seen in the request log; in the pause no worker lives, and what was in flight is finished."""
    alive: list[int] = []
    with Simulator(small_archive.root, first_byte_delay_s=0.3) as simulator:
        week = Week((8, "conservative"), (10, "pause"), (300, "aggressive"))
        job = job_with(simulator, schedule=week.windows, tuning__enabled=False)

        def look_in_the_pause() -> None:
            real_time.sleep(max(0.0, week.bounds_s[1][1] - 1.0 - real_time.time()))
            alive.append(
                query(tmp_path, "SELECT count(*) FROM worker WHERE state = 'alive' AND role = 'worker'")[0][0]
            )

        watcher = threading.Thread(target=look_in_the_pause)
        watcher.start()
        story = Story()
        result = job.run(lambda: LOGIN, story)
        watcher.join()
        see_that_each_file_was_asked_for_once(result, simulator, small_archive)
        see_the_rates(week, simulator)
    assert alive == [0]
    assert [change.after for change in story.changes][-3:] == ["conservative", "pause", "aggressive"]


@pytest.mark.soak
def test_a_minute_of_a_week(job_with: Callable[..., Job], archive: Archive, tmp_path: Path) -> None:
    """F5: the same for a minute, with a larger archive: conservative, pause, aggressive."""
    with Simulator(archive.root, first_byte_delay_s=0.1) as simulator:
        week = Week((20, "conservative"), (15, "pause"), (25, "aggressive"))
        job = job_with(simulator, schedule=week.windows)
        with (
            Ledger.open(tmp_path / "progress.db") as ledger,
            ledger.write() as connection,
            archive.manifest.open("rb") as stream,
        ):
            ManifestLoader(ledger, "larger", Selection()).load(connection, ManifestParser(stream))
        stopper = threading.Timer(week.bounds_s[-1][1] - real_time.time(), job.stop)
        stopper.start()
        job.run(lambda: LOGIN)
        see_the_rates(week, simulator)
        assert len(week.starts_in("conservative", simulator)) >= 30
        assert len(week.starts_in("aggressive", simulator)) >= 18 * 20


def test_workers_rest_under_strain_and_come_back_when_it_has_passed(
    job_with: Callable[..., Job], small_archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F6: three, two, one, and two again; each change has its reason, and no request is repeated for it.

    The strain lasts until only one process is left, however long the others take to end on this machine.
    """
    looks: list[int] = []

    def sample(_: Gauge, pids: list[int]) -> Sample:
        looks.append(len(pids))
        return Sample(others_cpu_percent=0 if 1 in looks else 99)

    monkeypatch.setattr(Gauge, "sample", sample)
    with Simulator(small_archive.root, first_byte_delay_s=0.15) as simulator:
        job = job_with(
            simulator,
            workers__count=3,
            ceda_client__min_request_spacing_ms=0,
            ceda_client__max_concurrent_requests=0,
            tuning__interval_seconds=0.1,
        )
        story = Story()
        result = job.run(lambda: LOGIN, story)
        see_that_each_file_was_asked_for_once(result, simulator, small_archive)
    assert [(change.before, change.after) for change in story.changes][:3] == [
        ("3", "2"),
        ("2", "1"),
        ("1", "2"),
    ]
    assert story.changes[2].why == "2 of 3 workers work: the load has passed."
    assert query(tmp_path, "SELECT count(*) FROM steps WHERE what = 'workers'") == [(len(story.changes),)]
    assert query(tmp_path, "SELECT count(*) FROM worker WHERE state = 'dead'") == [(0,)]
    assert 3 in looks


def test_who_rests_is_called_when_those_who_work_have_died_for_good(
    job_with: Callable[..., Job], small_archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F6 W1: the load lets one of two work, that one is killed and not replaced, and the other does the rest."""
    killed: list[int] = []

    def sample(_: Gauge, pids: list[int]) -> Sample:
        if len(pids) == 1 and not killed:
            killed.extend(pids)
            os.kill(pids[0], signal.SIGKILL)
        return Sample(others_cpu_percent=99)

    monkeypatch.setattr(Gauge, "sample", sample)
    with Simulator(small_archive.root, first_byte_delay_s=0.15) as simulator:
        job = job_with(
            simulator,
            workers__count=2,
            workers__restart_on_failure=False,
            ceda_client__min_request_spacing_ms=0,
            ceda_client__max_concurrent_requests=0,
            tuning__interval_seconds=0.1,
        )
        result = job.run(lambda: LOGIN)
    assert (result.exit_code, result.report.deaths) == (ExitCode.DONE, 1)
    assert query(tmp_path, "SELECT count(*) FROM task WHERE state <> 'done'") == [(0,)]


def test_a_limited_run_keeps_its_number_however_often_workers_rest(
    job_with: Callable[..., Job], small_archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W5 F6: what a worker did before it rested counts, and who rests takes over where another is through."""
    looks = itertools.count()
    monkeypatch.setattr(Gauge, "sample", lambda *_: Sample(others_cpu_percent=99 if next(looks) < 4 else 70))
    with Simulator(small_archive.root, first_byte_delay_s=0.1) as simulator:
        job = job_with(
            simulator,
            workers__count=3,
            ceda_client__min_request_spacing_ms=0,
            ceda_client__max_concurrent_requests=0,
            tuning__interval_seconds=0.1,
        )
        story = Story()
        result = job.run(lambda: LOGIN, story, RunLimits(tasks=40))
        downloads = [record for record in simulator.requests if record.route == "download"]
    assert [change.after for change in story.changes] == ["2", "1"]
    assert (result.report.stopped_by, result.counts.done, len(downloads)) == ("--limit", 40, 40)


@pytest.mark.soak
def test_workers_that_come_and_go_and_are_killed_lose_nothing(
    job_with: Callable[..., Job], small_archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I7 F6: load that swings all the time, and ``kill -9`` now and then; every file is whole in the end."""
    monkeypatch.setattr(
        Gauge, "sample", lambda *_: Sample(others_cpu_percent=99 if int(real_time.monotonic()) % 4 < 2 else 0)
    )
    ended = threading.Event()

    def kill_now_and_then() -> None:
        alive = "SELECT pid FROM worker WHERE state = 'alive' AND role = 'worker' ORDER BY random() LIMIT 1"
        while not ended.wait(3.0):
            for (pid,) in query(tmp_path, alive):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    with Simulator(small_archive.root, first_byte_delay_s=0.5) as simulator:
        job = job_with(
            simulator,
            workers__count=4,
            workers__restart_delay_ms=50,
            ceda_client__min_request_spacing_ms=0,
            ceda_client__max_concurrent_requests=0,
            tuning__interval_seconds=0.1,
        )
        killer = threading.Thread(target=kill_now_and_then)
        killer.start()
        story = Story()
        result = job.run(lambda: LOGIN, story)
        ended.set()
        killer.join()
    assert (result.exit_code, result.counts.done) == (ExitCode.DONE, small_archive.distinct)
    for md5, path in small_archive.lines:
        assert hashlib.md5((tmp_path / "data-root" / path).read_bytes()).hexdigest() == md5
    assert result.report.deaths >= 2
    assert len(story.changes) > 5
    assert query(tmp_path, "SELECT * FROM permit") == []


def test_a_run_that_rests_can_be_stopped(job_with: Callable[..., Job], small_archive: Archive) -> None:
    """F5 W4: in a pause that began with the run, and in one that came later."""
    with Simulator(small_archive.root) as simulator:
        for wait_s in (0, 4):
            week = Week(*[(wait_s, "conservative")] * bool(wait_s), (300, "pause"))
            job = job_with(simulator, schedule=week.windows)
            stopper = threading.Timer(week.bounds_s[-1][0] + 2.5 - real_time.time(), job.stop)
            stopper.start()
            assert job.run(lambda: LOGIN).exit_code is ExitCode.INTERRUPTED
            assert (week.starts_in("pause", simulator), stopper.is_alive()) == ([], False)
