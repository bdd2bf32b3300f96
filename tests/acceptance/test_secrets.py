"""C1: the secret hunt. Passwords and tokens are nowhere but in `.env` and in the token cache."""

from __future__ import annotations

import base64
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from midasdl.cli.main import COMMANDS
from midasdl.simulator import Account, Fault, Simulator
from tests.conftest import ACCOUNT, Archive
from tests.support.command import Command
from tests.support.hunt import Hunt, forms_of
from tests.support.soaks import in_soaks

USERNAME = "Hunted-User"
PASSWORD = f"Pw{secrets.token_hex(6)} 'é\"#$&%\\{secrets.token_hex(6)}"
WRONG = f"Wr{secrets.token_hex(6)} '\"#$&%\\{secrets.token_hex(6)}"
GIVEN_TOKEN = f"tok.{secrets.token_hex(16)}.{secrets.token_hex(32)}"
PROXY_PASSWORD = f"Px{secrets.token_hex(12)}"
PAIR = f"{USERNAME}\n{PASSWORD}\n".encode()
WITHOUT_CORE = (
    "import resource, sys; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); import midasdl.cli.main as main; "
    "sys.exit(main.main())"
)
LOUD = ("-vv",)
JSON = ("-vv", "--json")


class Prey:
    """A simulator, and the hunt in a folder beside it."""

    def __init__(self, hunt: Hunt, simulator: Simulator, manifest: Path) -> None:
        self.hunt = hunt
        self.simulator = simulator
        self.manifest = manifest

    def with_environment(self, **names: str) -> None:
        self.hunt.command = self.hunt.command.with_environment(**names)

    def run(self, *words: str, **how: Any) -> None:
        self.hunt.run(*words, **how)

    def assert_clean(self) -> None:
        assert self.hunt.finds() == []


@pytest.fixture
def prey_of(command: Command, small_archive: Archive, tmp_path: Path) -> Iterator[Callable[..., Prey]]:
    """``prey_of(faults=[...])``: password, wrong password, token and proxy's password are hunted."""
    with ExitStack() as stack:

        def make(**simulator: Any) -> Prey:
            account = Account(USERNAME, PASSWORD)
            log = tmp_path / "requests.jsonl"
            running = stack.enter_context(
                Simulator(small_archive.root, account=account, log_path=log, **simulator)
            )
            settings = {
                "MIDASDL_PERFORMANCE__CEDA_CLIENT__BACKOFF__BASE_BACKOFF_MS": "10",
                "MIDASDL_PERFORMANCE__CEDA_CLIENT__BACKOFF__MAX_RETRIES": "1",
                "MIDASDL_HISTORY__KEEP": "all",
                "MIDASDL_LOGGING__LEVEL": "debug",
                "MIDASDL_LOGGING__FILE": "run.jsonl",
                "MIDASDL_LOGGING__TEXT_FILE": "run.log",
                "MIDASDL_METRICS__STATUS_FILE": "status.json",
                "MIDASDL_METRICS__INTERVAL_SECONDS": "0.1",
                "PYTHONFAULTHANDLER": "1",
            }
            hunt = Hunt(command.without(*ACCOUNT).with_environment(**running.environment(), **settings))
            hunt.never("password", PASSWORD)
            hunt.never("wrong password", WRONG)
            hunt.never("name and password", f"{USERNAME}:{PASSWORD}")
            hunt.never("given token", GIVEN_TOKEN)
            hunt.never("proxy's password", PROXY_PASSWORD)
            return Prey(hunt, running, small_archive.manifest)

        yield make


# --- the hunt itself


@pytest.mark.parametrize(
    "disguise",
    [
        lambda text: text.encode(),
        lambda text: base64.b64encode(f"user:{text}".encode()),
        lambda text: base64.b64encode(f"users:{text}".encode()),
        lambda text: base64.b64encode(f"a.user:{text}:and more".encode()),
        lambda text: base64.urlsafe_b64encode(text.encode()),
        lambda text: repr({"password": text}).encode(),
        lambda text: text.encode().hex().encode(),
    ],
)
def test_c1_the_hunt_finds_a_secret_in_any_disguise(disguise: Callable[[str], bytes]) -> None:
    """Yes and no: a search that finds nothing must be able to find something."""
    forms = forms_of(PASSWORD)

    assert any(form in b"before " + disguise(PASSWORD) + b" after" for form in forms)
    assert not any(form in b"before " + disguise(WRONG) + b" after" for form in forms)
    assert min(map(len, forms)) > 20


def test_c1_the_hunt_sees_command_lines(command: Command) -> None:
    hunt = Hunt(command)
    hunt.never("password", PASSWORD)
    waiting = "import sys; print(flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", waiting, f"--password={PASSWORD}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        hunt.look_at_command_lines()
    finally:
        process.communicate()

    assert hunt.finds() == [("command line of a process", ["password"])]


# --- when all is well


def test_c1_every_command_that_succeeds_keeps_every_secret(prey_of: Callable[..., Prey]) -> None:
    """All commands from setup to clear, loud and as JSON: output, ledger, WAL, logs, requests, command lines."""
    prey = prey_of()
    prey.simulator.add_fault(Fault("status", status=500, route="download", path="*.csv", after=5, times=4))
    prey.simulator.add_fault(Fault("expire-token", route="download", path="*.csv", after=20))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    prey.hunt.pages = [f"http://127.0.0.1:{port}/{page}" for page in ("", "status", "metrics", "healthz")]
    root = str(prey.hunt.folder / "to-serve")
    Path(root).mkdir()
    story: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        (("auth", "setup", *LOUD), {"stdin": PAIR}),
        (("auth", "setup", *JSON), {"stdin": PAIR}),
        (("auth", "verify", *LOUD), {}),
        (("auth", "verify", *JSON), {}),
        (("auth", "status", *LOUD), {}),
        (("auth", "status", *JSON), {}),
        (("manifest", "list", *LOUD), {}),
        (("manifest", "fetch", *JSON), {}),
        (("init", "latest", "--dest", "data-root", *LOUD), {}),
        (("init", "latest", *JSON), {}),
        (("run", "--workers", "2", "--metrics-port", port, *LOUD), {"code": None}),
        (("retry", *JSON), {"code": None}),
        (("resume", "--workers", "1", *JSON), {"code": None}),
        (("verify", "--repair", *LOUD), {"code": None}),
        (("verify", *JSON), {"code": None}),
        (("adopt", root, *LOUD), {}),
        (("adopt", root, *JSON), {}),
        (("status", *LOUD), {}),
        (("status", *JSON), {}),
        (("report", *LOUD), {}),
        (("config", "show", "--origin", *LOUD), {}),
        (("sql", "SELECT * FROM run", *JSON), {}),
        (("sql", "SELECT * FROM setting", *LOUD), {}),
        (("doctor", *LOUD), {"code": None}),
        (("doctor", *JSON), {"code": None}),
        (("simulate", "--root", root, *LOUD), {"stop_when": "CEDA_PASSWORD"}),
        (("auth", "clear", *LOUD), {}),
        (("auth", "clear", *JSON), {}),
    ]

    for words, how in story:
        prey.run(*words, **how)
        if words[0] == "run":
            _assert_the_secrets_are_where_they_belong(prey.hunt)

    assert {words[0] for words, _ in story} >= set(COMMANDS), "a new command must join the hunt"
    assert len([name for name in prey.hunt.secrets if name.startswith("token ")]) >= 2
    assert {where for where, _ in prey.hunt.heard} >= set(prey.hunt.pages)
    for name in ("run.jsonl", "run.log", "status.json", "report.html"):
        assert (prey.hunt.folder / name).stat().st_size > 1_000, name
    assert len(prey.hunt.processes_seen) > len(story)
    assert prey.hunt.bytes_searched > 10_000
    prey.assert_clean()


def _assert_the_secrets_are_where_they_belong(hunt: Hunt) -> None:
    """The hunt would see them: without its blind spots it finds exactly these."""
    seeing = Hunt(hunt.command, hideouts=())
    seeing.secrets = hunt.secrets
    places = {Path(where).name for where, _ in seeing.finds()}

    assert ".env" in places
    assert all(name == ".env" or name.startswith("token-") for name in places), places


# --- when it is not

FAILURES: dict[str, tuple[dict[str, str], list[Fault], list[tuple[tuple[str, ...], bytes]]]] = {
    "wrong password": (
        {"CEDA_USERNAME": USERNAME, "CEDA_PASSWORD": WRONG},
        [],
        [
            (("auth", "setup", *LOUD), f"{USERNAME}\n{WRONG}\n".encode()),
            (("run", "--workers", "1", *LOUD), b""),
            (("resume", "--workers", "1", *JSON), b""),
        ],
    ),
    "token that is refused": (
        {"CEDA_TOKEN": GIVEN_TOKEN},
        [],
        [
            (("auth", "setup", "--token", *JSON), f"{GIVEN_TOKEN}\n".encode()),
            (("auth", "status", *LOUD), b""),
            (("manifest", "fetch", *LOUD), b""),
            (("run", "--workers", "1", *JSON), b""),
        ],
    ),
    "token that is none": (
        {"CEDA_TOKEN": f"{GIVEN_TOKEN} {GIVEN_TOKEN}"},
        [],
        [
            (("auth", "verify", *LOUD), b""),
            (("auth", "status", *JSON), b""),
            (("doctor", *LOUD), b""),
            (("run", *LOUD), b""),
        ],
    ),
    "secrets on the command line and where they do not belong": (
        {"CEDA_USERNAME": USERNAME, "CEDA_PASSWORD": PASSWORD, "MIDASDL_CEDA__TOKEN": GIVEN_TOKEN},
        [],
        [
            (("auth", "setup", *LOUD), PAIR.replace(b"\n", b"\x07\n")),
            (("auth", "verify", *LOUD), b""),
            (("manifest", "list", *JSON), b""),
            (("run", *JSON), b""),
        ],
    ),
    "password in a URL": (
        {"MIDASDL_CEDA__ARCHIVE_URL": f"https://{USERNAME}:{PROXY_PASSWORD}@127.0.0.1:9/badc"},
        [],
        [(("run", *LOUD), b""), (("doctor", *JSON), b""), (("auth", "verify", *JSON), b"")],
    ),
    "password that is no text": (
        {"CEDA_USERNAME": USERNAME, "CEDA_PASSWORD": f"{PASSWORD}\udcff"},
        [],
        [(("auth", "verify", *LOUD), b""), (("run", "--workers", "1", *JSON), b"")],
    ),
    "everything else that can be wrong": (
        {"CEDA_USERNAME": USERNAME, "CEDA_PASSWORD": PASSWORD},
        [],
        [
            (("init", "nowhere.txt", *LOUD), b""),
            (("status", "--ledger", "nowhere.db", *LOUD), b""),
            (("retry", "--ledger", "nowhere.db", *JSON), b""),
            (("sql", "SELECT nonsense", *LOUD), b""),
            (("verify", "--ledger", "nowhere.db", *LOUD), b""),
            (("adopt", "nowhere", *JSON), b""),
            (("report", "--output", "nowhere/report.html", *LOUD), b""),
            (("config", "check", "nowhere.toml", *LOUD), b""),
            (("simulate", "--root", "nowhere", *JSON), b""),
        ],
    ),
    "server that breaks off": (
        {
            "CEDA_USERNAME": USERNAME,
            "CEDA_PASSWORD": PASSWORD,
            "MIDASDL_PERFORMANCE__CIRCUIT_BREAKER__TIMEOUT_SECONDS": "0.2",
            "MIDASDL_RUN__SERVER_PATIENCE_SECONDS": "0",
        },
        [
            Fault("status", route="token", status=500, body=PASSWORD, times=1),
            Fault("status", path="*TOKEN_CHECK", status=500, times=2, body="<title>Debug"),
            Fault("login-page", path="*md5s.txt", times=None),
            Fault("reset", route="download", path="*.csv", times=None),
        ],
        [
            (("auth", "verify", *LOUD), b""),
            (("auth", "verify", *JSON), b""),
            (("manifest", "fetch", *LOUD), b""),
            (("run", "--workers", "1", *LOUD), b""),
        ],
    ),
    "proxy with a password": (
        {
            "CEDA_USERNAME": USERNAME,
            "CEDA_PASSWORD": PASSWORD,
            "HTTP_PROXY": f"http://proxy-user:{PROXY_PASSWORD}@127.0.0.1:9",
            "NO_PROXY": "nowhere.invalid",
            "MIDASDL_RUN__SERVER_PATIENCE_SECONDS": "1",
        },
        [],
        [
            (("auth", "verify", *LOUD), b""),
            (("manifest", "list", *JSON), b""),
            (("run", "--workers", "1", *LOUD), b""),
        ],
    ),
}


IN_SOAKS = {"token that is none", "password that is no text"}


@pytest.mark.parametrize("name", [in_soaks(name) if name in IN_SOAKS else name for name in FAILURES])
def test_c1_every_command_that_fails_keeps_every_secret(prey_of: Callable[..., Prey], name: str) -> None:
    """At -vv, with tracebacks, and as JSON."""
    environment, faults, story = FAILURES[name]
    prey = prey_of(faults=faults)
    prey.run("init", str(prey.manifest), "--kind", "capability")
    prey.with_environment(**environment)

    for words, stdin in story:
        ended = prey.hunt.run(*words, stdin=stdin, code=None)
        is_about_it = words[0] == "doctor" or words[1] == "status"
        assert is_about_it or ended.code
        assert is_about_it or "--json" not in words or ended.record("error")["exit_code"] == ended.code

    prey.assert_clean()


def test_c1_every_command_is_in_the_hunt_for_failures() -> None:
    hunted = {words[0] for _, _, story in FAILURES.values() for words, _ in story}

    assert hunted >= set(COMMANDS), "a new command must join the hunt"


def test_c1_a_worker_that_is_aborted_keeps_every_secret(prey_of: Callable[..., Prey]) -> None:
    """A crash in the middle of a download, with the token in memory: the interpreter's last words hold none."""
    prey = prey_of(faults=[Fault("stall", route="download", path="*.csv", seconds=120, times=2)])
    prey.run("auth", "setup", stdin=PAIR)
    prey.run("init", str(prey.manifest), "--kind", "capability")
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            WITHOUT_CORE,
            *("run", "--workers", "2", *LOUD),
        ],
        cwd=prey.hunt.folder,
        env=prey.hunt.command.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        with prey.hunt.watching():
            for worker in _downloading(prey, workers=2):
                os.kill(worker, signal.SIGABRT)
            out, err = process.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    prey.hunt.heard += [("stdout of the run", out), ("stderr of the run", err)]

    assert process.returncode == 0
    assert b"2 workers died" in out
    assert b"Fatal Python error: Aborted" in err
    assert b"client.py" in err
    prey.assert_clean()


def _downloading(prey: Prey, workers: int) -> list[int]:
    """The pids of the workers, once so many have begun and all are at their downloads; 60 s at most."""
    deadline_s = time.monotonic() + 60
    while True:
        database = sqlite3.connect(f"{(prey.hunt.folder / 'progress.db').as_uri()}?mode=ro", uri=True)
        rows = database.execute("SELECT pid FROM worker WHERE role = 'worker' ORDER BY id").fetchall()
        database.close()
        pids = [pid for (pid,) in rows]
        if len(pids) == workers and all(_is_connected(pid, prey.simulator.port) for pid in pids):
            return pids
        assert time.monotonic() < deadline_s, pids
        time.sleep(0.05)


def _is_connected(pid: int, port: int) -> bool:
    process = psutil.Process(pid)
    links = process.net_connections(kind="tcp") if psutil.version_info >= (6,) else process.connections("tcp")
    return any(link.raddr and link.raddr.port == port for link in links)
