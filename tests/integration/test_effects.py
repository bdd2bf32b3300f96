"""F4: each key of the settings has an effect. Every test here changes a key and sees the difference.

Further ones stand where their subject is; `tests/unit/test_effects_known.py` sees that no key lacks one.
"""

from __future__ import annotations

import multiprocessing
import random
import socket
import time
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from midasdl import worker_process
from midasdl.berth import Berth
from midasdl.ceda.verdict import FetchError, Verdict
from midasdl.channel import Bye, Channel, News
from midasdl.config import Settings, resolve
from midasdl.config.keys import tree_of
from midasdl.coordinator import Coordinator
from midasdl.errors import ExitCode
from midasdl.identity import ProcessIdentity
from midasdl.job import Job
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.load import ManifestLoader
from midasdl.ledger.runs import RunRegistry
from midasdl.manifest import ManifestParser
from midasdl.models import ErrorClass
from midasdl.policy import retry_wait_s
from midasdl.politeness.breaker import Answer, Breaker, admit, learn
from midasdl.politeness.gate import Gate
from midasdl.politeness.limiter import Go, Wait, limits_from, rules_from
from midasdl.progress.audience import Nobody
from midasdl.progress.events import DownloadAbandoned
from midasdl.selection import Selection
from midasdl.simulator import Simulator
from midasdl.worker_process import policy_from, store_from
from tests.conftest import Archive
from tests.support.access import LOGIN, Basket, connect
from tests.support.clock import FakeClock
from tests.support.inside import run_inside

SECOND = 1_000_000
NOW = 1_790_000_000 * SECOND


def with_values(**values: object) -> Settings:
    """Settings with some keys of their own, written as ``workers__count=8``."""
    return resolve(
        tree_of({f"performance.{name.replace('__', '.')}": value for name, value in values.items()})
    )


# --- workers and what is handed on


@pytest.mark.parametrize("delay_ms", [0, 700])
@pytest.mark.effect_of("performance.workers.restart_delay_ms")
def test_a_dead_worker_is_replaced_after_the_delay_and_not_before(
    ledger: Ledger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, delay_ms: int
) -> None:
    """F4 W1."""
    started: list[float] = []
    monkeypatch.setattr(Coordinator, "_start", lambda *_: started.append(clock.monotonic()))
    settings = with_values(workers__restart_delay_ms=delay_ms)
    coordinator = Coordinator(ledger, lambda _: None, settings, 1, Nobody())  # type: ignore[arg-type, return-value]
    coordinator._berths = [Berth("worker-1")]
    died_s = clock.monotonic()
    coordinator._bury(coordinator._berths[0])
    for _ in range(20):
        if not started:
            coordinator._start_due(clock.monotonic())
            clock.advance(0.05)
    assert started
    assert delay_ms / 1000 <= started[0] - died_s <= delay_ms / 1000 + 0.051


@pytest.mark.effect_of("performance.batching.manifest_batch_size")
def test_the_ledger_is_handed_so_many_lines_at_a_time(
    tmp_path: Path, small_archive: Archive, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F4: 120 lines are 3 batches of 50."""
    batches: list[int] = []
    load = ManifestLoader._load_chunk

    def counting(self: ManifestLoader, connection: Any, chunk: list[Any], **more: Any) -> None:
        batches.append(len(chunk))
        load(self, connection, chunk, **more)

    monkeypatch.setattr(ManifestLoader, "_load_chunk", counting)
    smaller = command.with_settings(batching__manifest_batch_size=50)
    run_inside(smaller, "init", str(small_archive.manifest), "--dest", str(tmp_path / "root"))
    assert batches == [50, 50, 20]


def five_messages(_order: Any, _clock: Any, channel: Channel, *_: Any) -> Bye:
    """The work of a worker that has much to tell at once."""
    for number in range(5):
        channel.post(DownloadAbandoned(number, ""))
    return Bye(None)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.effect_of("performance.batching.channel_buffer_size")
def test_a_worker_holds_so_many_messages_and_drops_the_oldest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: int
) -> None:
    """F4 P1."""
    ours, theirs = multiprocessing.Pipe()
    order = worker_process.WorkerOrder(
        tmp_path / "ledger", 1, "w", tmp_path, with_values(batching__channel_buffer_size=size), LOGIN, 0
    )
    monkeypatch.setattr(worker_process, "ignore_signals", lambda: None)
    monkeypatch.setattr(worker_process, "_obey", lambda *_: None)
    monkeypatch.setattr(
        worker_process,
        "_work_off",
        five_messages,
    )
    worker_process.work(order, theirs)
    news = ours.recv()
    assert isinstance(news, News)
    assert [event.task_id for event in news.events] == list(range(5))[-size:]  # type: ignore[union-attr]


# --- requests


def gates(ledger: Ledger, settings: Settings, count: int) -> list[Gate]:
    """Gates of several workers with the limits that the settings give them."""
    registry = RunRegistry(ledger)
    client = settings.performance.ceda_client
    return [
        Gate(
            ledger,
            registry.register(None, "worker", "w", ProcessIdentity.current()),
            lambda host: limits_from(client, host),
            random.uniform,
            rules=rules_from(settings),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.effect_of("performance.ceda_client.max_concurrent_requests")
def test_so_many_workers_may_have_a_request_in_flight(ledger: Ledger, most: int) -> None:
    """F4 C5: the next one has to wait."""
    settings = with_values(ceda_client__max_concurrent_requests=most, ceda_client__min_request_spacing_ms=0)
    answers = [gate.ask("dap.ceda.ac.uk") for gate in gates(ledger, settings, most + 1)]
    assert [isinstance(answer, Go) for answer in answers] == [True] * most + [False]
    assert isinstance(answers[-1], Wait)


@pytest.mark.parametrize("spacing_ms", [40, 250])
@pytest.mark.effect_of("performance.ceda_client.min_request_spacing_ms")
def test_starts_are_so_far_apart(ledger: Ledger, spacing_ms: int) -> None:
    """F4 C5."""
    settings = with_values(ceda_client__min_request_spacing_ms=spacing_ms)
    starts = [gate.ask("dap.ceda.ac.uk") for gate in gates(ledger, settings, 3)]
    moments = [start.at_us for start in starts if isinstance(start, Go)]
    assert [later - earlier for earlier, later in pairwise(moments)] == [spacing_ms * 1_000] * 2


@pytest.mark.effect_of("performance.ceda_client.connection_timeout_seconds")
def test_a_connection_that_does_not_come_is_given_up(tmp_path: Path) -> None:
    """F4 C12: a machine that accepts nobody; by default this would take 30 s."""
    with ExitStack() as stack, Ledger.create(tmp_path / "progress.db") as ledger:
        deaf = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = deaf.getsockname()
        for _ in range(4):  # fill what the system accepts by itself
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        settings = resolve(
            tree_of(
                {
                    "performance.ceda_client.connection_timeout_seconds": 0.2,
                    "ceda.archive_url": f"http://127.0.0.1:{address[1]}/x",
                    "storage.token_cache": str(tmp_path),
                }
            )
        )
        (gate,) = gates(ledger, settings, 1)
        token = replace(LOGIN, username=None, password=None, token=LOGIN.password)
        access = connect(settings, token, gate, ledger.clock)
        began = time.monotonic()
        with pytest.raises(FetchError) as raised:
            access.client.fetch("data/a.csv", Basket())
        access.close()
    assert raised.value.verdict.error_class in {ErrorClass.TIMEOUT, ErrorClass.CONNECTION}
    assert time.monotonic() - began < 15


BACKOFF = "ceda_client__backoff__"


@pytest.mark.parametrize(
    ("change", "waits_s"),
    [
        ({}, [1.0, 2.0, 4.0, None]),
        ({"max_retries": 1}, [1.0, None, None, None]),
        ({"base_backoff_ms": 500}, [0.5, 1.0, 2.0, None]),
        ({"multiplier": 3.0}, [1.0, 3.0, 9.0, None]),
        ({"max_backoff_seconds": 1.5}, [1.0, 1.5, 1.5, None]),
    ],
    ids=str,
)
@pytest.mark.effect_of(
    "performance.ceda_client.backoff.max_retries",
    "performance.ceda_client.backoff.base_backoff_ms",
    "performance.ceda_client.backoff.multiplier",
    "performance.ceda_client.backoff.max_backoff_seconds",
)
def test_retries_wait_as_the_backoff_says(change: dict[str, object], waits_s: list[float | None]) -> None:
    """F4 C8."""
    policy = policy_from(with_values(**{BACKOFF + name: value for name, value in change.items()}))
    verdict = Verdict(ErrorClass.TIMEOUT, "", None, None)
    assert [retry_wait_s(attempts, verdict, policy, lambda *_: 1.0) for attempts in (1, 2, 3, 4)] == waits_s


@pytest.mark.parametrize("factor", [0.0, 0.5])
@pytest.mark.effect_of("performance.ceda_client.backoff.jitter_factor")
def test_waits_are_spread_by_the_jitter(factor: float) -> None:
    """F4 C8."""
    policy = policy_from(with_values(**{BACKOFF + "jitter_factor": factor}))
    shortest = policy.backoff.wait_s(1, lambda low, _: low)
    longest = policy.backoff.wait_s(1, lambda _, high: high)
    assert (shortest, longest) == (1 - factor, 1 + factor)


@pytest.mark.parametrize(
    ("change", "failures", "successes", "opens_for_s"),
    [
        ({}, 5, 2, 60),
        ({"failure_threshold": 2}, 2, 2, 60),
        ({"success_threshold": 4}, 5, 4, 60),
        ({"timeout_seconds": 7}, 5, 2, 7),
    ],
    ids=str,
)
@pytest.mark.effect_of(
    "performance.circuit_breaker.failure_threshold",
    "performance.circuit_breaker.success_threshold",
    "performance.circuit_breaker.timeout_seconds",
)
def test_the_breaker_opens_and_closes_as_the_settings_say(
    change: dict[str, object], failures: int, successes: int, opens_for_s: int
) -> None:
    """F4 C10."""
    rules = rules_from(with_values(**{f"circuit_breaker__{name}": to for name, to in change.items()})).breaker
    breaker = Breaker()
    for _ in range(failures):
        assert breaker.is_closed
        breaker = learn(breaker, Answer.DOWN, NOW, rules)
    assert not breaker.is_closed
    opens_at = NOW + opens_for_s * SECOND
    assert admit(breaker, opens_at - 1, rules)[1] is not None
    assert admit(breaker, opens_at, rules)[1] is None
    for _ in range(successes):
        assert not breaker.is_closed
        breaker = learn(breaker, Answer.GOOD, opens_at + SECOND, rules)
    assert breaker.is_closed


@pytest.mark.effect_of("performance.circuit_breaker.enabled")
def test_a_breaker_that_is_off_never_opens() -> None:
    """F4 C10."""
    rules = rules_from(with_values(circuit_breaker__enabled=False)).breaker
    breaker = Breaker()
    for _ in range(20):
        breaker = learn(breaker, Answer.DOWN, NOW, rules)
    assert breaker.is_closed


# --- bodies, addresses, token


@pytest.mark.effect_of(
    "performance.memory.max_file_size_in_memory",
    "performance.memory.download_chunk_size",
    "ceda.archive_url",
    "ceda.token_url",
    "storage.token_cache",
)
def test_bodies_are_streamed_in_chunks_from_where_the_settings_say(
    tmp_path: Path, small_archive: Archive
) -> None:
    """F4 C13 C2: the archive and the token service are where they are said to be, and the token's folder too."""
    path = max(
        (path for _, path in small_archive.lines), key=lambda p: (small_archive.root / p).stat().st_size
    )
    contents = (small_archive.root / path).read_bytes()
    pieces: dict[tuple[int, int], list[int] | None] = {}
    with Simulator(small_archive.root) as simulator, Ledger.create(tmp_path / "progress.db") as ledger:
        for in_memory, chunk in [(len(contents), 512), (len(contents) - 1, 512), (0, 1024)]:
            settings = resolve(
                tree_of(
                    {
                        "performance.memory.max_file_size_in_memory": in_memory,
                        "performance.memory.download_chunk_size": chunk,
                        "ceda.archive_url": simulator.archive_url,
                        "ceda.token_url": simulator.token_url,
                        "storage.token_cache": str(tmp_path / "tokens"),
                    }
                )
            )
            (gate,) = gates(ledger, settings, 1)
            access = connect(settings, LOGIN, gate, ledger.clock)
            basket = Basket()
            body = access.client.fetch(path, basket)
            access.close()
            assert basket.bytes_of(body) == contents
            pieces[in_memory, chunk] = None if body.content is not None else list(map(len, basket.chunks))
        routes = [record.route for record in simulator.requests]
    assert routes == ["token", "download", "download", "download"]
    assert any((tmp_path / "tokens").iterdir())
    whole, small, large = pieces.values()
    assert whole is None
    assert small is not None
    assert large is not None
    assert (max(small[1:]), max(large[1:])) == (512, 1024)


# --- the archive on disk and the history


@pytest.mark.parametrize(("how", "shares"), [("hardlink", True), ("copy", False)])
@pytest.mark.effect_of("storage.duplicates")
def test_a_second_path_is_a_link_or_a_copy_as_the_settings_say(
    tmp_path: Path, how: str, shares: bool
) -> None:
    """F4 S3."""
    store = store_from(resolve(tree_of({"storage.duplicates": how})), tmp_path)
    store.prepare()
    with store.part() as part:
        part.write(b"rain")
        store.publish(part, ["data/a.csv", "data/b.csv"])
    assert ((tmp_path / "data/a.csv").stat().st_ino == (tmp_path / "data/b.csv").stat().st_ino) is shares


@pytest.mark.effect_of("performance.profile", "history.keep", "history.max_rows")
def test_a_run_works_by_its_profile_and_forgets_what_is_more_than_it_may_keep(
    tmp_path: Path, small_archive: Archive
) -> None:
    """F2 F4: development has one worker and keeps every move; of these the latest are left."""
    with Simulator(small_archive.root) as simulator, Ledger.create(tmp_path / "progress.db") as ledger:
        with ledger.write() as connection, small_archive.manifest.open("rb") as stream:
            ledger.set_setting(connection, "data_root", str(tmp_path / "data-root"))
            ManifestLoader(ledger, "manifest", Selection()).load(connection, ManifestParser(stream))
        settings = resolve(
            tree_of(
                {
                    "performance.profile": "development",
                    "performance.ceda_client.min_request_spacing_ms": 0,
                    "history.max_rows": 30,
                    "ceda.archive_url": simulator.archive_url,
                    "ceda.token_url": simulator.token_url,
                    "storage.token_cache": str(tmp_path / "tokens"),
                }
            )
        )
        assert settings.history.keep == "all"
        job = Job(ledger, settings)
        job.prepare()
        assert job.run(lambda: LOGIN).exit_code is ExitCode.DONE
        with ledger.read() as connection:
            count = connection.exec_driver_sql
            assert count("SELECT count(*) FROM worker WHERE role = 'worker'").scalar() == 1
            assert count("SELECT count(*) FROM transition").scalar() == 30
