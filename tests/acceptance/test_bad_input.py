"""U1, W6: whatever is wrong, one clear sentence says so, the exit code tells which kind, and nothing is lost."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from tests.acceptance.conftest import JobOnTrial
from tests.conftest import ACCOUNT, Archive
from tests.support.command import Command, Ended

UNTOUCHED = "SELECT count(*) FROM task WHERE state = 'pending' AND attempts = 0"


def tells(ended: Ended, *words: str) -> bool:
    """One sentence (and a hint) on stderr, after what a run says of the disk; nothing on stdout."""
    said = [line for line in ended.err.splitlines() if not line.startswith("Free space: ")]
    return ended.out == "" and len(said) <= 2 and all(word in ended.err for word in words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ("no manifest",)),
        (b"", ("is empty",)),
        (os.urandom(40_000), ("does not look like md5sum output",)),
        (b"<html><title>Login</title></html>\n", ("does not look like md5sum output", "HTML")),
        (b"\x1f\x8bnonsense", ("gzip",)),
    ],
    ids=["missing", "empty", "binary", "login-page", "damaged-gzip"],
)
def test_a_manifest_that_is_none_is_refused(
    command: Command, content: bytes | None, words: tuple[str, ...]
) -> None:
    """M1 M2: exit 2, and no ledger is left behind."""
    if content is not None:
        (command.folder / "manifest.txt").write_bytes(content)

    ended = command("init", "manifest.txt", code=2)

    assert tells(ended, "manifest.txt", *words)
    assert not list(command.folder.glob("progress.db*"))


def test_a_folder_is_no_manifest(command: Command) -> None:
    """M1: exit 2."""
    assert tells(command("init", ".", code=2), "is a folder, not a manifest")


def test_a_selection_that_matches_nothing_suggests_near_names(job: JobOnTrial) -> None:
    """M3: exit 2, and nothing is loaded."""
    county = next(path.split("/")[3] for _, path in job_lines(job) if "/qc-version-" in path)

    ended = job.command("init", str(job.manifest), "--county", f"{county}x", code=2)

    assert tells(ended, f"{county}x", f"'{county}'")
    assert not job.ledger.exists()


def test_strict_loads_nothing_when_a_line_is_bad(job: JobOnTrial) -> None:
    """M2: exit 2 with the line and the reason; without it the line becomes a row."""
    manifest = job.folder / "manifest.txt"
    manifest.write_text("what is this\n" + job.manifest.read_text())

    strict = job.command("init", "manifest.txt", "--strict", code=2)
    relaxed = job.command("init", "manifest.txt")

    assert tells(strict, "line 1", "--strict")
    assert "1 line cannot be used" in relaxed.out
    assert job.rows("SELECT line_no, text FROM reject") == [(1, "what is this")]


@pytest.mark.parametrize(
    "words", [["run"], ["resume"], ["status"], ["retry"], ["sql", "SELECT 1"]], ids=lambda w: w[0]
)
def test_without_a_ledger_every_command_says_how_to_make_one(command: Command, words: list[str]) -> None:
    """W6: exit 6, and no empty ledger appears."""
    assert tells(command(*words, code=6), "no ledger", "midasdl init")
    assert not list(command.folder.glob("progress.db*"))


def test_a_ledger_that_is_no_database_is_left_alone(command: Command, small_archive: Archive) -> None:
    """W6: exit 6 for each command, and the file stays as it was."""
    precious = command.folder / "progress.db"
    precious.write_text("My precious notes.\n")

    for words in (["run"], ["status"], ["init", str(small_archive.manifest)]):
        assert tells(command(*words, code=6), "not a ledger")
    assert precious.read_text() == "My precious notes.\n"


def test_a_database_of_another_program_is_left_alone(command: Command, small_archive: Archive) -> None:
    """W6: exit 6."""
    with sqlite3.connect(command.folder / "progress.db") as database:
        database.execute("CREATE TABLE task (id INTEGER)")
    database.close()
    before = (command.folder / "progress.db").read_bytes()

    assert tells(command("init", str(small_archive.manifest), code=6), "another program")
    assert (command.folder / "progress.db").read_bytes() == before


def test_a_ledger_from_the_future_is_refused(job: JobOnTrial) -> None:
    """L8: exit 6, with the way to upgrade."""
    job.init()
    with sqlite3.connect(job.ledger) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()

    for words in (["run"], ["status"], ["sql", "SELECT 1"]):
        assert tells(job.command(*words, code=6), "newer midasdl", "9999", "pip install --upgrade midasdl")


def test_a_data_root_that_cannot_be_made_stops_the_run_before_any_request(job: JobOnTrial) -> None:
    """S7: exit 4, no request, every task still pending."""
    (job.folder / "data-root").write_text("a file where the folder should be")
    job.init()

    ended = job.command("run", code=4)

    assert tells(ended, "data-root")
    assert job.simulator.requests == []
    assert job.one(UNTOUCHED) == job.one("SELECT count(*) FROM task") > 0


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
def test_a_data_root_that_may_not_be_written_stops_the_run_before_any_request(job: JobOnTrial) -> None:
    """S7: exit 4; root may write anywhere, so for root the folder is in a file system that nobody can write."""
    root = job.folder / "data-root"
    root.mkdir()
    root.chmod(0o555)
    target = "data-root" if os.geteuid() else "/proc/midas-open"
    job.command("init", str(job.manifest), "--dest", target)

    ended = job.command("run", code=4)

    assert tells(ended, Path(target).name)
    assert job.simulator.requests == []


def test_a_wrong_password_is_tried_once(job: JobOnTrial) -> None:
    """C3: exit 3 with the account's name, one request, every task still pending, the password nowhere."""
    job.init()

    ended = job.command.with_environment(CEDA_PASSWORD="hunter2-wrong")("run", code=3)

    assert tells(ended, "password", "'researcher'", "CEDA_PASSWORD")
    assert "hunter2-wrong" not in ended.err
    assert [(record.route, record.status) for record in job.simulator.requests] == [("token", 401)]
    assert job.one(UNTOUCHED) == job.one("SELECT count(*) FROM task")


def test_without_credentials_nothing_is_asked(job: JobOnTrial) -> None:
    """C1: exit 3, and how to give them."""
    job.init()

    ended = job.command.without(*ACCOUNT)("run", code=3)

    assert tells(ended, "no credentials", "CEDA_USERNAME", ".env")
    assert job.simulator.requests == []


def test_a_token_of_the_users_that_is_refused_stops_the_run(job: JobOnTrial) -> None:
    """C2 C3: it is never replaced; exit 3, every task still pending, the token nowhere."""
    job.init()

    ended = job.command.with_environment(CEDA_TOKEN="tok-of-yesterday")("run", "--workers", "2", code=3)

    assert "CEDA_TOKEN" in ended.err
    assert "tok-of-yesterday" not in ended.err + ended.out
    assert {record.route for record in job.simulator.requests} == {"download"}
    assert job.one(UNTOUCHED) == job.one("SELECT count(*) FROM task")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["fetch"], "invalid choice: 'fetch'"),
        (["run", "--wrokers", "3"], "--wrokers"),
        (["run", "--workers", "many"], "many"),
        (["run", "--workers", "0"], "performance.workers.count"),
        (["init"], "MANIFEST"),
        (["init", "m.txt", "--year", "nineteen"], "nineteen"),
        (["init", "m.txt", "--kind", "dta"], "data"),
        (["sql"], "QUERY"),
        (["retry", "--class", "timeot"], "timeot"),
        (["--config", "none.toml", "run"], "none.toml"),
        (["--ledger"], "--ledger"),
        (["simulate", "--root", "nowhere"], "nowhere"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_a_command_line_that_cannot_be_understood_is_explained(
    job: JobOnTrial, words: list[str], told: str
) -> None:
    """U1: exit 2."""
    job.init()

    assert tells(job.command(*words, code=2), told)


def test_settings_that_cannot_be_used_are_told_together(job: JobOnTrial) -> None:
    """F3: exit 2, naming each key, and the near one for an unknown."""
    job.init()
    command = job.with_settings(workers__coun=2, ceda_client__min_request_spacing_ms="fast").command

    ended = command("run", code=2)

    first, second, third, _ = ended.err.splitlines()
    assert first == "midasdl: These settings cannot be used:"
    assert "did you mean performance.workers.count" in second + third
    assert "min_request_spacing_ms = 'fast'" in second + third


def test_dotenv_gives_credentials_and_settings(job: JobOnTrial, small_archive: Archive) -> None:
    """C1: .env is read, and the environment beats it."""
    job.init()
    lines = [f"{name}={value}" for name, value in ACCOUNT.items()]
    (job.folder / ".env").write_text("\n".join([*lines, "MIDASDL_PERFORMANCE__WORKERS__COUNT=3"]))

    job.command.without(*ACCOUNT)("run")

    assert job.is_complete
    assert job.one("SELECT count(*) FROM worker WHERE role = 'worker'") == 3


def job_lines(job: JobOnTrial) -> list[tuple[str, str]]:
    return Archive(job.manifest.parent, job.manifest).lines


def test_a_server_of_another_user_cannot_be_reached_in_plain_http(
    command: Command, small_archive: Archive
) -> None:
    """C4: a token never travels in clear; exit 2."""
    command = command.with_environment(MIDASDL_CEDA__ARCHIVE_URL="http://archive.example.org/midas")

    assert tells(command("init", str(small_archive.manifest), code=2), "https")
