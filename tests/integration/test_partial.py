"""C13, S2, I1, I7: a large body that breaks off is gone on with, by whoever is next, and checked as a whole."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from midasdl.cache import CacheStore
from midasdl.ceda.ranges import Held
from midasdl.config import Settings
from midasdl.errors import StorageError
from midasdl.identity import ProcessIdentity
from midasdl.job import Job
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.tasks import TaskQueue
from midasdl.part_names import KEPT_FOR_S, Beginning, PartName, is_stale, read_name
from midasdl.parts import OVERLAP_BYTES
from midasdl.simulator import Fault, Simulator
from tests.support.clock import FakeClock
from tests.support.desk import MAX_RETRIES, Desk

CONTENTS = b"Conventions,G,BADC-CSV,1\n" + bytes(range(32, 127)) * 3_000
MD5 = hashlib.md5(CONTENTS).hexdigest()
PATH = "data/large.csv"
TWIN = "data/twin.csv"
LINE = f"{MD5}  ./{PATH}"
HALF = len(CONTENTS) // 2
LONG_AGO_S = 1_600_000_000
TAG = '"5f1-6e"'

Load = Callable[..., Any]
Serve = Callable[..., Desk]


@pytest.fixture
def archive_root(tmp_path: Path) -> Path:
    root = tmp_path / "archive"
    for path in (PATH, TWIN):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(CONTENTS)
        os.utime(root / path, (LONG_AGO_S, LONG_AGO_S))
    return root


@pytest.fixture
def serve(archive_root: Path, ledger: Ledger, clock: FakeClock, tmp_path: Path) -> Iterator[Serve]:
    """One worker that streams everything, and a simulator with settings: ``serve(etag=False)``."""
    with ExitStack() as stack:

        def start(**simulator: Any) -> Desk:
            running = stack.enter_context(Simulator(archive_root, **simulator))
            return stack.enter_context(closing(Desk(ledger, clock, running, tmp_path, in_memory=0)))

        yield start


@pytest.fixture
def desk(serve: Serve) -> Desk:
    return serve()


@pytest.fixture
def store(tmp_path: Path) -> CacheStore:
    prepared = CacheStore(tmp_path / "midas-open")
    prepared.prepare()
    return prepared


def parts(store: CacheStore) -> list[Path]:
    return sorted((store.root / ".midasdl/parts").iterdir())


def answers(desk: Desk) -> list[tuple[int, str | None]]:
    """Status, and the range asked for, of each download."""
    return [(each.status, each.range) for each in desk.simulator.requests if each.route == "download"]


def sent(desk: Desk) -> int:
    return sum(each.sent_bytes for each in desk.simulator.requests if each.route == "download")


def rest_from(size_bytes: int) -> str:
    return f"bytes={size_bytes - OVERLAP_BYTES}-"


def is_done(desk: Desk, path: str = PATH, requests: int = 1) -> bool:
    """Done with so many requests that counted, the right bytes in place, nothing left over."""
    row = desk.tasks()[path]
    assert (row.state, row.attempts, row.size_bytes) == ("done", requests, len(CONTENTS))
    assert (desk.root / path).read_bytes() == CONTENTS
    return parts(desk.store) == []


def break_off(desk: Desk, **fault: Any) -> list[Path]:
    """One turn in which the body breaks off; the partials that are there then."""
    desk.simulator.add_fault(Fault("truncate", route="download", **fault))
    desk.worker.turn()
    desk.worker.record()
    return parts(desk.store)


def attempt(
    store: CacheStore, validator: str | None = None, md5: str = MD5, error: Exception | None = None
) -> Held | None:
    """An attempt that breaks off, after half of the body where it has a validator; what it held."""
    held = None
    with suppress(InterruptedError, StorageError), store.incoming(md5, PATH) as incoming:
        held = incoming.held
        if validator is not None:
            incoming.begin(validator)
            incoming.write(CONTENTS[:HALF])
        raise error or InterruptedError
    return held


# --- a body breaks off


@pytest.mark.parametrize(
    "fault",
    [Fault("truncate", "download"), Fault("stall", "download", seconds=30, bytes=HALF)],
    ids=["truncate", "stall"],
)
@pytest.mark.parametrize("etag", [True, False], ids=["by-tag", "by-date"])
def test_a_body_that_breaks_off_is_gone_on_with(serve: Serve, load: Load, fault: Fault, etag: bool) -> None:
    """C13 S4: the next attempt asks for the rest alone, on condition that the file is the same."""
    desk = serve(etag=etag, faults=[fault])
    load(LINE)

    desk.worker.run()

    (first, second) = answers(desk)
    assert first == (200, None)
    assert second[0] == 206
    assert is_done(desk, requests=2)
    assert desk.tasks()[PATH].http_status == 206
    assert sent(desk) < 1.02 * len(CONTENTS)
    assert (desk.root / PATH).stat().st_mtime == LONG_AGO_S


def test_a_body_that_breaks_off_again_and_again_gets_on_each_time(desk: Desk, load: Load) -> None:
    """C13: each attempt begins where the one before ended."""
    load(LINE)
    desk.simulator.add_fault(Fault("truncate", route="download", bytes=90_000, times=3))
    desk.worker.run()
    assert [status for status, _ in answers(desk)] == [200, 206, 206, 206]
    assert is_done(desk, requests=4)
    assert sent(desk) < 1.02 * len(CONTENTS)


def test_a_file_that_failed_for_good_is_gone_on_with_when_a_person_says_so(desk: Desk, load: Load) -> None:
    """C8 C13: never more requests than 1 + max_retries; `retry` asks for what is missing."""
    load(LINE)
    desk.simulator.add_fault(Fault("truncate", route="download", bytes=60_000, times=4))
    desk.worker.run()
    assert desk.states() == {"failed"}
    assert len(answers(desk)) == 1 + MAX_RETRIES
    TaskQueue(desk.ledger).requeue()
    desk.worker.run()
    assert [status for status, _ in answers(desk)] == [200, 206, 206, 206, 206]
    assert is_done(desk, requests=1)


def test_a_file_that_has_changed_at_the_server_comes_anew(desk: Desk, load: Load, archive_root: Path) -> None:
    """C13: 200 to a request for the rest is the whole file; nothing is left of the older bytes."""
    (archive_root / PATH).write_bytes(CONTENTS[::-1])
    load(LINE)
    assert len(break_off(desk)) == 1
    (archive_root / PATH).write_bytes(CONTENTS)
    desk.worker.run()
    assert [status for status, _ in answers(desk)] == [200, 200]
    assert is_done(desk, requests=2)


MISFITS = [
    Fault("status", status=416, headers={"Content-Range": f"bytes */{HALF}"}),
    Fault("status", status=206, body="9" * 500, content_type="text/csv"),
    Fault("status", status=206, body="9", content_type="text/csv", headers={"Content-Range": "bytes 0-0/1"}),
    Fault("gzip"),
    Fault("delay", seconds=0, headers={"ETag": '"another"'}),
]


@pytest.mark.parametrize("misfit", MISFITS, ids=["416", "no-range", "wrong-range", "gzip", "another-file"])
def test_an_answer_that_does_not_fit_costs_one_request_and_what_was_held(
    desk: Desk, load: Load, misfit: Fault
) -> None:
    """C13 C8: the partial is thrown away, and the next attempt has the whole file."""
    load(LINE)
    break_off(desk)
    desk.simulator.add_fault(misfit)
    desk.clock.advance(60)
    desk.worker.turn()
    desk.worker.record()
    row = desk.tasks()[PATH]
    assert (row.state, row.attempts, row.error_class) == ("pending", 2, "incomplete")
    assert parts(desk.store) == []
    desk.worker.run()
    assert [wanted is not None for _, wanted in answers(desk)] == [False, True, False]
    assert is_done(desk, requests=3)


@pytest.mark.parametrize(
    ("fault", "status"),
    [(Fault("status", status=503, retry_after="1"), 503), (Fault("reset"), 0), (Fault("html-200"), 200)],
    ids=["503", "reset", "page"],
)
def test_an_answer_that_is_no_file_leaves_what_is_held(
    desk: Desk, load: Load, fault: Fault, status: int
) -> None:
    """C13 C9: trouble of the server costs no byte that has come."""
    load(LINE)
    break_off(desk, bytes=HALF)
    desk.simulator.add_fault(fault)
    desk.worker.run()
    assert [got for got, _ in answers(desk)] == [200, status, 206]
    assert is_done(desk, requests=3)
    assert sent(desk) < 1.05 * len(CONTENTS)


@pytest.mark.parametrize("lapse", ["redirect-to-login", "login-page"])
def test_a_token_that_lapses_meanwhile_costs_no_byte(desk: Desk, load: Load, lapse: str) -> None:
    """C3 C13: the request for the rest is repeated with the new token."""
    load(LINE)
    break_off(desk)
    desk.simulator.add_fault(Fault(lapse, route="download"))
    desk.worker.run()
    (_, (_, refused), (status, repeated)) = answers(desk)
    assert (status, repeated) == (206, refused)
    assert is_done(desk, requests=2)


def test_wrong_bytes_are_thrown_away_and_the_file_comes_anew(desk: Desk, load: Load) -> None:
    """C13 I1: the md5 is taken over the whole, the earlier bytes too."""
    load(LINE)
    (partial,) = break_off(desk)
    torn = bytearray(partial.read_bytes())
    torn[1_000:5_000] = bytes(4_000)
    partial.write_bytes(torn)
    desk.clock.advance(60)
    desk.worker.turn()
    desk.worker.record()
    assert desk.tasks()[PATH].error_class == "checksum"
    assert not (desk.root / PATH).exists()
    assert parts(desk.store) == []
    desk.worker.run()
    assert [wanted is not None for _, wanted in answers(desk)] == [False, True, False]
    assert is_done(desk, requests=3)


@pytest.mark.parametrize("bytes_there", [len(CONTENTS), len(CONTENTS) - 1, 2, 1, 0])
def test_a_partial_of_any_length_becomes_the_file(desk: Desk, load: Load, bytes_there: int) -> None:
    """C13: one that is whole already, as after kill -9 just before publishing, costs one byte."""
    load(LINE)
    (partial,) = break_off(desk)
    partial.write_bytes(CONTENTS[:bytes_there])
    desk.simulator.clear_requests()
    desk.worker.run()
    wanted = rest_from(bytes_there) if bytes_there > OVERLAP_BYTES else None
    assert answers(desk) == [(206 if wanted else 200, wanted)]
    assert is_done(desk, requests=2)


# --- what is not kept


@pytest.mark.parametrize(
    ("simulator", "headers"),
    [({"gzip": True}, {}), ({"etag": False}, {"ETag": 'W/"weak"'})],
    ids=["encoded", "weak"],
)
def test_what_cannot_be_gone_on_with_is_not_kept(
    serve: Serve, load: Load, simulator: dict[str, Any], headers: dict[str, str]
) -> None:
    """C13: without a strong validator there is no partial, and no range is ever asked for."""
    desk = serve(**simulator)
    load(LINE)
    assert break_off(desk, headers=headers) == []
    desk.worker.run()
    assert answers(desk) == [(200, None), (200, None)]
    assert is_done(desk, requests=2)


def test_a_file_modified_a_moment_ago_has_no_strong_date(
    serve: Serve, load: Load, archive_root: Path
) -> None:
    """C13: it could change again within the second that its date names."""
    os.utime(archive_root / PATH)
    desk = serve(etag=False)
    load(LINE)
    assert break_off(desk) == []


def test_a_validator_too_long_for_a_name_is_not_kept(desk: Desk) -> None:
    """C13: such a body is streamed all the same, and fetched anew when it breaks off."""
    longest = '"' + "x" * 400 + '"'
    attempt(desk.store, longest)
    assert parts(desk.store) == []
    with desk.store.incoming(MD5, PATH) as incoming:
        incoming.begin(longest)
        incoming.write(CONTENTS)
        desk.store.publish(incoming.whole(None), [PATH])
    assert (desk.root / PATH).read_bytes() == CONTENTS
    assert parts(desk.store) == []


def test_what_was_left_before_a_round_is_found_in_it_without_looking_again(
    store: CacheStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C13: one look at the part files serves all files of a round."""
    attempt(store, TAG)
    (partial,) = parts(store)
    store.look_around()
    monkeypatch.setattr(os, "listdir", lambda _: pytest.fail("looked again"))
    with store.incoming("0" * 32, TWIN) as other, store.incoming(MD5, PATH) as incoming:
        other.write(CONTENTS)
        assert incoming.held is not None
        assert not partial.exists(), "it is another's now"


def test_trouble_with_the_disk_keeps_nothing(store: CacheStore) -> None:
    """S7: a full disk needs the space."""
    attempt(store, TAG, error=StorageError("The disk is full."))
    assert parts(store) == []


def test_a_partial_serves_only_the_path_that_it_came_from(desk: Desk, load: Load) -> None:
    """C13 M5: a validator says nothing about another URL; when the file is there, both beginnings go."""
    load(LINE, f"{MD5}  ./{TWIN}")
    (partial,) = break_off(desk)
    desk.simulator.add_fault(Fault("truncate", path=f"*/{TWIN}", bytes=3_000))
    desk.clock.advance(60)
    desk.worker.turn()
    desk.worker.record()
    assert partial in parts(desk.store)
    assert len(parts(desk.store)) == 2
    desk.worker.run()
    assert desk.gets() == [PATH, TWIN, PATH]
    assert [wanted is not None for _, wanted in answers(desk)] == [False, False, True]
    assert is_done(desk, requests=3)


# --- who goes on with it


def test_of_many_that_want_a_partial_exactly_one_gets_it(store: CacheStore) -> None:
    """C13 I3: the others begin anew, and none of them touches its bytes."""
    for _ in range(20):
        attempt(store, TAG)
        (partial,) = parts(store)
        barrier = threading.Barrier(8)
        held: list[int] = []

        def try_it(barrier: threading.Barrier = barrier, held: list[int] = held) -> None:
            barrier.wait()
            with suppress(InterruptedError), CacheStore(store.root).incoming(MD5, PATH) as incoming:
                held.append(incoming.held.size_bytes if incoming.held else 0)
                barrier.wait()
                raise InterruptedError

        threads = [threading.Thread(target=try_it) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(held) == [0] * 7 + [HALF - OVERLAP_BYTES]
        assert parts(store) == [partial]
        partial.unlink()


STREAM_ON_AND_ON = f"""
import sys, time
from pathlib import Path
from midasdl.cache import CacheStore
store = CacheStore(Path(sys.argv[1]))
with store.incoming("{MD5}", "{PATH}") as incoming:
    incoming.begin('{TAG}')
    incoming.write(b"x" * 5_000)
    print("ready", flush=True)
    time.sleep(120)
"""


def test_the_bytes_of_a_killed_process_are_gone_on_with_and_those_of_a_living_one_are_not(
    store: CacheStore,
) -> None:
    """I7 S2: name and bytes are one; kill -9 leaves nothing to put together."""
    process = subprocess.Popen(
        [sys.executable, "-c", STREAM_ON_AND_ON, str(store.root)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    try:
        with store.incoming(MD5, PATH) as ours:
            assert ours.held is None
        store.remove_stale_parts()
        store.remove_stale_partials(lambda _: (), time.time())
        assert len(parts(store)) == 1, "nobody removes what a living process writes"
    finally:
        process.kill()
        process.communicate()
    assert store.remove_stale_parts() == 0
    with store.incoming(MD5, PATH) as ours:
        assert ours.held is not None
        assert (ours.held.size_bytes, ours.held.validator) == (5_000 - OVERLAP_BYTES, TAG)
        assert ours.held.digest.hexdigest() == hashlib.md5(b"x" * (5_000 - OVERLAP_BYTES)).hexdigest()
    assert parts(store) == []


@pytest.mark.parametrize(
    "name",
    [
        f"{MD5}~.part",
        f"{MD5}~0~%22tag%22",
        f"{MD5}~~~~.part",
        f"a~b~c~d~{MD5}~0~%22.part",
        f"{MD5}~00000000~%22tag%22.part",
        f"h~1~0~0~{'0' * 32}~0~%22tag%22.part",
    ],
)
def test_a_foreign_or_torn_name_means_starting_anew(store: CacheStore, name: str) -> None:
    """I1: whatever lies in the folder, it is never taken for the beginning of another file."""
    stray = store.root / ".midasdl/parts" / name
    stray.write_bytes(b"stray")
    assert attempt(store) is None
    assert stray.read_bytes() == b"stray"


@pytest.mark.parametrize("validator", [TAG, '"~/../%7e*?[x]"', "Sun, 24 Mar 2024 12:00:00 GMT", '""'])
def test_a_name_says_all_that_was_said_to_it(validator: str) -> None:
    """C13: owner, number, md5, path and validator come back as they were."""
    for owner in (None, ProcessIdentity("host-1", 4711, "0af3:99")):
        name = PartName(owner, 7 if owner else 0, Beginning(MD5, "0f0f0f0f", validator))
        assert "/" not in name.text()
        assert read_name(name.text()) == name


# --- what nobody wants any more


@pytest.mark.parametrize(
    ("is_free", "age_s", "not_done", "stale"),
    [
        (True, 60.0, {MD5}, False),
        (True, 60.0, set(), True),
        (False, 60.0, set(), False),
        (True, KEPT_FOR_S + 1, {MD5}, True),
        (False, KEPT_FOR_S + 1, {MD5}, True),
        (True, -60.0, {MD5}, False),
    ],
    ids=["wanted", "not-wanted", "in-use", "old", "of-a-machine-long-gone", "from-the-future"],
)
def test_a_partial_is_stale_when_its_task_is_done_or_gone_or_it_is_old(
    is_free: bool, age_s: float, not_done: set[str], stale: bool
) -> None:
    """S7: a decision of four facts."""
    assert is_stale(MD5, is_free, age_s, not_done) is stale


def test_a_run_begins_by_removing_the_partials_of_done_and_forgotten_tasks(
    ledger: Ledger, load: Load, store: CacheStore
) -> None:
    """S7 C13: those of pending and failed tasks stay."""
    md5s = {state: hashlib.md5(state.encode()).hexdigest() for state in ("pending", "failed", "done", "gone")}
    load(*(f"{md5}  ./data/{state}.csv" for state, md5 in md5s.items() if state != "gone"))
    with ledger.write() as connection:
        for state in ("failed", "done"):
            connection.exec_driver_sql(
                "UPDATE task SET state = ?, finished_at = 1 WHERE md5 = ?", (state, md5s[state])
            )
    for md5 in md5s.values():
        attempt(store, TAG, md5)
    for partial in parts(store):
        os.utime(partial, (ledger.clock.now_us() / 1e6,) * 2)

    Job(ledger, Settings()).prepare()

    left = {str(read_name(each.name).beginning.md5) for each in parts(store)}  # type: ignore[union-attr]
    assert left == {md5s["pending"], md5s["failed"]}
