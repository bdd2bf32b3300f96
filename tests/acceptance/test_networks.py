"""C4: university networks. Authorities of their own, proxies with passwords, `.netrc`, and what must not be trusted."""

from __future__ import annotations

import base64
import secrets
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from midasdl.simulator import Fault
from midasdl.simulator.replies import Reply
from midasdl.simulator.routes import Request
from midasdl.simulator.site import Site
from tests.acceptance.conftest import JobOnTrial
from tests.conftest import Archive
from tests.support.command import Command
from tests.support.hunt import Hunt
from tests.support.inside import run_inside
from tests.support.programs import require_program
from tests.support.proxy import Proxy
from tests.support.soaks import in_soaks
from tests.support.tls import Authority, self_signed

JobOn = Callable[..., JobOnTrial]

ARCHIVE, TOKENS, LISTING = "dap.ceda.invalid", "services.ceda.invalid", "data.ceda.invalid"
"""Hosts that only the proxy can find."""

PASSWORD = f"Px/{secrets.token_hex(8)}@:#%?{secrets.token_hex(8)}"
WRONG = f"Wr/{secrets.token_hex(8)}@:#%?{secrets.token_hex(8)}"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Of the university."""
    return Authority.found(tmp_path / "university.pem")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """Certifies nobody whom we want to reach."""
    return Authority.found(tmp_path / "stranger.pem")


def all_pending(job: JobOnTrial) -> bool:
    return job.rows("SELECT DISTINCT state, attempts FROM task") == [("pending", 0)]


# --- certificates of one's own

WAYS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "option": (
        ("--ca-bundle", "university.pem"),
        {"REQUESTS_CA_BUNDLE": "stranger.pem", "MIDASDL_NETWORK__CA_BUNDLE": "nowhere.pem"},
    ),
    "setting": (
        (),
        {"MIDASDL_NETWORK__CA_BUNDLE": "university.pem", "REQUESTS_CA_BUNDLE": "nowhere.pem"},
    ),
    "requests": ((), {"REQUESTS_CA_BUNDLE": "university.pem", "CURL_CA_BUNDLE": "nowhere.pem"}),
    "curl": ((), {"CURL_CA_BUNDLE": "university.pem"}),
}


@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize("way", ["option", "setting", "requests", in_soaks("curl")])
@pytest.mark.effect_of("network.ca_bundle")
def test_every_command_trusts_the_bundle_that_is_named_first(
    job_on: JobOn, small_archive: Archive, authority: Authority, way: str
) -> None:
    """C4: option before setting before environment, here and in the workers, from sign-in to the last file."""
    words, environment = WAYS[way]
    job = job_on(small_archive, tls=authority.server(), first_byte_delay_s=0.005)
    command = job.command.with_environment(**environment)

    command("auth", "verify", *words)
    command("manifest", "list", *words)
    command("init", "latest", "--dest", "data-root", *words)
    command("run", "--workers", "2", *words)

    assert job.is_complete
    assert "university.pem, named by" in command("doctor", *words).out
    assert job.simulator.connections <= 8, "connections are kept"


def test_a_bundle_given_by_a_relative_name_is_found_again_by_resume_from_anywhere(
    job_on: JobOn, small_archive: Archive, authority: Authority, tmp_path: Path
) -> None:
    """C4 W2: the bundle belongs to the recorded settings of a run."""
    job = job_on(small_archive, tls=authority.server(), faults=[Fault("status", status=404, path="*.csv")])
    job.init()
    job.command("run", "--ca-bundle", authority.bundle.name, code=1)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    Command(elsewhere, job.command.environment)("resume", "--retry-failed", "--ledger", str(job.ledger))

    assert job.is_complete


def test_a_folder_of_certificates_is_a_bundle_too(
    job_on: JobOn, small_archive: Archive, authority: Authority, tmp_path: Path
) -> None:
    """C4: as OpenSSL keeps them, by hashed names; ``/etc/ssl/certs`` is such a folder."""
    folder = tmp_path / "certificates"
    folder.mkdir()
    shutil.copy(authority.bundle, folder)
    subprocess.run([require_program("openssl"), "rehash", folder], check=True, capture_output=True)
    job = job_on(small_archive, tls=authority.server())

    run_inside(job.command, "manifest", "list", "--ca-bundle", str(folder))


BAD_BUNDLES: dict[str, Callable[[Path], object]] = {
    "missing": lambda _: None,
    "empty": lambda path: path.touch(),
    "no certificate": lambda path: path.write_text("-----BEGIN NOTHING-----\n"),
    "damaged": lambda path: path.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    "empty folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("bad", BAD_BUNDLES)
@pytest.mark.parametrize(
    ("words", "environment", "named_by"),
    [
        (("--ca-bundle", "bad.pem"), {}, "--ca-bundle"),
        ((), {"MIDASDL_NETWORK__CA_BUNDLE": "bad.pem"}, "network.ca_bundle"),
        ((), {"REQUESTS_CA_BUNDLE": "bad.pem"}, "REQUESTS_CA_BUNDLE"),
    ],
    ids=["option", "setting", "environment"],
)
def test_a_bundle_without_certificates_is_told_before_anything_is_sent(
    job_on: JobOn,
    small_archive: Archive,
    authority: Authority,
    words: tuple[str, ...],
    environment: Mapping[str, str],
    named_by: str,
    bad: str,
) -> None:
    """C4 W6: exit 2 with the name of the file and of what named it; no connection is made, and no run begins."""
    job = job_on(small_archive, tls=authority.server())
    BAD_BUNDLES[bad](job.folder / "bad.pem")
    run_inside(job.command, "init", str(job.manifest))
    command = job.command.with_environment(**environment)

    for asking in (["auth", "verify"], ["manifest", "list"], ["run"]):
        told = run_inside(command, *asking, *words, code=2).err
        assert "bad.pem" in told
        assert named_by in told
        assert "--ca-bundle FILE" in told
    assert "problem  network" in run_inside(command, "doctor", *words, code=1).out
    assert job.simulator.connections == 0
    assert job.rows("SELECT count(*) FROM run") == [(0,)]


# --- what must not be trusted

Server = Callable[[Authority, Path], ssl.SSLContext]

UNTRUSTED: dict[str, tuple[Server, dict[str, str], str]] = {
    "unknown authority": (lambda ca, _: ca.server(), {"CURL_CA_BUNDLE": "stranger.pem"}, "local issuer"),
    "beaten bundle": (
        lambda ca, _: ca.server(),
        {"MIDASDL_NETWORK__CA_BUNDLE": "stranger.pem", "REQUESTS_CA_BUNDLE": "university.pem"},
        "local issuer",
    ),
    "self-signed": (lambda _, folder: self_signed(folder / "self.pem"), {}, "self-signed certificate"),
    "expired": (
        lambda ca, _: ca.server(expired=True),
        {"REQUESTS_CA_BUNDLE": "university.pem"},
        "certificate has expired",
    ),
    "other host": (
        lambda ca, _: ca.server("dap.ceda.invalid"),
        {"REQUESTS_CA_BUNDLE": "university.pem"},
        "not valid for '127.0.0.1'",
    ),
}


@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize("name", UNTRUSTED)
def test_a_server_that_cannot_be_trusted_ends_the_run_at_once(
    job_on: JobOn, small_archive: Archive, authority: Authority, tmp_path: Path, name: str
) -> None:
    """C4 C9: exit 5 with the cause and --ca-bundle; one connection a command, no request, every task still pending."""
    server, environment, cause = UNTRUSTED[name]
    job = job_on(small_archive, tls=server(authority, tmp_path))
    run_inside(job.command, "init", str(job.manifest))
    command = job.command.with_environment(**environment)

    for number, words in enumerate((["run", "--workers", "8"], ["auth", "verify"], ["manifest", "list"]), 1):
        told = run_inside(command, *words, code=5).err
        assert cause in told
        assert "--ca-bundle FILE" in told
        assert job.simulator.connections == number
    assert job.simulator.requests == []
    assert all_pending(job)


def test_with_a_token_at_hand_few_workers_find_out_that_nobody_is_to_be_trusted(
    job_on: JobOn, small_archive: Archive, authority: Authority
) -> None:
    """C4 C9: eight workers, no request for a token before them, and two connections at most; none is retried."""
    job = job_on(small_archive, tls=authority.server()).with_settings(
        ceda_client__min_request_spacing_ms=500, ceda_client__max_concurrent_requests=8
    )
    run_inside(job.command, "init", str(job.manifest))

    told = job.command.with_environment(CEDA_TOKEN="a.b.c")("run", "--workers", "8", code=5)

    assert "--ca-bundle FILE" in told.err
    assert 1 <= job.simulator.connections <= 2
    assert all_pending(job)


# --- proxies


@dataclass(frozen=True)
class Campus:
    """A job whose archive can be reached only through a proxy."""

    job: JobOnTrial
    proxy: Proxy
    bundle: Path

    def command(self, proxy_url: str, **environment: str) -> Command:
        return self.job.command.with_environment(
            MIDASDL_CEDA__ARCHIVE_URL=f"https://{ARCHIVE}/badc/ukmo-midas-open",
            MIDASDL_CEDA__TOKEN_URL=f"https://{TOKENS}/api/token/create/",
            MIDASDL_CEDA__LISTING_URL=f"https://{LISTING}/listing/badc/ukmo-midas-open",
            REQUESTS_CA_BUNDLE=str(self.bundle),
            HTTPS_PROXY=proxy_url,
            NO_PROXY="",
            **environment,
        )


@pytest.fixture
def campus(job_on: JobOn, small_archive: Archive, authority: Authority) -> Iterator[Campus]:
    job = job_on(small_archive, tls=authority.server(ARCHIVE, TOKENS, LISTING))
    routes = {f"{host}:443": job.simulator.port for host in (ARCHIVE, TOKENS, LISTING)}
    with Proxy(PASSWORD, routes) as proxy:
        yield Campus(job, proxy, authority.bundle)


def hunt_with(command: Command) -> Hunt:
    """Neither the proxy's password nor a wrong one may be seen."""
    hunt = Hunt(command)
    hunt.never("proxy's password", PASSWORD)
    hunt.never("wrong password", WRONG)
    return hunt


def test_the_whole_job_works_through_a_proxy_and_its_password_is_nowhere(campus: Campus) -> None:
    """C4 I6: sign-in, listing, manifest and files by CONNECT, to hosts that only the proxy can find."""
    hunt = hunt_with(campus.command(campus.proxy.url()))

    for words in (
        ("auth", "verify", "-vv"),
        ("doctor", "-vv"),
        ("init", "latest", "--dest", "data-root", "-vv"),
        ("run", "--workers", "2", "-vv"),
        ("status", "--json", "-vv"),
        ("sql", "SELECT * FROM run", "--json"),
    ):
        hunt.run(*words)

    assert campus.job.is_complete
    assert {target for target, _ in campus.proxy.asked} == {
        f"{host}:443" for host in (ARCHIVE, TOKENS, LISTING)
    }
    assert {status for _, status in campus.proxy.asked} == {200}
    assert campus.job.simulator.connections == len(campus.proxy.asked), "nobody went round it"
    assert hunt.finds() == []


@pytest.mark.parametrize(
    ("password", "refusal", "cause"),
    [
        (WRONG, None, "wants a user name and a password, or others than it was given (407)"),
        in_soaks(None, None, "wants a user name and a password, or others than it was given (407)"),
        (PASSWORD, "403 Forbidden", "refuses to connect us (403)"),
    ],
    ids=["wrong password", "no password", "refused"],
)
@pytest.mark.parametrize("credentials", [{}, in_soaks({"CEDA_TOKEN": "a.b.c"})], ids=["account", "token"])
def test_a_proxy_that_lets_nobody_through_ends_the_run_at_once(
    campus: Campus, credentials: dict[str, str], password: str | None, refusal: str | None, cause: str
) -> None:
    """C4 C9 I6: asked once or twice, exit 5 with the place of the password and not the password; no task has failed."""
    campus.proxy.refusal = refusal
    address = campus.proxy.anonymous_url if password is None else campus.proxy.url(password)
    job = campus.job.with_settings(
        ceda_client__min_request_spacing_ms=500, ceda_client__max_concurrent_requests=8
    )
    run_inside(job.command, "init", str(job.manifest))
    hunt = hunt_with(replace(campus, job=job).command(address, **credentials))

    for words in (
        ("run", "--workers", "8", "-vv"),
        ("auth", "verify", "-vv", "--json"),
        ("manifest", "list", "-vv"),
    ):
        before = len(campus.proxy.asked)
        ended = hunt.run(*words, code=5)
        told = ended.err + ended.out
        assert cause in told
        assert "HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT" in told
        assert 1 <= len(campus.proxy.asked) - before <= (2 if words[0] == "run" else 1)
    assert job.simulator.connections == 0
    assert all_pending(job)
    assert hunt.finds() == []


@pytest.mark.parametrize(
    "address",
    [f"http://me:{PASSWORD}@127.0.0.1:9", f"http://me:7/{WRONG}@127.0.0.1:9", f"gopher://me:{WRONG}@[::1"],
    ids=["unquoted", "looks like a port", "no address"],
)
def test_a_proxy_that_is_no_address_is_told_without_its_password(campus: Campus, address: str) -> None:
    """C4 I6: signs that belong written as %2F make half a password a host or a port, and libraries repeat those."""
    hunt = hunt_with(campus.command(address))
    for part in PASSWORD, WRONG:
        hunt.never("beginning of a password", part.partition("@")[0].partition("/")[2])
        hunt.never("end of a password", part.rpartition("?")[2])

    told = hunt.run("auth", "verify", "-vv", code=2).err
    hunt.run("doctor", "-vv", code=1)

    assert "The proxy that the environment names cannot be used" in told
    assert "%40 %3A %2F" in told
    assert campus.proxy.asked == []
    assert hunt.finds() == []


@pytest.mark.parametrize(("no_proxy", "goes_through"), [("", True), ("10.0.0.1,127.0.0.1", False)])
def test_no_proxy_names_hosts_that_are_reached_without_one(
    job_on: JobOn, small_archive: Archive, authority: Authority, no_proxy: str, *, goes_through: bool
) -> None:
    """C4: yes and no."""
    job = job_on(small_archive, tls=authority.server())
    target = f"127.0.0.1:{job.simulator.port}"
    with Proxy(PASSWORD, {target: job.simulator.port}) as proxy:
        around = {"HTTPS_PROXY": proxy.url(), "NO_PROXY": no_proxy}
        run_inside(
            job.command.with_environment(**around), "manifest", "list", "--ca-bundle", str(authority.bundle)
        )
        assert proxy.asked == ([(target, 200)] if goes_through else [])


# --- .netrc


def test_netrc_changes_nothing_that_is_sent(job: JobOnTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    """C4: no credentials for the listing, the account's for the token service, the token for files and manifest."""
    home = job.folder / "home"
    home.mkdir()
    netrc = home / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\ndefault login someone password other\n")
    netrc.chmod(0o600)
    shown: set[tuple[str, str | None]] = set()
    reply = Site.reply

    def watched(site: Site, request: Request) -> Reply:
        kind, _, value = (request.authorization or "").partition(" ")
        shown.add((request.route, base64.b64decode(value).decode() if kind == "Basic" else kind))
        return reply(site, request)

    monkeypatch.setattr(Site, "reply", watched)
    job.command("auth", "verify")
    job.command("init", "latest", "--dest", "data-root", "--kind", "capability")
    job.command("run", "--workers", "1")

    assert shown == {("listing", ""), ("token", "researcher:rain-or-shine"), ("download", "Bearer")}
