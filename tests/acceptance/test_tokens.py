"""C2 C3: tokens that end, are revoked or refused, and accounts that are not accepted, seen from the whole run."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from math import ceil
from pathlib import Path

import psutil
import pytest

from midasdl.simulator import Account, Fault
from tests.acceptance.conftest import JobOnTrial
from tests.conftest import Archive
from tests.support.background import eventually, started
from tests.support.promptness import CROWDED_END_S
from tests.support.soaks import in_soaks

LIFE_S = 10
LICENCE_PAGE = "https://catalogue.ceda.ac.uk/"
TOKEN_PAGE = "https://services.ceda.ac.uk/account/token/"
JobOn = Callable[..., JobOnTrial]


def eager(job: JobOnTrial, **more: object) -> JobOnTrial:
    """Eight workers, and waits that are fractions of a second."""
    settings = {"workers__count": 8, "ceda_client__backoff__base_backoff_ms": 10, **more}
    return job.with_settings(**settings)


def token_requests(job: JobOnTrial) -> list[int]:
    """The answers of the token service."""
    return [record.status for record in job.simulator.requests if record.route == "token"]


def states(job: JobOnTrial) -> dict[str, int]:
    return dict(job.rows("SELECT state, count(*) FROM task GROUP BY state"))


def ends(process: subprocess.Popen[str], within_s: float = 120.0) -> tuple[int, str]:
    """Exit code and stderr."""
    _, errors = process.communicate(timeout=within_s)
    return process.returncode, errors


# --- tokens that end


def lasting(job_on: JobOn, archive: Archive, life_s: float = LIFE_S) -> JobOnTrial:
    """Short-lived tokens, and a spacing by which the archive lasts for six of their lives at least."""
    spacing_ms = int(6_000 * life_s / archive.distinct)
    return job_on(archive, token_lifetime_s=life_s).with_settings(
        workers__count=8,
        ceda_client__min_request_spacing_ms=spacing_ms,
        ceda_client__max_concurrent_requests=8,
    )


def run_at_once(*jobs: JobOnTrial) -> None:
    """Start a run of each at the same time; all must succeed."""
    with ExitStack() as stack:
        processes = [stack.enter_context(started(job.command, "run")) for job in jobs]
        codes = [ends(process, 240) for process in processes]
    assert [code for code, _ in codes] == [0] * len(jobs), codes


def assert_one_mint_for_each_end(job: JobOnTrial, life_s: float = LIFE_S) -> None:
    mints = token_requests(job)
    requests = job.simulator.requests
    expiries = ceil((requests[-1].ended - requests[0].started) / life_s)
    assert set(mints) == {200}
    assert 5 <= len(mints) <= expiries + 1


@pytest.mark.slow
@pytest.mark.parametrize("runs", [in_soaks(1), 2], ids=["one-run", "two-runs"])
def test_tokens_of_ten_seconds_are_renewed_once_each_and_cost_no_file(
    job_on: JobOn, small_archive: Archive, runs: int
) -> None:
    """C2 C3 W5: a minute, eight workers a run; no file fails, and each token that ends costs one mint."""
    job = lasting(job_on, small_archive)
    job.init()

    run_at_once(*[job] * runs)

    assert job.is_complete
    assert states(job) == {"done": small_archive.distinct}
    assert_one_mint_for_each_end(job)


@pytest.mark.soak
def test_runs_on_two_ledgers_share_the_tokens_of_their_account(job_on: JobOn, small_archive: Archive) -> None:
    """C2: the cache belongs to the user and not to the ledger, so that runs do not revoke each other's tokens."""
    job = lasting(job_on, small_archive, life_s=3)
    other = JobOnTrial(
        job.command.with_environment(MIDASDL_LEDGER="other.db"), job.simulator, small_archive.manifest
    )
    job.init()
    other.command("init", str(small_archive.manifest), "--dest", "other-root")

    run_at_once(job, other)

    assert job.is_complete
    assert states(job) == {"done": small_archive.distinct}
    assert_one_mint_for_each_end(job, life_s=3)


@pytest.mark.parametrize("action", ["revoke-tokens", "expire-token", "login-page", "redirect-to-login"])
def test_a_token_that_somebody_else_revokes_costs_one_mint(
    job_on: JobOn, small_archive: Archive, action: str
) -> None:
    """C2 C3: in the middle of a run of eight workers; no file fails and none loses an attempt."""
    fault = Fault(action, route="download", after=30)
    job = eager(job_on(small_archive, faults=[fault], first_byte_delay_s=0.02))
    job.init()

    job.command("run")

    assert job.is_complete
    assert token_requests(job) == [200, 200]
    assert job.rows("SELECT DISTINCT attempts FROM task") == [(1,)]


def test_a_process_that_dies_while_it_asks_for_a_token_holds_up_nobody(
    job_on: JobOn, small_archive: Archive
) -> None:
    """C2 C6 I7: kill -9 of the holder of the lock; the others get a token and finish the work."""
    faults = [
        Fault("revoke-tokens", route="download", after=30),
        Fault("delay", route="token", after=1, seconds=3),
    ]
    job = eager(job_on(small_archive, faults=faults, first_byte_delay_s=0.02))
    job.init()
    with started(job.command, "run") as process:
        holder = eventually(lambda: holder_of_the_lock(job, process.pid))
        holder.kill()
        code, errors = ends(process)

    assert code == 0, errors
    assert job.is_complete
    assert len(token_requests(job)) <= 3
    assert job.one("SELECT count(*) FROM worker WHERE state = 'dead'") >= 1


def holder_of_the_lock(job: JobOnTrial, coordinator: int) -> psutil.Process | None:
    """The worker that has the lock file open again and again, where others have it only for moments."""
    if len(job.downloads) < 30:
        return None
    with suppress(psutil.NoSuchProcess):
        for worker in psutil.Process(coordinator).children(recursive=True):
            if all(_has_lock_open(worker) for _ in range(10)):
                return worker
    return None


def _has_lock_open(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return any(Path(file.path).suffix == ".lock" for file in process.open_files())
    return False


# --- a token of the user's


def test_a_token_of_the_users_that_ends_stops_the_run_and_is_not_replaced(
    job_on: JobOn, small_archive: Archive
) -> None:
    """C2 C3: exit 3 and why, though there is a password; what is done stays done, the rest is pending."""
    job = eager(job_on(small_archive, token_lifetime_s=12), ceda_client__min_request_spacing_ms=250)
    job.init()
    given = job.command.with_environment(CEDA_TOKEN=job.simulator.mint_token())

    ended = given("run", code=3)

    assert "CEDA_TOKEN" in ended.err
    assert "it has expired, on 20" in ended.err
    assert "midasdl auth setup" in ended.err
    counts = states(job)
    assert set(counts) == {"done", "pending"}
    assert 1 < counts["done"] < small_archive.distinct
    assert token_requests(job) == []
    eager(job).with_settings(ceda_client__min_request_spacing_ms=5).command("resume")
    assert job.is_complete


# --- accounts that are not accepted

ACCOUNTS = {
    "wrong-password": (Account(password="another"), "does not accept the password", [401]),
    "not-set-up": (Account(state="not-set-up"), "is not set up", [400]),
    "disabled": (Account(state="disabled"), "is disabled", [400]),
    "no-stored-token": (Account(state="no-stored-token"), TOKEN_PAGE, [500] * 4),
    "licence": (Account(licence_missing=True), LICENCE_PAGE, [200]),
    "licence-redirect": (Account(licence_missing=True, licence_redirect=True), LICENCE_PAGE, [200]),
}


@pytest.mark.parametrize(("account", "words", "answers"), ACCOUNTS.values(), ids=ACCOUNTS)
def test_an_account_that_is_not_accepted_stops_the_run_with_every_task_kept(
    job_on: JobOn, small_archive: Archive, account: Account, words: str, answers: list[int]
) -> None:
    """C3: exit 3, the cause and its cure, one request for a token (a 500 is tried three times more)."""
    job = eager(job_on(small_archive, account=account))
    job.init()

    ended = job.command("run", code=3)

    assert words in ended.err
    assert states(job) == {"pending": small_archive.distinct}
    assert token_requests(job) == answers
    assert len(job.downloads) <= 8 * 10


def test_after_the_cure_the_run_goes_on_at_once(job_on: JobOn, small_archive: Archive) -> None:
    """C3: what CEDA refused a moment ago is no answer to who asks again."""
    account = Account(password="another", licence_missing=True)
    job = eager(job_on(small_archive, account=account))
    job.init()

    job.command("run", code=3)
    account.password = "rain-or-shine"
    job.command("run", code=3)
    account.licence_missing = False
    job.command("resume")

    assert token_requests(job) == [401, 200]
    assert job.is_complete


def test_a_password_that_changes_during_a_run_is_tried_once(job_on: JobOn, small_archive: Archive) -> None:
    """C2 C3: eight workers find the token revoked and the password wrong; one asks, no file fails."""
    revoked = Fault("revoke-tokens", route="download", after=30)
    job = eager(job_on(small_archive, faults=[revoked], first_byte_delay_s=0.02))
    job.init()
    job.command("auth", "verify")
    job.simulator.account.password = "changed"

    ended = job.command("run", code=3)

    assert "does not accept the password" in ended.err
    assert token_requests(job) == [200, 401]
    assert set(states(job)) == {"done", "pending"}
    job.command.with_environment(CEDA_PASSWORD="changed")("resume")
    assert token_requests(job) == [200, 401, 200]
    assert job.is_complete


@pytest.mark.parametrize("which", ["first", "last"])
def test_a_licence_that_is_missing_for_one_file_fails_that_file(job: JobOnTrial, which: str) -> None:
    """C3 C9: the others come, also where the forbidden one is the first that is asked for."""
    job.init()
    order = "min" if which == "first" else "max"
    path = job.one(
        f"SELECT path FROM destination WHERE task_id = (SELECT {order}(task_id) FROM destination) LIMIT 1"
    )
    job.simulator.add_fault(Fault("status", status=403, path=f"*{path}", times=None))

    eager(job).command("run", "--workers", "2", code=1)

    total = job.one("SELECT count(*) FROM task")
    assert states(job) == {"done": total - 1, "failed": 1}
    assert job.rows("SELECT error_class FROM task WHERE state = 'failed'") == [("forbidden",)]


# --- a token service in trouble


def test_a_token_service_that_is_away_for_a_while_costs_a_wait(job_on: JobOn, small_archive: Archive) -> None:
    """C3 P2: 504, then a page, then a broken connection; the person who waits is told, and all files come."""
    faults = [
        Fault("status", status=504, route="token"),
        Fault("html-200", route="token"),
        Fault("reset", route="token"),
    ]
    job = eager(job_on(small_archive, faults=faults))
    job.init()

    ended = job.command("run")

    assert job.is_complete
    assert token_requests(job) == [504, 200, 0, 200]
    assert ended.err.count("It is asked again in") == 3
    assert "CEDA's token service answered 504 without a token." in ended.err


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault("status", status=503, retry_after="600", route="token"), "asked to wait for 600 s"),
        (Fault("stall", seconds=120, route="token"), None),
    ],
    ids=["asked-to-wait", "silent"],
)
def test_a_run_that_waits_for_a_token_says_why_and_can_be_stopped(
    job_on: JobOn, small_archive: Archive, fault: Fault, reason: str | None
) -> None:
    """C3 W4 P6: `status` has the reason; Ctrl-C ends the run within 5 s, with every task pending."""
    job = eager(job_on(small_archive, faults=[fault]))
    job.init()
    with started(job.command, "run") as process:
        eventually(lambda: job.rows("SELECT 1 FROM worker WHERE name = 'sign-in'"))
        if reason is not None:
            assert eventually(lambda: reason in job.command("status").out)
        time.sleep(0.5)
        began_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        code, errors = ends(process)

    assert time.monotonic() - began_s < CROWDED_END_S
    assert code == 130, errors
    assert "Traceback" not in errors
    assert states(job) == {"pending": small_archive.distinct}
    assert job.one("SELECT count(*) FROM permit") == 0


def test_a_process_that_waits_for_its_token_vouches_for_itself(job_on: JobOn, small_archive: Archive) -> None:
    """C3 W3: nobody takes it for dead, however long it waits."""
    silent = Fault("status", status=503, retry_after="600", route="token")
    job = job_on(small_archive, faults=[silent])
    job.init()
    query = "SELECT heartbeat_at FROM worker WHERE name = 'sign-in'"
    with started(job.command, "run"):
        first = eventually(lambda: job.rows(query))

        assert eventually(lambda: job.rows(query) > first, within_s=30)


def test_c3_files_that_stay_forbidden_fail_and_stop_nobody(
    job_on: Callable[..., JobOnTrial], small_archive: Archive
) -> None:
    """C3: others have come before, and nothing else is left: it is these files' licence, not the account's."""
    job = job_on(small_archive)
    path = job.lone_path()
    job.init()
    job.simulator.add_fault(Fault("status", status=403, path=f"*{path}", times=None))
    job.command("run", code=1)
    job.command("retry", "--class", "forbidden")

    told = job.command("run", code=1).out

    assert "1 x forbidden: accept the dataset's licence" in told
    assert job.rows("SELECT state, error_class FROM task WHERE state <> 'done'") == [("failed", "forbidden")]


def test_c3_a_licence_that_nobody_has_yet_stops_a_run_though_all_files_have_been_tried(
    job_on: Callable[..., JobOnTrial], small_archive: Archive
) -> None:
    """C3: nothing has ever come: it is the account's licence, and every task is kept."""
    job = job_on(small_archive, account=Account(licence_missing=True))
    few = job.folder / "few.txt"
    few.write_text("".join(f"{md5}  ./{path}\n" for md5, path in small_archive.lines[:2]))
    job.command("init", str(few), "--dest", "data-root")
    job.command("run", code=3)
    assert set(states(job)) == {"pending"}


def test_c3_a_licence_that_has_lapsed_stops_a_run_and_fails_no_file(
    job_on: Callable[..., JobOnTrial], small_archive: Archive
) -> None:
    """C3: files came before, and most of those that are left have not been tried: each would cost a request."""
    account = Account()
    job = job_on(small_archive, account=account)
    job.init()
    job.command("run", "--limit", "20", code=1)
    account.licence_missing = True
    ended = job.command("run", "--workers", "2", code=3)
    assert "a licence is missing" in ended.err
    assert set(states(job)) == {"done", "pending"}
