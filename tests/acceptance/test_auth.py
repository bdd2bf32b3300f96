"""C1, C3: `midasdl auth` obtains, checks, shows and forgets credentials, and says precisely what is wrong."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import requests
from requests.auth import HTTPBasicAuth

from midasdl.simulator import Account, Fault, Simulator, TokenShape, gaps
from midasdl.simulator.accounts import write_jwt
from tests.conftest import ACCOUNT, Archive
from tests.support.command import Command, Ended
from tests.support.inside import run_inside
from tests.support.terminal import converse

PASSWORD = "Kühn & 'schräg' # $HOME ${x} \\"
ACCOUNT_LINES = f"Researcher-7\n{PASSWORD}\n".encode()
LICENCE = "https://catalogue.ceda.ac.uk/"
TOKEN_PAGE = "https://services.ceda.ac.uk/account/token/"
EXPIRED = write_jwt({"exp": 1_700_000_000, "preferred_username": "researcher"}, b"key")


class Office:
    """A simulator with one account, and the command in a folder without credentials.

    Attributes
    ----------
    is_quick : bool
        Run the command inside this process: for tables of cases, of which some are run as a user does as well.
    """

    def __init__(self, command: Command, simulator: Simulator) -> None:
        self.is_quick = False
        self.simulator = simulator
        quick = command.with_settings(ceda_client__backoff__base_backoff_ms=10)
        self.command = quick.without(*ACCOUNT).with_environment(**simulator.environment())
        self.dotenv = command.folder / ".env"

    def auth(self, *words: str, code: int = 0, stdin: bytes = b"", **environment: str) -> Ended:
        command = self.command.with_environment(**environment)
        run = partial(run_inside, command) if self.is_quick else command
        return run("auth", *words, code=code, stdin=stdin)

    def setup(self, *words: str, code: int = 0, stdin: bytes = ACCOUNT_LINES) -> Ended:
        return self.auth("setup", *words, code=code, stdin=stdin)

    @property
    def cached(self) -> list[Path]:
        return sorted((self.command.folder / "cache").rglob("token-*.json"))

    @property
    def asked(self) -> list[tuple[str, int | None]]:
        return [(record.route, record.status) for record in self.simulator.requests]


@pytest.fixture
def office_of(command: Command, small_archive: Archive) -> Iterator[Callable[..., Office]]:
    running: list[Simulator] = []

    def make(token_lifetime_s: float = 259_200.0, **account: object) -> Office:
        who = Account(**{"username": "Researcher-7", "password": PASSWORD, **account})  # type: ignore[arg-type]
        simulator = Simulator(small_archive.root, account=who, token_lifetime_s=token_lifetime_s)
        running.append(simulator.start())
        return Office(command, simulator)

    yield make
    for simulator in running:
        simulator.stop()


@pytest.fixture
def office(office_of: Callable[..., Office]) -> Office:
    return office_of()


@pytest.fixture
def quick_office(office: Office) -> Office:
    office.is_quick = True
    return office


# --- setup


def test_c1_setup_tries_the_account_and_stores_it_privately(office: Office) -> None:
    """One token, one GET; a run then needs neither questions nor another token."""
    told = office.setup()

    assert office.asked == [("token", 200), ("download", 200)]
    assert office.simulator.requests[1].path.endswith("/TOKEN_CHECK")
    assert stat.S_IMODE(office.dotenv.stat().st_mode) == 0o600
    assert "accepts the account Researcher-7" in told.out
    assert PASSWORD not in told.out + told.err
    office.auth("verify")
    assert [route for route, _ in office.asked] == ["token", "download", "download"]


def test_c1_what_setup_stored_is_what_a_run_uses(office: Office, small_archive: Archive) -> None:
    """The whole way: a password full of special characters, through `.env`, into a finished run."""
    office.setup()
    office.command("init", str(small_archive.manifest), "--kind", "change-log")

    office.command("run", "--workers", "1")

    assert {record.status for record in office.simulator.requests} == {200}
    assert [record.route for record in office.simulator.requests].count("token") == 1


@pytest.mark.parametrize(
    ("account", "status", "words"),
    [
        ({"password": "another"}, 401, ["does not accept the password", "'Researcher-7'"]),
        ({"username": "researcher-7"}, 401, ["does not accept the password", "capital letters count"]),
        ({"state": "not-set-up"}, 400, ["is not set up or is disabled", "Complete the account"]),
        ({"state": "disabled"}, 400, ["is not set up or is disabled"]),
        ({"state": "no-stored-token"}, 500, ["until an account has had its first token", TOKEN_PAGE]),
    ],
    ids=["wrong-password", "wrong-capitals", "not-set-up", "disabled", "never-made-a-token"],
)
@pytest.mark.parametrize("action", ["setup", "verify"])
def test_c1_what_ceda_does_not_accept_is_told_and_not_stored(
    office_of: Callable[..., Office], account: dict[str, str], status: int, words: list[str], action: str
) -> None:
    """C3: exit 3 with the cause and the cure, after one request; a 500 may pass and is tried three times more."""
    office = office_of(**account)
    office.is_quick = account != {"password": "another"}
    if action == "setup":
        ended = office.setup(code=3)
        assert "Nothing was stored." in ended.err
        assert not office.dotenv.exists()
    else:
        office.setup("--no-verify")
        ended = office.auth("verify", code=3)

    assert all(word in ended.err for word in words), ended.err
    assert office.asked == [("token", status)] * (4 if status == 500 else 1)
    assert PASSWORD not in ended.out + ended.err
    assert office.cached == []


@pytest.mark.parametrize("redirect", [True, False])
def test_c1_a_missing_licence_is_told_with_its_page(quick_office: Office, redirect: bool) -> None:
    """C3: a 403, or a redirect to a page that says so."""
    location = {"Location": "https://data.ceda.ac.uk/badc/x?forbidden"}
    fault = Fault("status", status=302 if redirect else 403, path="*TOKEN_CHECK", headers=location)
    quick_office.simulator.add_fault(fault)

    ended = quick_office.setup(code=3)

    assert "a licence is missing" in ended.err
    assert LICENCE in ended.err
    assert not quick_office.dotenv.exists()


@pytest.mark.parametrize(
    ("fault", "code", "word"),
    [
        (Fault("close", path="*TOKEN_CHECK"), 5, "No connection to CEDA"),
        (Fault("close", route="token", times=None), 5, "token service cannot be reached"),
        (Fault("status", status=404, path="*TOKEN_CHECK"), 5, "ceda.archive_url"),
        (Fault("status", status=503, path="*TOKEN_CHECK"), 5, "overloaded or down"),
        (Fault("login-page", path="*TOKEN_CHECK", times=None), 3, "does not accept it"),
    ],
    ids=["no-answer", "no-token-service", "no-probe-file", "overloaded", "token-of-no-use"],
)
def test_c1_trouble_with_the_server_is_not_taken_for_a_wrong_password(
    quick_office: Office, fault: Fault, code: int, word: str
) -> None:
    quick_office.simulator.add_fault(fault)

    ended = quick_office.setup(code=code)

    assert word in ended.err
    assert not quick_office.dotenv.exists()


def test_c3_who_waits_for_the_token_service_is_told_why(quick_office: Office) -> None:
    """C3: asked again after a while, and let in."""
    quick_office.simulator.add_fault(Fault("status", route="token", status=504))

    told = quick_office.setup()

    assert "CEDA's token service answered 504 without a token. It is asked again in" in told.err
    assert quick_office.asked == [("token", 504), ("token", 200), ("download", 200)]


def test_c1_setup_puts_the_password_itself_to_the_test(quick_office: Office) -> None:
    """A cached token must not make a wrong password pass."""
    quick_office.setup()

    ended = quick_office.setup(stdin=b"Researcher-7\nwrong\n", code=3)

    assert "does not accept the password" in ended.err
    assert "wrong" not in quick_office.dotenv.read_text()


def test_c1_no_verify_stores_without_a_request(office: Office) -> None:
    told = office.setup("--no-verify", "--json")

    assert office.asked == []
    assert told.record("auth-setup")["verified"] is False
    assert told.record("auth-setup")["stored"] == ["CEDA_USERNAME", "CEDA_PASSWORD"]


def test_c1_setup_keeps_the_rest_of_the_file_and_takes_out_a_token_that_would_win(
    quick_office: Office,
) -> None:
    """The token wins over name and password, so that a stale one would make the setup useless."""
    quick_office.dotenv.write_text("# mine\nCEDA_TOKEN=old\nOTHER=1\n")
    quick_office.dotenv.chmod(0o644)

    told = quick_office.setup()

    assert quick_office.dotenv.read_text().startswith("# mine\nOTHER=1\nCEDA_USERNAME=Researcher-7\n")
    assert "Until now others could read that file" in told.out
    assert "Removed CEDA_TOKEN from it" in told.out


def test_c1_setup_says_that_the_environment_beats_the_file(quick_office: Office) -> None:
    told = quick_office.auth("setup", "--no-verify", stdin=ACCOUNT_LINES, CEDA_TOKEN="from-elsewhere")

    assert "CEDA_TOKEN in the environment will be used" in told.out
    assert "unset CEDA_TOKEN" in told.out
    assert "from-elsewhere" not in told.out


def test_c1_a_token_is_stored_and_used(office: Office) -> None:
    token = office.simulator.mint_token()

    told = office.setup("--token", "--json", stdin=f" {token} \n".encode()).record("auth-setup")
    verified = office.auth("verify", "--json").record("auth-verify")

    assert (told["stored"], told["verified"]) == (["CEDA_TOKEN"], True)
    assert told["username"] == verified["username"] == "Researcher-7"
    assert office.asked == [("download", 200), ("download", 200)]
    assert office.cached == []


@pytest.mark.parametrize(
    ("stdin", "words"),
    [
        (EXPIRED, ["it has expired, on 2023-11-14T22:13:20Z"]),
        ("tok-of-nobody", ["mistyped or not been copied whole"]),
        (None, ["it was revoked", "CEDA keeps two"]),
    ],
    ids=["expired", "mistyped", "revoked"],
)
def test_c1_a_token_that_is_not_accepted_is_explained(
    quick_office: Office, stdin: str | None, words: list[str]
) -> None:
    """C3: expired, mistyped or revoked, as far as the token itself tells; exit 3, one GET, no new token."""
    token = stdin or quick_office.simulator.mint_token()
    quick_office.simulator.revoke_tokens()

    ended = quick_office.setup("--token", stdin=f"{token}\n".encode(), code=3)
    verified = quick_office.auth("verify", code=3, CEDA_TOKEN=token)

    for told in (ended, verified):
        assert all(word in told.err for word in [*words, TOKEN_PAGE, "midasdl auth setup"]), told.err
        assert token not in told.err + told.out
    assert quick_office.asked == [("download", 302), ("download", 302)]
    assert not quick_office.dotenv.exists()


@pytest.mark.parametrize(
    ("words", "stdin", "told"),
    [
        ([], b"", "No user name was given"),
        ([], b"me\n", "No password was given"),
        ([], b"\n\n", "No user name was given"),
        ([], b"me:too\npassword\n", "colon"),
        ([], b"me\npass\x07word\n", "control character"),
        ([], b"me\n\xff\n", "not UTF-8"),
        (["--token"], b"", "No token was given"),
        (["--token"], b"two words\n", "not a token"),
    ],
    ids=["nothing", "no-password", "empty", "colon", "bell", "bytes", "no-token", "two-words"],
)
def test_c1_what_cannot_be_credentials_is_refused_before_any_request(
    quick_office: Office, words: list[str], stdin: bytes, told: str
) -> None:
    assert told in quick_office.setup(*words, stdin=stdin, code=2).err
    assert quick_office.asked == []
    assert not quick_office.dotenv.exists()


def test_c1_lines_of_windows_and_without_an_end_are_read(office: Office) -> None:
    office.setup(stdin=f"Researcher-7\r\n{PASSWORD}".encode())


@pytest.mark.parametrize(
    "words",
    [["--token", "s3cr3t"], ["--token=s3cr3t"], ["--password", "s3cr3t"], ["--password=s3cr3t"], ["s3cr3t"]],
)
def test_c1_a_secret_on_the_command_line_is_refused_and_not_repeated(
    quick_office: Office, words: list[str]
) -> None:
    ended = quick_office.setup(*words, code=2)

    assert "none of them is taken from the command line" in " ".join(ended.err.split())
    assert "s3cr3t" not in ended.err + ended.out
    assert not quick_office.dotenv.exists()


# --- at a terminal


def test_c1_at_a_terminal_the_password_is_not_shown(office: Office) -> None:
    """What is typed as the user name is seen, what is typed as the password is not; the file holds it exactly."""
    ended = converse(
        office.command,
        ["auth", "setup"],
        [("User name: ", "Researcher-7\n"), ("Password (not shown): ", f"{PASSWORD}\n")],
    )

    assert ended.code == 0, ended.out
    assert "User name: Researcher-7\n" in ended.out
    assert PASSWORD not in ended.out
    assert not set(re.findall(r"\w{4,}", PASSWORD)) & set(re.findall(r"\w+", ended.out))
    assert office.asked == [("token", 200), ("download", 200)]


def test_c1_at_a_terminal_the_token_is_not_shown(office: Office) -> None:
    token = office.simulator.mint_token()

    ended = converse(office.command, ["auth", "setup", "--token"], [("Token (not shown): ", f"{token}\n")])

    assert ended.code == 0, ended.out
    assert token[:40] not in ended.out


@pytest.mark.parametrize(("keys", "code"), [("\x04", 2), ("\x03", 130)], ids=["end-of-input", "ctrl-c"])
def test_c1_leaving_at_the_question_stores_nothing(office: Office, keys: str, code: int) -> None:
    ended = converse(
        office.command,
        ["auth", "setup"],
        [("User name: ", "Researcher-7\n"), ("Password (not shown): ", keys)],
    )

    assert ended.code == code, ended.out
    assert "Traceback" not in ended.out
    assert not office.dotenv.exists()
    assert office.asked == []


# --- verify


def test_c1_verify_says_for_whom_and_until_when(office: Office) -> None:
    office.setup("--no-verify")

    told = office.auth("verify").out
    record = office.auth("verify", "--json").record("auth-verify")

    assert re.search(
        r"accepts the account Researcher-7\. The token lasts until \d{4}-\d\d-\d\dT[\d:]+Z \(in 2 d 23 h\)",
        told,
    )
    assert (record["username"], record["by_cached_token"]) == ("Researcher-7", True)
    assert "the password has not been tried" not in told
    assert "It was cached: the password has not been tried" in office.auth("verify").out
    assert 259_000 < record["expires_in_s"] <= 259_200
    assert office.asked == [("token", 200), *[("download", 200)] * 3]


def test_c2_verify_replaces_a_cached_token_that_was_revoked_as_a_run_would(quick_office: Office) -> None:
    """C3: re-authenticate once, repeat the request."""
    quick_office.setup()
    quick_office.simulator.revoke_tokens()
    quick_office.simulator.clear_requests()

    quick_office.auth("verify")

    assert quick_office.asked == [("download", 302), ("token", 200), ("download", 200)]


def test_c1_verify_without_credentials_says_how_to_store_some(office: Office) -> None:
    ended = office.auth("verify", code=3)

    assert "midasdl auth setup" in ended.err
    assert office.asked == []


@pytest.mark.parametrize("name", ["CEDA_USERNAME", "CEDA_PASSWORD"])
def test_c1_bytes_in_the_environment_that_are_no_text_are_told(quick_office: Office, name: str) -> None:
    pair = {"CEDA_USERNAME": "me", "CEDA_PASSWORD": "p", name: "half a character \udcff"}
    quick_office.command = quick_office.command.with_environment(**pair)

    assert f"{name} is not UTF-8 text" in quick_office.auth("verify", code=3).err
    assert quick_office.asked == []


def test_c1_an_opaque_token_does_not_say_when_it_ends(office_of: Callable[..., Office]) -> None:
    office = office_of(token_shape=TokenShape.OPAQUE)
    token = json.loads(_answer_of_the_service(office))["access_token"]

    assert "does not say when it ends" in office.auth("verify", CEDA_TOKEN=token).out


def _answer_of_the_service(office: Office) -> str:
    account = office.simulator.account
    answer = requests.post(
        office.simulator.token_url,
        auth=HTTPBasicAuth(account.username.encode(), account.password.encode()),
        timeout=5,
    )
    return answer.text


def test_c5_verify_passes_the_gate_of_the_ledger(office: Office, small_archive: Archive) -> None:
    """With a ledger its requests count like those of a run, and keep their distance."""
    office.command("init", str(small_archive.manifest))
    office.setup("--no-verify")
    spaced = office.command.with_settings(ceda_client__min_request_spacing_ms=2000)

    spaced("auth", "verify")

    workers = spaced("sql", "SELECT role, name, state FROM worker", "--format", "csv").out
    assert gaps(office.simulator.requests)[0] >= 1  # of two, on a busy machine
    assert workers.splitlines()[1:] == ["command,sign-in,stopped"]


def test_c5_where_the_ledger_cannot_tell_who_else_is_sending_nothing_is_sent(quick_office: Office) -> None:
    quick_office.setup("--no-verify")
    (quick_office.command.folder / "progress.db").write_bytes(b"this is no ledger any more")

    ended = quick_office.auth("verify", code=6)

    assert "not a ledger" in ended.err
    assert quick_office.asked == []


# --- status


def test_c1_status_tells_where_credentials_come_from_without_a_request(quick_office: Office) -> None:
    quick_office.setup()
    quick_office.simulator.clear_requests()

    told = quick_office.auth("status").out
    record = quick_office.auth("status", "--json").record("auth-status")
    text = json.dumps(record)

    assert "CEDA_USERNAME (from .env) and CEDA_PASSWORD (from .env)" in told
    assert "private" in told
    assert re.search(r"lasts until \S+Z \(in 2 d 23 h\)", told)
    assert record["sources"] == {"CEDA_USERNAME": ".env", "CEDA_PASSWORD": ".env"}
    assert record["cached_token"]["expired"] is False
    assert "Researcher-7" not in told + text
    assert "schräg" not in told + text
    assert quick_office.asked == []


def test_c1_status_without_anything(quick_office: Office) -> None:
    record = quick_office.auth("status", "--json").record("auth-status")

    assert record["complete"] is False
    assert record["dotenv"] == {"exists": False, "private": None}
    assert "none; store some with: midasdl auth setup" in quick_office.auth("status").out


def test_c1_status_knows_the_environment_from_the_file(quick_office: Office) -> None:
    quick_office.setup("--no-verify")
    quick_office.dotenv.chmod(0o644)

    record = quick_office.auth("status", "--json", CEDA_PASSWORD="another", CEDA_TOKEN="").record(
        "auth-status"
    )
    told = quick_office.auth("status").out

    assert record["sources"] == {"CEDA_USERNAME": ".env", "CEDA_PASSWORD": "environment"}
    assert record["dotenv"] == {"exists": True, "private": False}
    assert "chmod 600 .env" in told


def test_c1_status_sees_that_an_empty_variable_hides_the_file(quick_office: Office) -> None:
    quick_office.setup("--no-verify")

    told = quick_office.auth("status", CEDA_PASSWORD="").out

    assert "CEDA_PASSWORD: empty in the environment" in told
    assert "none; store some" in told


def test_c1_status_sees_that_a_given_token_has_expired(quick_office: Office) -> None:
    told = quick_office.auth("status", CEDA_TOKEN=EXPIRED).out
    record = quick_office.auth("status", "--json", CEDA_ACCESS_TOKEN=EXPIRED).record("auth-status")

    assert "ended 2023-11-14T22:13:20Z" in told
    assert record["names"] == ["CEDA_ACCESS_TOKEN"]
    assert record["given_token"]["expired"] is True
    assert EXPIRED not in told + json.dumps(record)


# --- clear


def test_c1_clear_removes_credentials_and_tokens_and_keeps_the_rest(office: Office) -> None:
    office.dotenv.write_text("# mine\nOTHER=1\n")
    office.setup()

    told = office.auth("clear", "--json").record("auth-clear")

    assert told["removed"] == ["CEDA_USERNAME", "CEDA_PASSWORD"]
    assert (told["tokens_removed"], told["file_removed"]) == (1, False)
    assert office.dotenv.read_text() == "# mine\nOTHER=1\n"
    assert office.cached == []


def test_c1_clear_may_be_repeated(quick_office: Office) -> None:
    quick_office.setup()

    first, second = quick_office.auth("clear").out, quick_office.auth("clear").out

    assert "Removed CEDA_USERNAME and CEDA_PASSWORD from .env, and the file" in first
    assert "nothing to remove" in second
    assert not quick_office.dotenv.exists()


def test_c1_clear_says_what_is_still_set(quick_office: Office) -> None:
    told = quick_office.auth("clear", CEDA_TOKEN="t").out

    assert "Still set in the environment: CEDA_TOKEN. Remove from it with: unset CEDA_TOKEN" in told


@pytest.mark.parametrize("action", ["setup", "verify", "status", "clear"])
def test_u1_each_action_has_examples_in_its_help(command: Command, action: str) -> None:
    told = run_inside(command, "auth", action, "--help").out

    assert f"midasdl auth {action}" in told.split("examples:")[1]
