"""C3 C6 C8 C9 C12 C13 I1: what each fault of the server costs, and what the user reads of it.

Every row is a job of three files: one is well, one meets the fault once, one meets it each time.
"""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from midasdl.simulator import Fault, Simulator
from tests.acceptance.conftest import JobOnTrial
from tests.conftest import Archive
from tests.support.tls import Authority

WELL, ONCE, EVER = FILES = ("data/well.csv", "data/once.csv", "data/ever.csv")
MAX_RETRIES = 2
FIRST_PAUSE_S = 0.2
"""20 times the base backoff: how long a server is left alone that asks for patience without saying how much."""


class Cost(NamedTuple):
    """What became of a file.

    Attributes
    ----------
    requests : int
        That the server saw.
    attempts : int
        That counted.
    state : str
        At the end.
    troubles : int
        How often the ledger says that something went wrong.
    """

    requests: int
    attempts: int
    state: str
    troubles: int


LIVES = Cost(1, 1, "done", 0)
AGAIN = Cost(2, 2, "done", 1)
WAITED = Cost(2, 1, "done", 1)
RENEWED = Cost(2, 1, "done", 0)
GIVEN_UP = Cost(3, 3, "failed", 3)
AT_ONCE = Cost(1, 1, "failed", 1)
KEPT = Cost(2, 0, "pending", 1)


class Row(NamedTuple):
    """One line of the table.

    Attributes
    ----------
    fault : dict
        As for `Fault`.
    reason : str
        In the ledger, each time that something went wrong: the error class, or that the worker stopped.
    once, ever : Cost
        Of the file that meets the fault once, and of the one that meets it each time, or `lasts` times.
    code : int
        Exit code of the run.
    words : tuple of str
        What the user reads.
    pause_s : float
        For so long at least nobody sends after the fault.
    """

    fault: dict[str, Any]
    reason: str
    once: Cost
    ever: Cost
    code: int
    words: tuple[str, ...] = ()
    pause_s: float = 0.0
    lasts: int | None = None


def status(code: int, retry_after: str | None = None, location: str | None = None) -> dict[str, Any]:
    headers = {"Location": location} if location else {}
    return {"action": "status", "status": code, "retry_after": retry_after, "headers": headers}


def fails(fault: dict[str, Any], error_class: str, *words: str, pause_s: float = 0.0) -> Row:
    """It is tried again, and fails in the end."""
    return Row(fault, error_class, AGAIN, GIVEN_UP, 1, words, pause_s)


def fails_at_once(fault: dict[str, Any], error_class: str, *words: str) -> Row:
    """It does not get better by asking again."""
    return Row(fault, error_class, AT_ONCE, AT_ONCE, 1, words)


def stops(fault: dict[str, Any], *words: str) -> Row:
    """The token is replaced once; then the run stops, and no file fails."""
    return Row(fault, "stopped", RENEWED, KEPT, 3, ("does not accept", *words))


def waits(retry_after: str | None, pause_s: float) -> Row:
    """It costs time and no attempt."""
    ever = Cost(3, 1, "done", 2)
    return Row(status(429, retry_after), "throttled", WAITED, ever, 0, (), pause_s, lasts=2)


def lives(**fault: Any) -> Row:
    """It is no trouble."""
    return Row(fault, "", LIVES, LIVES, 0)


LICENCE = ("accept the dataset's licence", "https://catalogue.ceda.ac.uk/", "midasdl retry --class forbidden")
STAGED = ("the release may not be complete at CEDA yet", "no such file")
OVERLOADED = ("CEDA was overloaded", "overloaded or down for the moment")
OWN_ERROR = ("CEDA had errors of its own", "it had an error of its own")
SIGN_IN = "https://auth.ceda.ac.uk/account/signin/?r=https%3A//dap.ceda.ac.uk/x.csv"
FORBIDDEN = "https://data.ceda.ac.uk/badc/ukmo-midas-open/data?forbidden"

TABLE = {
    "reset": fails({"action": "reset"}, "connection", "check this machine's network"),
    "close": fails({"action": "close"}, "connection", "check this machine's network"),
    "truncated": fails({"action": "truncate"}, "incomplete", "the connection broke", "did not arrive whole"),
    "short": fails({"action": "short"}, "checksum", "differs from the manifest", "CEDA sent 20 bytes"),
    "wrong-bytes": fails({"action": "corrupt"}, "checksum", "differs from the manifest", "sent 40 bytes"),
    "stall": fails({"action": "stall", "bytes": 9, "seconds": 60}, "timeout", "CEDA was slow", "in time"),
    "drip": lives(action="drip", bytes=25, seconds=0.1),
    "gzip-unasked": lives(action="gzip"),
    "chunked": lives(action="chunked"),
    "page-200": fails({"action": "html-200"}, "unexpected-page", "a page instead of the file", "a web page"),
    "login-200": stops({"action": "login-page"}, "login page instead of the file"),
    "302-to-sign-in": stops({"action": "redirect-to-login"}, "CEDA asks to sign in"),
    "302-to-sign-in-elsewhere": stops(status(302, location=SIGN_IN), "CEDA asks to sign in"),
    "302-elsewhere": fails(
        status(302, location="https://cdn.example.org/x.csv?key=s3cret"),
        "unexpected-page",
        "redirects to https://cdn.example.org/x.csv, which is not followed",
    ),
    "302-to-nowhere": fails(status(302), "unexpected-page", "redirects to nowhere"),
    "302-forbidden": fails_at_once(status(302, location=FORBIDDEN), "forbidden", *LICENCE),
    "400": fails_at_once(status(400), "rejected", "does not accept the request"),
    "401": stops(status(401), "CEDA answered 401: the token is not accepted"),
    "403": fails_at_once(status(403), "forbidden", *LICENCE),
    "404": fails_at_once(status(404), "not-found", *STAGED),
    "410": fails_at_once(status(410), "not-found", *STAGED),
    "429": waits(None, FIRST_PAUSE_S),
    "429-one-second": waits("1", 1.0),
    "429-no-seconds": waits("0", FIRST_PAUSE_S),
    "429-date-in-the-past": waits("Wed, 21 Oct 2015 07:28:00 GMT", FIRST_PAUSE_S),
    "429-garbage": waits("soon; very", FIRST_PAUSE_S),
    "500": fails(status(500), "server-error", "CEDA answered 500", *OWN_ERROR),
    "502": fails(status(502), "unavailable", "CEDA answered 502", *OVERLOADED),
    "503": fails(status(503), "unavailable", "CEDA answered 503", *OVERLOADED, pause_s=FIRST_PAUSE_S),
    "503-one-second": fails(status(503, "1"), "unavailable", *OVERLOADED, pause_s=1.0),
    "504": fails(status(504), "unavailable", "CEDA answered 504", *OVERLOADED),
    "520": fails(status(520), "server-error", "CEDA answered 520", *OWN_ERROR),
}


@pytest.fixture(scope="session")
def three_files(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Three files of 40 bytes."""
    root = tmp_path_factory.mktemp("three-files")
    (root / "data").mkdir()
    for path in FILES:
        (root / path).write_bytes(f"{path:.<39}\n".encode())
    manifest = root / "manifest.txt"
    manifest.write_text("".join(f"{md5_of(root / path)}  ./{path}\n" for path in FILES))
    return Archive(root, manifest)


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def three(job_on: Callable[..., JobOnTrial], three_files: Archive) -> JobOnTrial:
    """A job of three files and one worker, loaded, with waits of fractions of a second."""
    job = job_on(three_files).with_settings(
        workers__count=1,
        ceda_client__request_timeout_seconds=1.5,
        ceda_client__backoff__max_retries=MAX_RETRIES,
        ceda_client__backoff__base_backoff_ms=10,
        ceda_client__backoff__jitter_factor=0,
    )
    job.init()
    return job


def cost_of(job: JobOnTrial, path: str) -> Cost:
    requests = sum(record.path.endswith(path) for record in job.downloads)
    [(attempts, state)] = job.rows(f"SELECT attempts, state FROM downloads WHERE path = '{path}'")
    return Cost(requests, attempts, state, len(reasons(job, path)))


def reasons(job: JobOnTrial, path: str) -> list[str]:
    """What went wrong with a file, time after time."""
    moves = job.rows(
        "SELECT reason FROM history JOIN destination USING (task_id)"
        f" WHERE path = '{path}' AND from_state = 'in_progress' AND to_state <> 'done' ORDER BY seq"
    )
    return [reason for (reason,) in moves]


def failures_read(job: JobOnTrial) -> dict[str, dict[str, Any]]:
    """Each path that failed, as a user asks for them."""
    told = job.command("sql", "SELECT * FROM failures", "--format", "json").out
    return {row["path"]: row for row in map(json.loads, told.splitlines())}


def pauses(job: JobOnTrial) -> list[float]:
    """Seconds from the start of each request that a fault hit to that of the next one."""
    pairs = zip(job.downloads, job.downloads[1:], strict=False)
    return [after.started - before.started for before, after in pairs if before.fault]


def right_files(job: JobOnTrial) -> set[str]:
    """What stands under a final name; each must be right."""
    root = job.folder / "data-root"
    found = {str(path.relative_to(root)) for path in (root / "data").rglob("*") if path.is_file()}
    archive = job.manifest.parent
    assert all((root / path).read_bytes() == (archive / path).read_bytes() for path in found)
    return found


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE.keys())
def test_each_fault_costs_what_the_table_says(three: JobOnTrial, row: Row) -> None:
    """C3 C6 C8 C9 C12 C13 I1: class, requests, attempts, state, exit code and words; no other file suffers."""
    three.simulator.add_fault(Fault(path=f"*/{ONCE}", times=1, **row.fault))
    three.simulator.add_fault(Fault(path=f"*/{EVER}", times=row.lasts, **row.fault))

    ended = three.command("run", code=row.code)

    became = {path: cost_of(three, path) for path in FILES}
    assert became == {WELL: LIVES, ONCE: row.once, EVER: row.ever}
    assert {reason for path in FILES for reason in reasons(three, path)} <= {row.reason}
    assert [word for word in row.words if word not in ended.out + ended.err] == []
    assert "s3cret" not in ended.out + ended.err
    assert min(pauses(three), default=row.pause_s) >= 0.98 * row.pause_s
    assert right_files(three) == {path for path in FILES if became[path].state == "done"}
    failed = {path: became[path].attempts for path in FILES if became[path].state == "failed"}
    told = failures_read(three) if failed else {}
    assert {path: row["attempts"] for path, row in told.items()} == failed
    assert all(failure["class"] == row.reason for failure in told.values())
    assert all(told[path]["message"] in ended.out for path in list(failed)[:1])


def test_a_date_in_retry_after_is_kept_to_the_second(three: JobOnTrial) -> None:
    """C6: nobody sends before it."""
    date_s = int(time.time()) + 5
    too_many = status(429, formatdate(date_s, usegmt=True))
    three.simulator.add_fault(Fault(path=f"*/{ONCE}", **too_many))

    three.command("run")

    refused = next(record for record in three.downloads if record.fault)
    after = [record for record in three.downloads if record.number > refused.number]
    assert min(record.started for record in after) >= date_s
    assert cost_of(three, ONCE) == WAITED


def test_a_huge_retry_after_is_an_hour_and_says_so(three: JobOnTrial) -> None:
    """C6: nobody sends meanwhile, the run can be stopped, and nothing has failed."""
    three.simulator.add_fault(Fault(path=f"*/{ONCE}", times=None, **status(429, "99999999999")))
    run = three.command.start("run")
    while not (until_us := paused_until_us(three)):
        time.sleep(0.05)
    ahead_s = until_us / 1e6 - time.time()
    told = three.command("status").out
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=30)

    assert 3_500 < ahead_s <= 3_600
    assert "asked to wait for 3600 s" in told
    assert run.returncode == 130
    assert [cost_of(three, path).requests for path in FILES] == [1, 1, 0]
    assert three.rows("SELECT count(*) FROM failures") == [(0,)]


def paused_until_us(job: JobOnTrial) -> int:
    return int(job.one("SELECT coalesce(max(paused_until), 0) FROM politeness"))


def test_a_server_that_only_says_429_ends_the_run_after_its_patience(three: JobOnTrial) -> None:
    """C6 W6: exit 5, and no file has lost an attempt."""
    three.simulator.add_fault(Fault(route="download", times=None, **status(429)))

    ended = three.command.with_environment(MIDASDL_RUN__SERVER_PATIENCE_SECONDS="1")("run", code=5)

    assert "refused every request" in ended.err
    assert "midasdl resume" in ended.err
    assert three.rows("SELECT DISTINCT state, attempts FROM task") == [("pending", 0)]
    assert 2 <= len(three.downloads) <= 6


UNRESOLVABLE = """
import socket

resolve = socket.getaddrinfo


def getaddrinfo(host, *rest, **more):
    if host in ("127.0.0.1", "localhost", None):
        return resolve(host, *rest, **more)
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


socket.getaddrinfo = getaddrinfo
"""


def refused(job: JobOnTrial) -> JobOnTrial:
    """Nobody listens any more."""
    job.simulator.stop()
    return job


def not_resolved(job: JobOnTrial) -> JobOnTrial:
    """The archive's host has no address; the question does not leave the process."""
    (job.folder / "site").mkdir()
    (job.folder / "site" / "sitecustomize.py").write_text(UNRESOLVABLE)
    command = job.command.with_environment(
        PYTHONPATH=str(job.folder / "site"),
        NO_PROXY="127.0.0.1,localhost,dap.ceda.invalid",
        MIDASDL_CEDA__ARCHIVE_URL="https://dap.ceda.invalid/badc/ukmo-midas-open",
    )
    return JobOnTrial(command, job.simulator, job.manifest)


@pytest.mark.parametrize(
    ("cut_off", "words"),
    [(refused, "Connection refused"), (not_resolved, "Name or service not known")],
    ids=["connection-refused", "name-not-resolved"],
)
def test_a_server_that_cannot_be_reached_costs_three_attempts_and_says_why(
    three: JobOnTrial, cut_off: Callable[[JobOnTrial], JobOnTrial], words: str
) -> None:
    """C8 C9: as long as the breaker is closed, each file is tried as often as the settings say."""
    patient = three.with_settings(circuit_breaker__failure_threshold=100)
    patient.command("auth", "verify")
    cut = cut_off(patient)
    seen = len(three.downloads)

    ended = cut.command("run", code=1)

    assert "3 x connection: check this machine's network, then try again" in ended.out
    assert words in ended.out
    assert {(row["class"], row["attempts"]) for row in failures_read(cut).values()} == {("connection", 3)}
    assert len(failures_read(cut)) == 3
    assert len(three.downloads) == seen, "no request for a file reached the server"


def test_a_certificate_that_cannot_be_trusted_stops_the_run_before_anything_is_sent(
    three: JobOnTrial, three_files: Archive
) -> None:
    """C4 C9: exit 5, no request for a file, every task still pending, and the option that helps."""
    three.command("auth", "verify")
    stranger = Authority.found(three.folder / "stranger.pem")
    with Simulator(three_files.root, tls=stranger.server()) as untrusted:
        ended = three.command.with_environment(MIDASDL_CEDA__ARCHIVE_URL=untrusted.archive_url)("run", code=5)

        assert "cannot be trusted" in ended.err
        assert "--ca-bundle FILE" in ended.err
        assert untrusted.requests == []
    assert three.rows("SELECT DISTINCT state, attempts FROM task") == [("pending", 0)]


@pytest.mark.parametrize("fault", [status(403), status(302, location=FORBIDDEN)], ids=["403", "302"])
def test_a_licence_that_is_missing_for_every_file_stops_the_run(
    three: JobOnTrial, fault: dict[str, Any]
) -> None:
    """C3: exit 3 with the page of the licence; as long as no file has come, none has failed."""
    three.simulator.add_fault(Fault(route="download", times=None, **fault))

    ended = three.command("run", code=3)

    assert "a licence is missing" in ended.err
    assert "https://catalogue.ceda.ac.uk/" in ended.err
    assert three.rows("SELECT DISTINCT state, attempts FROM task") == [("pending", 0)]
    assert sum(record.route == "token" for record in three.simulator.requests) == 1
