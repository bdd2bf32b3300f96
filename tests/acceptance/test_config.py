"""F2, F3: the settings as a user sees them: shown with their origins, made as a file, checked, asked about."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from midasdl.config import Settings
from midasdl.config.keys import known_keys
from midasdl.errors import ExitCode
from tests.acceptance.conftest import JobOnTrial
from tests.support.command import Command
from tests.support.inside import run_inside
from tests.support.terminal import converse

COUNT = "performance.workers.count"
SPACING = "performance.ceda_client.min_request_spacing_ms"


def origins(command: Command, *words: str) -> dict[str, tuple[object, str]]:
    """Value and origin of each key."""
    records = command("config", "show", "--json", *words).records
    assert [record["key"] for record in records] == known_keys(Settings)
    return {record["key"]: (record["value"], record["origin"]) for record in records}


@pytest.fixture
def plain(command: Command) -> Command:
    """The command without any settings in its environment."""
    return command.without(*(name for name in command.environment if name.startswith("MIDASDL_")))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_reader_can_tell_for_each_value_why_it_has_it(plain: Command) -> None:
    """F3: each place in turn beats the one beneath it, and is named; nothing else changes."""
    home = {"XDG_CONFIG_HOME": str(plain.folder / "config")}
    plain = plain.with_environment(**home)
    assert {origin for _, origin in origins(plain).values()} == {"default", "profile balanced"}

    users = write(plain.folder / "config" / "midasdl" / "midasdl.toml", f"{COUNT} = 2\n{SPACING} = 222\n")
    assert origins(plain)[COUNT] == (2, str(users))
    write(plain.folder / "midasdl.toml", f"{COUNT} = 3\n")
    assert origins(plain)[COUNT] == (3, "midasdl.toml")
    assert origins(plain)[SPACING] == (222, str(users))
    write(plain.folder / ".env", "MIDASDL_PERFORMANCE__WORKERS__COUNT=5\n").chmod(0o600)
    assert origins(plain)[COUNT] == (5, ".env: MIDASDL_PERFORMANCE__WORKERS__COUNT")
    louder = plain.with_environment(MIDASDL_PERFORMANCE__WORKERS__COUNT="6")
    assert origins(louder)[COUNT] == (6, "environment: MIDASDL_PERFORMANCE__WORKERS__COUNT")
    assert origins(louder, "--profile", "conservative")["performance.profile"] == (
        "conservative",
        "command line",
    )

    (plain.folder / ".env").unlink()
    named = write(plain.folder / "named.toml", "[performance]\nprofile = 'aggressive'\n")
    only = origins(plain, "--config", str(named))
    assert only[COUNT] == (8, "profile aggressive"), "a file that is named is the only one"
    told = plain("config", "show", "--origin").out
    assert "count = 3                  # midasdl.toml" in told
    assert tomllib.loads(told)["performance"]["workers"]["count"] == 3


def test_resume_goes_on_with_what_the_last_run_had(job: JobOnTrial) -> None:
    """F3 W2: the recorded run beats the profile; what was not given then follows a profile that is named now."""
    job.init()
    job.command("run", "--workers", "1")
    before = origins(job.command, "--resume")
    assert before[COUNT] == (1, "last run")
    assert before["history.keep"] == ("exceptions", "last run")
    now = origins(job.command, "--resume", "--profile", "development")
    assert now[COUNT] == (1, "last run"), "it was given"
    assert now["history.keep"] == ("all", "profile development")


def test_a_file_to_begin_from_is_made_checked_and_never_lost(plain: Command) -> None:
    """F3: config init leaves what is there unless it is told; config check names every fault."""
    assert "Wrote midasdl.toml" in plain("config", "init").out
    assert "it gives 0 settings" in plain("config", "check", "midasdl.toml").out
    path = plain.folder / "midasdl.toml"
    path.write_text(path.read_text().replace("#count = 4", "count = 3"))
    assert "it gives 1 setting." in plain("config", "check", "midasdl.toml").out
    assert origins(plain)[COUNT] == (3, "midasdl.toml")

    refused = plain("config", "init", code=ExitCode.USAGE)
    assert "left as it is" in refused.err
    assert "midasdl config init midasdl.toml --force" in refused.err
    assert "\ncount = 3" in path.read_text()
    plain("config", "init", "--force")
    assert "\ncount = 3" not in path.read_text()

    path.write_text("[performance.workers]\ncuont = 1\ncount = 0\n")
    faults = plain("config", "check", "midasdl.toml", code=ExitCode.USAGE)
    assert "did you mean performance.workers.count?" in faults.err
    assert "count = 0" in faults.err
    assert "(allowed: 1 to 64) [midasdl.toml]" in faults.err
    assert plain("status", code=None).code == ExitCode.LEDGER, "commands without settings go on"
    assert run_inside(plain, "run", code=ExitCode.USAGE).err == faults.err


def test_aggressive_is_used_against_ceda_only_by_somebody_who_says_so(plain: Command) -> None:
    """F2: without a terminal it takes --yes; nothing was made or asked for before."""
    refused = run_inside(plain, "run", "--profile", "aggressive", code=ExitCode.USAGE)
    assert "up to 6 files at a time, one each 50 ms" in refused.err
    assert "midasdl run --yes" in refused.err
    in_a_file = write(plain.folder / "fast.toml", "performance.profile = 'aggressive'\n")
    assert run_inside(plain, "run", "--config", str(in_a_file), code=ExitCode.USAGE).err == refused.err
    allowed = run_inside(plain, "run", "--profile", "aggressive", "--yes", code=ExitCode.LEDGER)
    assert "midasdl init" in allowed.err
    assert run_inside(plain, "run", "--profile", "balanced", code=ExitCode.LEDGER).err == allowed.err


def test_a_schedule_is_shown_asked_about_and_beaten_by_the_command_line(plain: Command) -> None:
    """F5: what holds now is told; aggressive nights are asked about by day; --profile puts the schedule aside."""
    windows = [("00:00", "24:00", "pause"), ("22:00", "06:00", "aggressive")]
    text = "".join(f"[[performance.schedule]]\nfrom='{a}'\nto='{b}'\nprofile='{c}'\n" for a, b, c in windows)
    write(plain.folder / "midasdl.toml", text)
    shown = plain("config", "show").out
    assert shown.startswith("# Now: Paused by the schedule.\n")
    again = write(plain.folder / "again.toml", shown)
    assert plain("config", "show", "--config", str(again)).out == shown

    assert "The profile aggressive asks CEDA" in run_inside(plain, "run", code=ExitCode.USAGE).err
    run_inside(plain, "run", "--yes", code=ExitCode.LEDGER)
    run_inside(plain, "run", "--profile", "balanced", code=ExitCode.LEDGER)
    assert origins(plain, "--profile", "balanced")["performance.schedule"] == ([], "command line")


@pytest.mark.parametrize(
    ("answer", "goes_on"), [("y", True), ("n", False), ("", False)], ids=["yes", "no", "enter"]
)
def test_on_a_terminal_a_person_is_asked(plain: Command, answer: str, goes_on: bool) -> None:
    """F2: only a yes is a yes."""
    ended = converse(plain, ["run", "--profile", "aggressive"], [("[y/N]", f"{answer}\n")])
    assert ended.code == (ExitCode.LEDGER if goes_on else ExitCode.USAGE)
    assert ("Nothing was started" in ended.out) is not goes_on


def test_aggressive_asks_nothing_on_a_stand_in(job: JobOnTrial) -> None:
    """F2: the question is about CEDA's hosts; here it just runs, with the workers of the profile."""
    job.init()
    job.command("run", "--profile", "aggressive")
    assert job.is_complete
    assert job.one("SELECT count(*) FROM worker WHERE role = 'worker'") == 8
