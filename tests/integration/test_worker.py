"""I1 to I4, C3, C6, C8, S1: a worker's turns, with a real ledger, a real store and the simulator, but no process."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from midasdl.ceda.verdict import FetchError, Verdict
from midasdl.errors import AuthenticationError, ServerUnavailableError, StorageError
from midasdl.identity import ProcessIdentity
from midasdl.ledger.runs import RunRegistry
from midasdl.ledger.tasks import TaskQueue
from midasdl.models import ErrorClass
from midasdl.progress.events import (
    CacheHit,
    DownloadAbandoned,
    DownloadCompleted,
    DownloadFailed,
    DownloadStarted,
)
from midasdl.simulator import Fault
from tests.support.access import asked
from tests.support.desk import FILES, MAX_RETRIES, TWIN, Desk, desk, fill_claims, line, md5, simulator

__all__ = ["desk", "simulator"]

Load = Callable[..., Any]


def test_s1_every_file_comes_with_one_request_and_stands_under_its_name(desk: Desk, load: Load) -> None:
    load(*map(line, FILES))
    desk.worker.run()
    assert {path: (desk.root / path).read_bytes() for path in FILES} == FILES
    assert sorted(desk.gets()) == sorted(FILES)
    for path, row in desk.tasks().items():
        assert (row.state, row.attempts, row.from_cache, row.http_status) == ("done", 1, 0, 200)
        assert row.size_bytes == len(FILES[path])
    assert len(desk.said(DownloadStarted)) == len(desk.said(DownloadCompleted)) == len(FILES)


def test_m5_a_content_with_two_paths_costs_one_request_and_is_at_both(desk: Desk, load: Load) -> None:
    load(line("data/a.csv"), line(TWIN))
    desk.worker.run()
    assert desk.gets() == ["data/a.csv"]
    assert (desk.root / TWIN).read_bytes() == FILES["data/a.csv"]
    assert desk.said(DownloadCompleted)[0].files == 2


def test_i2_a_task_is_recorded_only_after_its_folders_are_durable(
    desk: Desk, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    settle, sync = desk.queue.settle, desk.store.sync_folders
    monkeypatch.setattr(
        desk.queue, "settle", lambda *a, **k: (order.append(f"settle {len(a[1])}"), settle(*a, **k))[1]
    )
    monkeypatch.setattr(desk.store, "sync_folders", lambda: (order.append("sync"), sync())[1])
    load(line("data/a.csv"))
    desk.worker.run()
    assert order == ["sync", "settle 0", "sync", "settle 1"]


# --- errors


def test_c9_a_wrong_checksum_and_then_the_right_bytes_is_done_with_two_attempts(
    desk: Desk, load: Load
) -> None:
    load(line("data/a.csv"))
    desk.simulator.add_fault(Fault("corrupt", route="download"))
    desk.worker.run()
    row = desk.tasks()["data/a.csv"]
    assert (row.state, row.attempts, row.error_class) == ("done", 2, None)
    (event,) = desk.said(DownloadFailed)
    assert (event.error_class, event.will_retry) == (ErrorClass.CHECKSUM, True)
    assert sum(desk.clock.waits) >= 1.0


@pytest.mark.parametrize(
    ("action", "status", "error_class"),
    [
        ("corrupt", 0, "checksum"),
        ("short", 0, "checksum"),
        ("truncate", 0, "incomplete"),
        ("reset", 0, "connection"),
        ("status", 503, "unavailable"),
        ("status", 500, "server-error"),
        ("html-200", 0, "unexpected-page"),
    ],
)
def test_c8_an_error_that_stays_fails_after_one_and_max_retries_requests(
    desk: Desk, load: Load, action: str, status: int, error_class: str
) -> None:
    """As the server counts them; nothing is left on disk, and the file's neighbours are not disturbed."""
    load(line("data/a.csv"), line("data/b.csv"))
    desk.simulator.add_fault(Fault(action, path="*/a.csv", status=status or 503, times=None))
    desk.worker.run()
    row = desk.tasks()["data/a.csv"]
    assert (row.state, row.attempts, row.error_class) == ("failed", 1 + MAX_RETRIES, error_class)
    assert desk.gets().count("data/a.csv") == 1 + MAX_RETRIES
    assert not (desk.root / "data/a.csv").exists()
    assert list((desk.root / ".midasdl/parts").iterdir()) == []
    assert desk.tasks()["data/b.csv"].state == "done"
    assert [event.will_retry for event in desk.said(DownloadFailed)] == [True] * MAX_RETRIES + [False]


def test_c9_a_checksum_failure_says_what_was_expected_and_what_came(desk: Desk, load: Load) -> None:
    load(line("data/a.csv"))
    desk.simulator.add_fault(Fault("short", route="download", times=None))
    desk.worker.run()
    error = desk.tasks()["data/a.csv"].error
    for words in ("data/a.csv", md5("data/a.csv"), f"{len(FILES['data/a.csv']) // 2} bytes"):
        assert words in error


def test_m5_a_file_missing_at_one_path_is_fetched_from_the_other(desk: Desk, load: Load) -> None:
    load(line(TWIN), line("data/a.csv"))
    desk.simulator.add_fault(Fault("status", status=404, path=f"*/{TWIN}", times=None))
    desk.worker.run()
    assert desk.gets() == [TWIN, "data/a.csv"]
    assert desk.tasks()[TWIN].attempts == 2
    assert (desk.root / TWIN).read_bytes() == (desk.root / "data/a.csv").read_bytes()
    assert sum(desk.clock.waits) == 0, "the other path needs no patience"


def test_m5_a_file_is_missing_only_if_it_is_missing_at_every_path(desk: Desk, load: Load) -> None:
    """A timeout at the first path, then a 404 at the second: the first is asked again."""
    load(line(TWIN), line("data/a.csv"))
    desk.simulator.add_fault(Fault("reset", path=f"*/{TWIN}"))
    desk.simulator.add_fault(Fault("status", status=404, path="*/data/a.csv", times=None))
    desk.worker.run()
    assert desk.gets() == [TWIN, "data/a.csv", TWIN]
    assert desk.states() == {"done"}


def test_c9_a_file_missing_everywhere_fails_after_one_request_a_path(desk: Desk, load: Load) -> None:
    load(line(TWIN), line("data/a.csv"))
    desk.simulator.add_fault(Fault("status", status=404, route="download", times=None))
    desk.worker.run()
    row = desk.tasks()[TWIN]
    assert (row.state, row.attempts, row.error_class) == ("failed", 2, "not-found")
    assert len(desk.gets()) == 2


@pytest.mark.parametrize("status", [429, 503])
def test_c6_a_server_that_asks_for_patience_gets_it_from_everybody(
    desk: Desk, load: Load, status: int
) -> None:
    """A 429 costs no attempt."""
    load(line("data/a.csv"), line("data/b.csv"))
    desk.simulator.add_fault(Fault("status", status=status, route="download", retry_after="120"))
    began_us = desk.clock.now_us()
    desk.worker.turn()
    paused = desk.gate.state(desk.access.client.host)
    assert paused.paused_until == began_us + 120_000_000
    assert str(status) in str(paused.pause_reason)
    desk.worker.run()
    assert desk.clock.now_us() >= began_us + 120_000_000
    assert desk.states() == {"done"}
    assert desk.tasks()["data/a.csv"].attempts == (1 if status == 429 else 2)
    assert len(desk.gets()) == 3


# --- claims


def test_i3_a_claim_that_was_lost_is_dropped(desk: Desk, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes stay: they are right. The row is its new owner's."""
    load(line("data/a.csv"))
    publish = desk.store.publish

    def taken_meanwhile(*arguments: Any) -> None:
        publish(*arguments)
        RunRegistry(desk.ledger).retire([desk.worker_id], dead=True)
        other = RunRegistry(desk.ledger).register(None, "worker", "other", ProcessIdentity.current())
        assert TaskQueue(desk.ledger).settle(other, [], want=1).claims

    monkeypatch.setattr(desk.store, "publish", taken_meanwhile)
    desk.worker.turn()
    desk.worker.record()
    assert desk.tasks()["data/a.csv"].state == "in_progress"
    assert desk.said(DownloadAbandoned) == [DownloadAbandoned(1, "the claim was lost")]


def twin_becomes_b(desk: Desk, load: Load) -> None:
    """A newer manifest gives a path other bytes, and another worker has brought them already."""
    load(f"{md5('data/b.csv')}  ./{TWIN}")
    (desk.root / TWIN).parent.mkdir(parents=True, exist_ok=True)
    (desk.root / TWIN).write_bytes(FILES["data/b.csv"])


def test_l3_i1_a_worker_that_lost_its_claim_while_it_fetched_publishes_nothing(
    desk: Desk, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes are those of an older manifest by now."""
    load(line("data/a.csv"), line(TWIN))
    fetch = desk.access.client.fetch

    def slowly(*arguments: Any) -> Any:
        body = fetch(*arguments)
        twin_becomes_b(desk, load)
        return body

    monkeypatch.setattr(desk.access.client, "fetch", slowly)
    desk.worker.turn()
    desk.worker.record()
    assert (desk.root / TWIN).read_bytes() == FILES["data/b.csv"]
    assert not (desk.root / "data/a.csv").exists()
    assert desk.said(DownloadAbandoned) == [DownloadAbandoned(1, "the claim was lost")]
    assert desk.states() == {"pending"}


def test_l3_i1_a_worker_that_lost_its_claim_before_it_looked_fills_no_path(desk: Desk, load: Load) -> None:
    """What it finds on disk at one path no longer belongs at the other."""
    load(line("data/a.csv"), line(TWIN))
    fill_claims(desk, 1)
    twin_becomes_b(desk, load)
    (desk.root / "data/a.csv").write_bytes(FILES["data/a.csv"])
    desk.worker.turn()
    assert (desk.root / TWIN).read_bytes() == FILES["data/b.csv"]


@pytest.mark.parametrize("place", ["fsync", "rename"])
def test_s7_a_full_disk_gives_every_claim_back_and_fails_no_task(
    desk: Desk, load: Load, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Trap: disk full, and every queued item goes to error."""
    load(*map(line, FILES))
    fill_claims(desk, 4)
    desk.access.tokens.current()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync" if place == "fsync" else "replace", full)
        with pytest.raises(StorageError, match="The disk is full"):
            desk.worker.run()
    assert desk.states() == {"pending"}
    assert {row.attempts for row in desk.tasks().values()} == {0}
    desk.worker.run()
    assert desk.states() == {"done"}


def test_i2_what_cannot_be_made_durable_is_given_back_and_not_recorded(
    desk: Desk, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(*map(line, FILES))

    def broken_disk() -> None:
        raise StorageError("The disk is gone.")

    desk.worker.turn()
    fill_claims(desk, 2)
    with monkeypatch.context() as broken:
        broken.setattr(desk.store, "sync_folders", broken_disk)
        with pytest.raises(StorageError, match="gone"):
            desk.worker.run()
    assert desk.states() == {"pending"}
    desk.worker.run()
    assert desk.states() == {"done"}
    assert len(desk.gets()) == len(FILES), "what was published is found again"


def test_c3_an_authentication_failure_leaves_every_task_pending(desk: Desk, load: Load) -> None:
    load(*map(line, FILES))
    fill_claims(desk, 4)
    desk.simulator.add_fault(Fault("login-page", route="download", times=None))
    with pytest.raises(AuthenticationError):
        desk.worker.run()
    assert desk.states() == {"pending"}
    assert {row.attempts for row in desk.tasks().values()} == {0}
    assert len(desk.gets()) == 2
    assert {event.reason for event in desk.said(DownloadAbandoned)} == {"stopped"}


def test_c3_a_token_that_lapses_in_the_middle_costs_no_file(desk: Desk, load: Load) -> None:
    load(*map(line, FILES))
    desk.simulator.add_fault(Fault("revoke-tokens", route="download", after=2))
    desk.worker.run()
    assert desk.states() == {"done"}
    assert {row.attempts for row in desk.tasks().values()} == {1}
    assert len(asked(desk.simulator, "token")) == 2


def test_c9_a_connection_that_cannot_be_trusted_stops_the_run_with_advice(
    desk: Desk, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(*map(line, FILES))

    def untrusted(*_: object) -> None:
        raise FetchError(Verdict(ErrorClass.TLS, "The connection to CEDA cannot be trusted: self-signed"))

    monkeypatch.setattr(desk.access.client, "fetch", untrusted)
    with pytest.raises(ServerUnavailableError, match="self-signed") as raised:
        desk.worker.run()
    assert "--ca-bundle" in str(raised.value.hint)
    assert desk.states() == {"pending"}
    assert desk.gate.state(desk.access.client.host).paused_until > desk.clock.now_us(), "others need not try"


def test_w4_a_worker_that_is_asked_to_stop_records_what_is_done_and_gives_back_the_rest(
    desk: Desk, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(*map(line, FILES))
    fill_claims(desk, 5)
    publish = desk.store.publish

    def stop_soon(*arguments: Any) -> None:
        publish(*arguments)
        if len(desk.gets()) == 2:
            desk.clock.stop()

    monkeypatch.setattr(desk.store, "publish", stop_soon)
    desk.worker.run()
    states = sorted(row.state for row in desk.tasks().values())
    assert states == ["done", "done", "pending", "pending", "pending"]
    assert len(desk.gets()) == 2


def test_c14_figures_outlive_a_transaction_that_fails_and_are_written_once(
    desk: Desk, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C14: they come with the outcomes or not at all, in step with what the server saw."""
    load(*map(line, FILES))
    fill_claims(desk, 5)
    desk.worker.turn()
    with monkeypatch.context() as patched:
        patched.setattr(desk.queue, "_record", fail)
        with pytest.raises(StorageError):
            desk.worker.record()
    assert counted(desk) == []

    desk.worker.run()
    desk.worker.turn()
    assert counted(desk) == [("ok", len(desk.simulator.requests))]
    assert len(desk.simulator.requests) == len(FILES) + 1


def fail(*_: object) -> None:
    raise StorageError("the disk is full")


def counted(desk: Desk) -> list[tuple[str, int]]:
    with desk.ledger.read() as connection:
        rows = connection.exec_driver_sql("SELECT outcome, sum(requests) FROM responses GROUP BY 1")
        return [(outcome, requests) for outcome, requests in rows]


# --- what is on disk already


def test_s1_a_file_that_is_there_costs_no_request_and_fills_its_missing_twin(desk: Desk, load: Load) -> None:
    load(line("data/a.csv"), line(TWIN), line("data/b.csv"))
    for path in ("data/b.csv", TWIN):
        (desk.root / path).parent.mkdir(parents=True, exist_ok=True)
        (desk.root / path).write_bytes(FILES["data/a.csv" if path == TWIN else path])
    (desk.root / "data/a.csv").write_bytes(b"wrong")
    desk.worker.run()
    assert asked(desk.simulator, "download") == asked(desk.simulator, "token") == []
    assert (desk.root / "data/a.csv").read_bytes() == FILES["data/a.csv"]
    assert {(row.state, row.from_cache, row.attempts) for row in desk.tasks().values()} == {("done", 1, 0)}
    assert {event.files for event in desk.said(CacheHit)} == {1, 2}


@pytest.mark.parametrize("there", ["data/a.csv", "elsewhere/a.csv"])
def test_s1_a_file_is_found_also_where_the_folder_of_its_twin_is_missing(
    desk: Desk, load: Load, there: str
) -> None:
    load(line("data/a.csv"), f"{md5('data/a.csv')}  ./elsewhere/a.csv")
    (desk.root / there).parent.mkdir()
    (desk.root / there).write_bytes(FILES["data/a.csv"])
    desk.worker.run()
    assert asked(desk.simulator, "download") == []
    assert {(desk.root / path).read_bytes() for path in ("data/a.csv", "elsewhere/a.csv")} == {
        FILES["data/a.csv"]
    }


def test_s1_a_wrong_file_is_fetched_again_and_replaced(desk: Desk, load: Load) -> None:
    load(line("data/a.csv"))
    (desk.root / "data").mkdir(parents=True)
    (desk.root / "data/a.csv").write_bytes(FILES["data/a.csv"][:-1])
    desk.worker.run()
    assert (desk.root / "data/a.csv").read_bytes() == FILES["data/a.csv"]
    assert desk.gets() == ["data/a.csv"]
