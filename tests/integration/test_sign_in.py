"""C2, C3, C4: signing in, tokens that lapse in the middle of a run, and where a token goes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from midasdl.ceda.client import CedaClient
from midasdl.ceda.credentials import Credentials
from midasdl.ceda.secret import Secret
from midasdl.ceda.session import BearerAuth, host_of, open_session
from midasdl.ceda.verdict import FetchError
from midasdl.errors import AuthenticationError, MidasdlError, ServerUnavailableError, StoppedError
from midasdl.politeness.state import Ticket
from midasdl.simulator import Fault, Simulator
from midasdl.simulator.pages import login_page
from tests.support.access import Basket, Office, asked, fetched

CONTENTS = b"Conventions,G,BADC-CSV,1\n" + b"0123456789" * 400 + b"\nend data\n"
PATH = "data/a.csv"
TOKEN = "token-of-the-test"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    (folder / "data").mkdir()
    for name in (PATH, "data/b.csv"):
        (folder / name).write_bytes(CONTENTS)
    return folder


@pytest.fixture
def simulator(root: Path) -> Iterator[Simulator]:
    with Simulator(root) as running:
        yield running


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with Office(tmp_path) as opened:
        yield opened


@pytest.fixture(params=[10**8, 0], ids=["in-memory", "streamed"])
def client(simulator: Simulator, office: Office, request: pytest.FixtureRequest) -> CedaClient:
    """A client with a token, once with bodies in memory and once with all of them streamed."""
    access = office.open(simulator, in_memory=request.param)
    access.tokens.current()
    simulator.clear_requests()
    return access.client


# --- in the middle of a run

LAPSES = [
    Fault("redirect-to-login"),
    Fault("status", status=401),
    Fault("login-page"),
    Fault("revoke-tokens"),
    Fault("expire-token"),
    Fault(
        "html-200", body=login_page("x"), content_type="text/csv", headers={"Transfer-Encoding-Note": "none"}
    ),
]


@pytest.mark.parametrize("fault", LAPSES, ids=lambda fault: str(fault.action))
def test_c3_a_token_that_lapses_costs_one_mint_and_one_request(
    client: CedaClient, simulator: Simulator, fault: Fault
) -> None:
    assert fetched(client, PATH) == CONTENTS
    simulator.add_fault(fault)
    assert fetched(client, "data/b.csv") == CONTENTS
    assert fetched(client, PATH) == CONTENTS
    assert len(asked(simulator, "token")) == 1
    assert len(asked(simulator, "download")) == 4
    assert [each.token for each in simulator.requests if each.route == "download"][-2:] == [
        "token-2",
        "token-2",
    ]
    assert not asked(simulator, "signin"), "no redirect is followed"


@pytest.mark.parametrize("fault", LAPSES[:3], ids=lambda fault: str(fault.action))
def test_c3_a_second_refusal_stops_the_run_with_a_cure(
    client: CedaClient, simulator: Simulator, fault: Fault
) -> None:
    simulator.add_fault(Fault(fault.action, route="download", status=fault.status, times=None))
    with pytest.raises(AuthenticationError) as raised:
        client.fetch(PATH, Basket())
    assert "new token" in raised.value.message
    assert "https://data.ceda.ac.uk/" in str(raised.value.hint)
    assert len(asked(simulator, "token")) == 1
    assert len(asked(simulator, "download")) == 2


def test_c3_tokens_that_end_while_a_request_waits_for_its_turn_stop_nobody(
    root: Path, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C3 C6: a pause may outlast a token, and the next pause the next token."""
    with Simulator(root, token_lifetime_s=1) as brief:
        access = office.open(brief)
        pauses_s = iter([1.2, 1.2])

        @contextmanager
        def late(host: str) -> Iterator[Ticket]:
            with office.gate.request(host) as ticket:
                office.clock.nap(next(pauses_s, 0.0))
                yield ticket

        monkeypatch.setattr(access.client, "_gate", late)
        assert fetched(access.client, PATH) == CONTENTS
        assert [status for *_, status in asked(brief, "download")] == [302, 302, 200]
        assert len(asked(brief, "token")) == 3


def test_c3_who_has_waited_long_sends_the_token_that_others_have_got_meanwhile(
    root: Path, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C3 C6: the one that it came with has ended, and nothing is asked with it."""
    with Simulator(root, token_lifetime_s=1) as brief:
        access, others = office.open(brief), office.open(brief)

        @contextmanager
        def late(host: str) -> Iterator[Ticket]:
            office.clock.nap(1.2)
            others.tokens.current()
            with office.gate.request(host) as ticket:
                yield ticket

        monkeypatch.setattr(access.client, "_gate", late)
        assert fetched(access.client, PATH) == CONTENTS
        assert [status for *_, status in asked(brief, "download")] == [200]


def test_c2_a_token_of_the_users_is_never_replaced(simulator: Simulator, office: Office) -> None:
    mine = Credentials(Secret(simulator.mint_token()), "researcher", Secret("rain-or-shine"))
    client = office.open(simulator, mine).client
    assert fetched(client, PATH) == CONTENTS
    simulator.revoke_tokens()
    with pytest.raises(AuthenticationError, match="CEDA_TOKEN"):
        client.fetch(PATH, Basket())
    assert not asked(simulator, "token")


def test_c3_a_login_page_in_crumbs_is_a_login_page(root: Path, office: Office) -> None:
    """Chunk by chunk, as a server under load may send it; the title comes late."""
    with Simulator(root, chunked=True, bytes_per_second=2_000) as slow:
        access = office.open(slow, in_memory=0)
        slow.add_fault(
            Fault(
                "html-200", route="download", body="<html>" + " " * 800 + "<title>Log in</title>", times=None
            )
        )
        with pytest.raises(AuthenticationError):
            access.client.fetch(PATH, Basket())


# --- the token service


def token_fault(action: str, **more: Any) -> Fault:
    return Fault(action, route="token", **{"times": None, **more})


HTML = token_fault("html-200")
REDIRECT = token_fault("status", status=302, headers={"Location": "/account/signin/"})
BY_HAND = "https://services.ceda.ac.uk/account/token/"

FINAL = {
    "wrong-password": (
        lambda s: s.account.__setattr__("password", "x"),
        3,
        "password of the account 'researcher'",
    ),
    "not-set-up": (lambda s: s.set_account_state("not-set-up"), 3, "not set up"),
    "disabled": (lambda s: s.set_account_state("disabled"), 3, "disabled"),
    "garbled": (lambda s: s.add_fault(token_fault("status", status=403)), 3, "stray characters"),
    "wrong-address": (lambda s: s.add_fault(token_fault("status", status=404)), 5, "answered 404"),
}
PASSING = {
    "no-first-token": (lambda s: s.set_account_state("no-stored-token"), 3, BY_HAND),
    "500": (lambda s: s.add_fault(token_fault("status", status=500)), 3, BY_HAND),
    "502": (lambda s: s.add_fault(token_fault("status", status=502)), 5, "answered 502"),
    "503": (lambda s: s.add_fault(token_fault("status", status=503)), 5, "answered 503"),
    "504": (lambda s: s.add_fault(token_fault("status", status=504)), 5, "answered 504"),
    "429": (lambda s: s.add_fault(token_fault("status", status=429)), 5, "answered 429"),
    "html": (lambda s: s.add_fault(HTML), 5, "answered 200 without a token"),
    "login-page": (lambda s: s.add_fault(token_fault("login-page")), 5, "answered 200 without"),
    "redirect": (lambda s: s.add_fault(REDIRECT), 5, "answered 302"),
    "reset": (lambda s: s.add_fault(token_fault("reset")), 5, "cannot be reached"),
    "stall": (lambda s: s.add_fault(token_fault("stall", seconds=30)), 5, "in time"),
}
TROUBLE = [(1, *each) for each in FINAL.values()] + [(4, *each) for each in PASSING.values()]


@pytest.mark.parametrize(("requests_made", "prepare", "code", "words"), TROUBLE, ids=[*FINAL, *PASSING])
def test_c3_each_answer_of_the_token_service_has_a_message_of_its_own(
    simulator: Simulator, office: Office, prepare: Any, requests_made: int, code: int, words: str
) -> None:
    """C3 C8: what will not pass is asked once, what may pass once and three times more; no file is asked for."""
    access = office.open(simulator, silence_s=0.3)
    prepare(simulator)
    with pytest.raises(MidasdlError) as raised:
        access.client.fetch(PATH, Basket())
    told = f"{raised.value.message} {raised.value.hint}"
    assert (raised.value.exit_code, words in told) == (code, True), told
    assert "rain-or-shine" not in told
    assert len(asked(simulator, "token")) == requests_made
    assert not asked(simulator, "download"), "no request without a token"


def test_c3_a_token_service_that_is_away_says_so(simulator: Simulator, office: Office) -> None:
    access = office.open(simulator)
    simulator.stop()
    with pytest.raises(ServerUnavailableError, match="cannot be reached"):
        access.client.fetch(PATH, Basket())


@pytest.mark.parametrize(
    "fault",
    ["500", "502", "503", "504", "429", HTML, REDIRECT, token_fault("reset")],
    ids=str,
)
def test_c3_trouble_that_passes_costs_a_wait_and_no_file(
    simulator: Simulator, office: Office, fault: Fault | str
) -> None:
    """C3: two answers without a token, then one with it; the person who waits is told each time."""
    rule = token_fault("status", status=int(fault)) if isinstance(fault, str) else fault
    simulator.add_fault(replace(rule, times=2))
    told: list[str] = []
    assert fetched(office.open(simulator, tell=told.append).client, PATH) == CONTENTS
    assert len(asked(simulator, "token")) == 3
    assert len(told) == 2
    assert all("token service" in each and "asked again" in each for each in told), told


def test_c3_c6_a_token_service_that_asks_for_patience_gets_it_from_everybody(
    simulator: Simulator, office: Office
) -> None:
    """C3 C6: Retry-After of a 503 stands in the host's row with its reason, and nobody asks before."""
    simulator.add_fault(token_fault("status", status=503, retry_after="1", times=1))
    assert fetched(office.open(simulator).client, PATH) == CONTENTS
    refused, minted = (each for each in simulator.requests if each.route == "token")
    assert minted.started - refused.ended >= 0.95
    state = office.gate.state(host_of(simulator.token_url))
    assert "asked to wait for 1 s" in str(state.pause_reason)


def test_c10_a_mint_that_fails_counts_for_the_breaker(simulator: Simulator, office: Office) -> None:
    """C10 C3: what the token service does is known to everybody, as of every server."""
    access = office.open(simulator)
    simulator.add_fault(token_fault("status", status=504))
    with pytest.raises(ServerUnavailableError):
        access.tokens.current()
    state = office.gate.state(host_of(simulator.token_url))
    assert state.breaker.failures == state.consecutive_errors == 4
    assert "answered 504 without a token" in str(state.pause_reason)


def test_c3_a_run_sits_out_an_outage_of_the_token_service(simulator: Simulator, office: Office) -> None:
    """C3 C10: as long as its patience lasts, though the retries are used up; then it says so."""
    outage = token_fault("status", status=504, times=7)
    simulator.add_fault(outage)
    assert fetched(office.open(simulator, outage_s=30).client, PATH) == CONTENTS
    simulator.clear_requests()
    simulator.revoke_tokens()
    simulator.add_fault(replace(outage, times=None))
    with pytest.raises(ServerUnavailableError):
        office.open(simulator, outage_s=0.5).client.fetch(PATH, Basket())
    assert len(asked(simulator, "token")) > 4


def test_w4_a_wait_for_a_token_ends_when_the_worker_is_to_stop(simulator: Simulator, office: Office) -> None:
    """W4 C3: at once, with no further request."""
    access = office.open(simulator)
    simulator.add_fault(token_fault("status", status=503, retry_after="600"))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(access.tokens.current)
        while not asked(simulator, "token"):
            office.clock.nap(0.01)
        office.clock.stop()
        with pytest.raises(StoppedError):
            waiting.result(timeout=5)
    assert len(asked(simulator, "token")) == 1


def test_c2_c3_eight_who_find_their_token_revoked_with_a_wrong_password_ask_once(
    simulator: Simulator, office: Office
) -> None:
    """C2 C3: one wrong password, not eight; who starts afterwards with the right one is let in."""
    accesses = [office.open(simulator) for _ in range(8)]
    assert {fetched(each.client, PATH) for each in accesses} == {CONTENTS}
    simulator.clear_requests()
    simulator.revoke_tokens()
    simulator.account.password = "changed"
    with ThreadPoolExecutor(8) as pool:
        ends = [pool.submit(each.client.fetch, PATH, Basket()).exception for each in accesses]
        errors = [end(timeout=60) for end in ends]
    assert {type(each) for each in errors} == {AuthenticationError}
    assert len({str(each) for each in errors}) == 1
    assert len(asked(simulator, "token")) == 1
    corrected = Credentials(username="researcher", password=Secret("changed"))
    assert fetched(office.open(simulator, corrected).client, PATH) == CONTENTS


# --- where a token goes

ARCHIVE = "https://dap.ceda.example/badc"


@pytest.mark.parametrize(
    ("url", "carries"),
    [
        (f"{ARCHIVE}/data/a.csv", True),
        ("https://dap.ceda.example:443/other", True),
        ("https://DAP.ceda.example/x", True),
        ("http://dap.ceda.example/badc/a.csv", False),
        ("https://dap.ceda.example:8443/badc/a.csv", False),
        ("https://data.ceda.example/badc/a.csv", False),
        ("https://dap.ceda.example.org/badc/a.csv", False),
        ("https://dap.ceda.example@example.org/badc/a.csv", False),
    ],
)
def test_c4_a_token_goes_to_the_configured_origin_and_to_no_other(url: str, carries: bool) -> None:
    prepared = requests.Request("GET", url, auth=BearerAuth(ARCHIVE, Secret(TOKEN))).prepare()
    assert prepared.headers.get("Authorization") == (f"Bearer {TOKEN}" if carries else None)


def test_c4_a_redirect_to_another_server_takes_nothing_there(
    simulator: Simulator, root: Path, office: Office
) -> None:
    with Simulator(root) as elsewhere:
        there = f"{elsewhere.archive_url}/{PATH}"
        simulator.add_fault(Fault("status", route="download", status=302, headers={"Location": there}))
        with pytest.raises(FetchError, match="not followed"):
            office.open(simulator).client.fetch(PATH, Basket())
        assert elsewhere.requests == []


def test_c4_the_session_follows_no_redirect_even_if_asked_to(simulator: Simulator) -> None:
    with open_session() as session:
        answer = session.get(f"{simulator.archive_url}/{PATH}", allow_redirects=True)
    assert answer.status_code == 302
    assert not asked(simulator, "signin")


def test_c4_netrc_never_overrides_the_token(
    simulator: Simulator, office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert fetched(office.open(simulator).client, PATH) == CONTENTS
    assert [each.token for each in simulator.requests] == [None, "token-1"]


def test_c4_proxies_of_the_environment_are_used(
    simulator: Simulator, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens at the archive's own port; the simulator stands in for the proxy too."""
    monkeypatch.setenv("http_proxy", simulator.base_url)
    monkeypatch.setenv("no_proxy", "")
    away = "http://localhost:1/badc/ukmo-midas-open"
    assert fetched(office.open(simulator, archive_url=away).client, PATH) == CONTENTS


def test_i6_no_password_or_token_stands_in_the_ledger(simulator: Simulator, office: Office) -> None:
    access = office.open(simulator)
    fetched(access.client, PATH)
    secrets = [b"rain-or-shine", access.tokens.current().reveal().encode()]
    for path in office.folder.glob("progress.db*"):
        contents = path.read_bytes()
        assert not [secret for secret in secrets if secret in contents]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://dap.ceda.ac.uk/badc", "dap.ceda.ac.uk"),
        ("http://127.0.0.1:8000/x", "127.0.0.1:8000"),
        ("https://me:pw@DAP.ceda.ac.uk/x", "dap.ceda.ac.uk"),
    ],
)
def test_c5_a_host_is_known_by_name_and_port(url: str, host: str) -> None:
    assert host_of(url) == host
