"""M8: `midasdl manifest list|fetch` and `midasdl init latest`: from CEDA's listing to a checked manifest."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from midasdl.simulator import Fault, Simulator, make_archive
from tests.conftest import ACCOUNT
from tests.support.command import Command, Ended, kill_group
from tests.support.inside import run_inside
from tests.support.programs import md5sum_agrees

NAME = "midas-open-v202407-md5s.txt"
OLDER = "midas-open-v202307-md5s.txt"
FAST = {"MIDASDL_PERFORMANCE__CEDA_CLIENT__BACKOFF__BASE_BACKOFF_MS": "10"}


class Shelf:
    """A CEDA with two releases, and the command in a folder."""

    def __init__(self, command: Command, simulator: Simulator, root: Path) -> None:
        self.command = command.with_environment(**simulator.environment(), **FAST)
        self.simulator = simulator
        self.root = root
        self.folder = command.folder

    def __call__(self, *words: str, code: int = 0, **environment: str) -> Ended:
        """The command inside this process; `command` is the real one."""
        return run_inside(self.command.with_environment(**environment), *words, code=code)

    @property
    def asked(self) -> list[tuple[str, int]]:
        return [(record.route, record.status) for record in self.simulator.requests]

    @property
    def downloads(self) -> int:
        return sum(route == "download" for route, _ in self.asked)

    @property
    def files(self) -> list[str]:
        """What the command has left in its folder."""
        return sorted(path.name for path in self.folder.iterdir() if path.name != "cache")

    def is_whole(self, path: Path, name: str = NAME) -> bool:
        return path.read_bytes() == (self.root / name).read_bytes()


@pytest.fixture(scope="module")
def releases_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two releases: the manifest of one of them has its files."""
    root = tmp_path_factory.mktemp("releases")
    make_archive(root, 60, seed=3, mean_kb=1)
    (root / OLDER).write_text("0123456789abcdef0123456789abcdef  ./data/a.csv\n")
    os.utime(root / OLDER, (1_690_000_000, 1_690_000_000))
    return root


@pytest.fixture
def shelf_with(command: Command, releases_root: Path) -> Iterator[Callable[..., Shelf]]:
    with ExitStack() as stack:

        def make(**simulator: Any) -> Shelf:
            running = stack.enter_context(Simulator(releases_root, **simulator))
            return Shelf(command, running, releases_root)

        yield make


@pytest.fixture
def shelf(shelf_with: Callable[..., Shelf]) -> Shelf:
    return shelf_with()


# --- list


@pytest.mark.effect_of("ceda.listing_url")
def test_m8_list_shows_releases_with_size_and_date_without_an_account(shelf: Shelf) -> None:
    """One request, no credentials."""
    told = shelf.command.without(*ACCOUNT)("manifest", "list").out.splitlines()

    assert [line.split()[0] for line in told] == ["release", "202307", "202407"]
    assert re.fullmatch(rf"202307 +47 B +2023-07-22 +{OLDER}", told[1])
    assert shelf.asked == [("listing", 200)]
    assert shelf.simulator.requests[0].token is None
    assert shelf.files == []


def test_u3_list_as_records(shelf: Shelf) -> None:
    records = shelf("manifest", "list", "--json").records

    assert [(record["kind"], record["release"]) for record in records] == [
        ("release", "202307"),
        ("release", "202407"),
    ]
    assert records[0]["size_bytes"] == 47
    assert records[0]["md5"] == hashlib.md5((shelf.root / OLDER).read_bytes()).hexdigest()
    assert records[0]["modified_at"] == "2023-07-22T04:26:40Z"


def test_m8_a_listing_that_fails_for_a_while_is_asked_again(shelf: Shelf) -> None:
    shelf.simulator.add_fault(Fault("status", route="listing", status=500))
    shelf.simulator.add_fault(Fault("html-200", route="listing"))

    ended = shelf("manifest", "list")

    assert shelf.asked == [("listing", 500), ("listing", 200), ("listing", 200)]
    assert "an error of its own" in ended.err
    assert "a web page instead of a listing" in ended.err


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (Fault("status", route="listing", status=504, times=None), 5, ["overloaded or down", "later"]),
        (Fault("status", route="listing", status=404, times=None), 5, ["ceda.listing_url"]),
        (Fault("login-page", route="listing", times=None), 5, ["web page instead of a listing"]),
        (
            Fault(
                "status", route="listing", status=200, body='{"items": []}', content_type="application/json"
            ),
            2,
            ["no release of MIDAS Open", "ceda.listing_url"],
        ),
    ],
    ids=["away", "not-there", "login-page", "empty"],
)
def test_u1_a_listing_that_cannot_be_had_is_explained(
    shelf: Shelf, fault: Fault, code: int, words: list[str]
) -> None:
    shelf.simulator.add_fault(fault)

    ended = shelf("manifest", "list", code=code)

    assert all(word in ended.err for word in words), ended.err


# --- fetch


def test_m8_fetch_brings_the_latest_manifest_checked_and_whole(shelf: Shelf) -> None:
    told = shelf.command("manifest", "fetch")

    path = shelf.folder / NAME
    assert shelf.is_whole(path)
    assert path.stat().st_mtime == (shelf.root / NAME).stat().st_mtime
    assert shelf.files == [NAME]
    assert shelf.asked == [("listing", 200), ("token", 200), ("download", 200)]
    assert "size and md5 as CEDA lists them" in told.out
    assert f"Next: midasdl init {NAME}" in told.out


def test_m8_a_manifest_that_is_there_already_is_not_downloaded(shelf: Shelf) -> None:
    """No download, no token, no credentials needed; and it says so."""
    shelf("manifest", "fetch")
    shelf.simulator.clear_requests()
    before = (shelf.folder / NAME).stat()

    told = shelf("manifest", "fetch", CEDA_PASSWORD="").out
    record = shelf("manifest", "fetch", "--json").record("manifest")

    assert "already; nothing was downloaded" in told
    assert record["downloaded"] is False
    assert shelf.asked == [("listing", 200), ("listing", 200)]
    assert (shelf.folder / NAME).stat().st_ino == before.st_ino


def test_m8_a_manifest_that_is_there_and_differs_is_replaced(shelf: Shelf) -> None:
    (shelf.folder / NAME).write_text("half of it")

    shelf("manifest", "fetch")

    assert shelf.is_whole(shelf.folder / NAME)


@pytest.mark.parametrize("wanted", ["202307", "v202307", OLDER])
def test_m8_an_older_release_is_fetched_by_name(shelf: Shelf, wanted: str) -> None:
    record = shelf("manifest", "fetch", wanted, "--json").record("manifest")

    assert shelf.is_whole(shelf.folder / OLDER, OLDER)
    assert (record["release"], record["path"], record["downloaded"]) == ("202307", OLDER, True)
    assert record["checked"] == "size and md5"


@pytest.mark.parametrize(
    ("output", "where"),
    [("mine.txt", "mine.txt"), ("new/folder/mine.txt", "new/folder/mine.txt"), ("new/", f"new/{NAME}")],
)
def test_m8_output_names_a_file_or_a_folder(shelf: Shelf, output: str, where: str) -> None:
    shelf("manifest", "fetch", "--output", output)

    assert shelf.is_whole(shelf.folder / where)


def test_m8_an_unknown_release_is_answered_with_the_known_ones(shelf: Shelf) -> None:
    ended = shelf("manifest", "fetch", "202501", code=2)

    assert "202307, 202407" in ended.err
    assert "midasdl manifest list" in ended.err
    assert shelf.downloads == 0


@pytest.mark.parametrize(
    "fault",
    [
        Fault("corrupt", path=f"*{NAME}"),
        Fault("short", path=f"*{NAME}"),
        Fault("truncate", path=f"*{NAME}"),
        Fault("login-page", path=f"*{NAME}"),
        Fault("html-200", path=f"*{NAME}"),
        Fault("status", path=f"*{NAME}", status=503),
        Fault("chunked", path=f"*{NAME}"),
        Fault("gzip", path=f"*{NAME}"),
    ],
    ids=lambda fault: fault.action,
)
def test_m8_whatever_goes_wrong_once_the_manifest_is_right_in_the_end(shelf: Shelf, fault: Fault) -> None:
    """S2: nothing wrong is ever seen under its name, and no part file stays."""
    shelf.simulator.add_fault(fault)

    shelf("manifest", "fetch")

    assert shelf.is_whole(shelf.folder / NAME)
    assert shelf.files == [NAME]


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (Fault("corrupt", path=f"*{NAME}", times=None), 1, ["the listing says md5", "try again"]),
        (Fault("short", path=f"*{NAME}", times=None), 5, ["the listing says", "bytes, CEDA sent"]),
        (Fault("status", path=f"*{NAME}", status=404, times=None), 5, ["there is no such file"]),
        (Fault("status", path=f"*{NAME}", status=403, times=None), 3, ["licence", "midasdl auth verify"]),
        (Fault("status", route="token", status=401, times=None), 3, ["does not accept the password"]),
        (Fault("login-page", path=f"*{NAME}", times=None), 3, ["does not accept it"]),
    ],
    ids=["corrupt", "short", "missing", "forbidden", "wrong-password", "login-page"],
)
def test_m8_a_manifest_that_cannot_be_had_leaves_what_was_there(
    shelf: Shelf, fault: Fault, code: int, words: list[str]
) -> None:
    """S2 C3: the old file stays as it is; at most one request and the retries."""
    (shelf.folder / NAME).write_text("the old one")
    shelf.simulator.add_fault(fault)

    ended = shelf("manifest", "fetch", code=code)

    assert all(word in ended.err for word in words), ended.err
    assert (shelf.folder / NAME).read_text() == "the old one"
    assert shelf.files == [NAME]
    assert shelf.downloads <= 4


def test_m8_fetch_without_credentials_says_how_to_store_some(shelf: Shelf) -> None:
    ended = run_inside(shelf.command.without(*ACCOUNT), "manifest", "fetch", code=3)

    assert "midasdl auth setup" in ended.err
    assert shelf.downloads == 0


def test_m8_a_place_that_cannot_be_written_is_told_before_the_download(shelf: Shelf) -> None:
    """S7: exit 4, with the option that helps."""
    (shelf.folder / "file").write_text("")

    ended = shelf("manifest", "fetch", "--output", "file/below.txt", code=4)

    assert "--output" in ended.err
    assert shelf.downloads == 0


def test_m8_a_killed_fetch_leaves_no_file_and_the_next_one_cleans_up(shelf: Shelf) -> None:
    """S2: kill -9 in the middle of the body."""
    shelf.simulator.add_fault(Fault("stall", path=f"*{NAME}", bytes=4_000, seconds=60))
    in_crumbs = shelf.command.with_settings(memory__download_chunk_size=512)
    running = in_crumbs.start("manifest", "fetch")
    try:
        _wait_until(lambda: any(path.stat().st_size for path in shelf.folder.glob(".*.part")))
    finally:
        kill_group(running)
    assert not (shelf.folder / NAME).exists()

    shelf("manifest", "fetch")

    assert shelf.is_whole(shelf.folder / NAME)
    assert shelf.files == [NAME]


def test_c5_with_a_ledger_requests_pass_its_gate(shelf: Shelf) -> None:
    """Every start is counted in the ledger that a run would share."""
    (shelf.folder / "m.txt").write_text("0123456789abcdef0123456789abcdef  ./data/a.csv\n")
    shelf("init", "m.txt")

    shelf(
        "manifest",
        "fetch",
        MIDASDL_PERFORMANCE__CEDA_CLIENT__MIN_REQUEST_SPACING_MS="1",
    )

    workers = shelf("sql", "SELECT role, name, state FROM worker", "--format", "csv").out
    assert workers.splitlines()[1:] == ["command,manifest,stopped"]


# --- init latest


def test_m8_init_latest_fetches_and_loads(shelf: Shelf) -> None:
    """From nothing to a finished archive in two commands."""
    told = shelf.command("init", "latest", "--dest", "data-root", "--json")
    shelf.command("run", "--workers", "1")

    assert [record["kind"] for record in told.records] == ["manifest", "init"]
    assert told.record("init")["files"] == 60
    assert shelf.is_whole(shelf.folder / NAME)
    assert md5sum_agrees(shelf.folder / "data-root", shelf.folder / NAME)


def test_m8_init_latest_again_downloads_nothing(shelf: Shelf) -> None:
    shelf("init", "latest")
    shelf.simulator.clear_requests()

    told = shelf("init", "latest").out

    assert "nothing was downloaded" in told
    assert "60 unchanged" in told
    assert shelf.downloads == 0


def test_m8_init_latest_that_fails_leaves_no_ledger(shelf: Shelf) -> None:
    shelf.simulator.add_fault(Fault("status", route="token", status=401, times=None))

    shelf("init", "latest", code=3)

    assert shelf.files == []


@pytest.mark.parametrize("words", [["manifest", "list"], ["manifest", "fetch"]], ids=" ".join)
def test_u1_each_action_has_examples_in_its_help(command: Command, words: list[str]) -> None:
    told = run_inside(command, *words, "--help").out

    assert f"midasdl {' '.join(words)}" in told.split("examples:")[1]


def test_u1_a_missing_manifest_is_answered_with_how_to_get_one(command: Command) -> None:
    ended = run_inside(command, "init", "nowhere.txt", code=2)

    assert "midasdl manifest fetch" in ended.err
    assert "midasdl init latest" in ended.err


def _wait_until(condition: Callable[[], bool]) -> None:
    """Poll for at most 30 s, which is long for a machine that does many things at the same time."""
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s, "it never came"
        time.sleep(0.02)
