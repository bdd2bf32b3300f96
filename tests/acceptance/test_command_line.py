"""U1, U3, W6: the command explains itself, to people and to programs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from midasdl.cli.main import COMMANDS
from midasdl.errors import ExitCode
from midasdl.identity import ProcessIdentity
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.runs import RunRegistry
from midasdl.simulator import Fault
from tests.acceptance.conftest import JobOnTrial
from tests.conftest import Archive
from tests.support.background import eventually
from tests.support.command import Command, kill_group
from tests.support.terminal import converse


def test_without_arguments_four_steps_lead_to_a_first_download(command: Command) -> None:
    """U1."""
    told = command().out

    assert re.findall(r"^ +(\d)  ", told, re.MULTILINE) == ["1", "2", "3", "4"]
    assert all(
        word in told for word in ("midasdl auth setup", "midasdl init", "midasdl run", "midasdl resume")
    )
    assert max(map(len, told.splitlines())) <= 80, "it would be broken within words"


def test_help_documents_every_exit_code(command: Command) -> None:
    """W6."""
    told = command("--help").out

    assert {int(code) for code in re.findall(r"\b(\d+)\b", told.split("exit codes:")[1])} == set(
        map(int, ExitCode)
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_examples_in_its_help(command: Command, name: str) -> None:
    """U1: each example begins with the command itself, or feeds it."""
    told = command(name, "--help").out

    assert f"midasdl {name}" in told.split("examples:")[1] or "midasdl --ledger" in told.split("examples:")[1]


def test_json_makes_stdout_machine_readable_on_every_command(job: JobOnTrial) -> None:
    """U3: lines with a schema version and a kind, before or after the command."""
    runs = [
        job.command("--json", "init", str(job.manifest), "--dest", "data-root"),
        job.command("run", "--json"),
        job.command("resume", "--json"),
        job.command("status", "--json"),
        job.command("retry", "--json"),
        job.command("doctor", "--json"),
        job.command("sql", "SELECT 1 AS one", "--json"),
    ]

    assert [ended.records[0]["kind"] for ended in runs] == [
        "init",
        "run",
        "run",
        "status",
        "retry",
        "finding",
        "row",
    ]
    assert {record["schema"] for ended in runs for record in ended.records} == {1}
    assert runs[1].record("run")["done"] == runs[0].record("init")["tasks"]


def test_errors_are_records_too(command: Command) -> None:
    """U3: a program reads what happened from stdout, a person from stderr."""
    ended = command("--json", "run", code=6)

    assert ended.record("error")["exit_code"] == 6
    assert "midasdl init" in ended.record("error")["hint"]
    assert "midasdl init" in ended.err


def test_the_ledger_can_be_named_by_option_or_environment(job: JobOnTrial) -> None:
    """--ledger beats MIDASDL_LEDGER beats progress.db."""
    named = job.command.with_environment(MIDASDL_LEDGER="from-environment.db")
    manifest = str(job.manifest)

    named("init", manifest)
    named("--ledger", "from-option.db", "init", manifest)
    job.command("init", manifest)

    assert sorted(path.name for path in job.folder.glob("*.db")) == [
        "from-environment.db",
        "from-option.db",
        "progress.db",
    ]


def test_a_configuration_file_is_read_and_the_environment_beats_it(job: JobOnTrial) -> None:
    """F3: command line > environment > file > default, seen in the number of workers."""
    job.init()
    (job.folder / "slow.toml").write_text("[performance.workers]\ncount = 2\n")
    workers = "SELECT count(*) FROM worker WHERE role = 'worker' AND run_id = (SELECT max(id) FROM run)"
    requeue = "UPDATE task SET state = 'pending'"
    seen = []
    for command, words in [
        (job.command, ["--config", "slow.toml", "run"]),
        (job.with_settings(workers__count=3).command, ["--config", "slow.toml", "run"]),
        (job.with_settings(workers__count=3).command, ["--config", "slow.toml", "run", "--workers", "1"]),
        (job.command, ["run"]),
    ]:
        command(*words)
        seen.append(job.one(workers))
        job.change(requeue)

    assert seen == [2, 3, 1, 4]


def test_doctor_tells_what_is_wrong(job: JobOnTrial) -> None:
    """L9: SQLite, journal mode, file system, credentials and limits; exit 1 if something is broken."""
    job.init()
    (job.folder / ".env").write_text("X=1")

    well = job.command("doctor")
    job.ledger.write_text("not a database any more")
    ill = job.command("doctor", code=1)

    assert "WAL is safe" in well.out or "rollback journal" in well.out
    assert "journal mode" in well.out
    assert "chmod 600 .env" in well.out
    assert "no limit of requests" in well.out
    assert "rain-or-shine" not in well.out
    assert "problem  ledger" in ill.out


def test_the_heavy_libraries_are_loaded_by_those_who_use_them() -> None:
    """`midasdl --help` imports neither SQLAlchemy nor requests nor rich."""
    program = (
        "import sys\nfrom midasdl.cli.main import build_parser\nbuild_parser()\n"
        "print(sorted({'sqlalchemy', 'requests', 'rich', 'pydantic', 'alembic', 'psutil'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_suggested_commands_name_the_ledger_that_was_named(job: JobOnTrial) -> None:
    """U1: what is printed works as it stands."""
    told = job.command("--ledger", "other.db", "init", str(job.manifest)).out

    assert "midasdl --ledger other.db run" in told


def test_the_configuration_that_is_named_beats_what_a_run_recorded(job: JobOnTrial) -> None:
    """F3 W2: resume takes up the recorded settings, unless a person says otherwise."""
    job.init()
    job.command("run", "--workers", "2")
    job.change("UPDATE task SET state = 'pending'")
    (job.folder / "midasdl.toml").write_text("[performance.workers]\ncount = 3\n")

    job.command("resume", "--config", "midasdl.toml")

    assert job.one("SELECT count(*) FROM worker WHERE role = 'worker' AND run_id = 2") == 3


def test_two_queries_at_once_are_declined(job: JobOnTrial) -> None:
    """L7 U1: exit 2, one sentence."""
    job.init()

    assert "One query at a time" in job.command("sql", "SELECT 1; SELECT 2", code=2).err


def test_a_run_that_was_not_let_in_is_recorded_as_such(job: JobOnTrial) -> None:
    """W6: the ledger holds the exit code that the shell saw."""
    job.init()

    job.command.with_environment(CEDA_PASSWORD="wrong")("run", code=3)

    assert job.rows("SELECT exit_code FROM runs") == [(3,)]


def test_a_ledger_whose_name_needs_quotes_is_suggested_with_them(job: JobOnTrial) -> None:
    """U1: what is printed works as it stands; status names the ledger too."""
    told = job.command("--ledger", "my ledger.db", "init", str(job.manifest)).out
    assert "midasdl --ledger 'my ledger.db' run" in told
    assert "midasdl --ledger 'my ledger.db' run" in job.command("--ledger", "my ledger.db", "status").out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        *(["sql", "SELECT * FROM downloads", "--format", form] for form in ("csv", "json", "table")),
    ],
    ids=["status", "csv", "json", "table"],
)
def test_what_a_full_disk_cannot_take_is_no_mistake_of_midasdl(job: JobOnTrial, words: list[str]) -> None:
    """U1: exit 4, as for every disk that is full."""
    job.init()
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "midasdl", *words],
            cwd=job.folder,
            env=job.command.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, "cannot be written: No space left" in done.stderr) == (4, True), done.stderr


def test_a_run_that_was_killed_is_not_taken_for_one_that_is_on(
    job_on: Callable[..., JobOnTrial], small_archive: Archive
) -> None:
    """P6: its leases last on; its processes do not."""
    job = job_on(small_archive, first_byte_delay_s=0.2)
    job.init()
    process = job.command.start("run", "--workers", "2")
    try:
        eventually(lambda: job.rows("SELECT id FROM task WHERE state = 'done'"))
        assert "At work: 2 workers" in job.command("status").out
    finally:
        kill_group(process)
    assert "ended without a word. Go on with: midasdl resume" in job.command("status").out


def test_a_run_that_still_signs_in_is_on(job: JobOnTrial) -> None:
    """P6: it has no workers yet, and lives."""
    job.init()
    with Ledger.open(job.ledger) as ledger:
        registry = RunRegistry(ledger)
        registry.register(registry.start_run("run", {}), "command", "sign-in", ProcessIdentity.current())
    assert "A run is on; none of its workers is at work now." in job.command("status").out


def test_faults_that_no_rule_stands_for_are_refused(job: JobOnTrial, tmp_path: Path) -> None:
    """U9: a rehearsal with a misspelt table would serve without any fault."""
    faults = tmp_path / "faults.toml"
    faults.write_text('[[faults]]\naction = "reset"\n')
    ended = job.command("simulate", "--root", str(tmp_path), "--faults", str(faults), code=2)
    assert "there is no table 'faults'" in ended.err
    assert "[[fault]]" in ended.err


def test_on_a_terminal_words_are_wrapped_and_records_are_not(job: JobOnTrial) -> None:
    """U1 U3: no line of prose is broken within a word, no line for programs at all."""
    long_name = "a-name-of-a-folder-" * 4
    deep = job.folder / long_name / "data-root"
    job.command("init", str(job.manifest), "--dest", str(deep))
    seen = converse(job.command, ["status"], [])
    assert f"\n{deep}.\n" in seen.out
    first = seen.out.splitlines()[0]
    assert len(first) <= 80
    assert first.endswith("below")
    records = [json.loads(line) for line in converse(job.command, ["status", "--json"], []).out.splitlines()]
    assert [record["kind"] for record in records] == ["status"]


@pytest.mark.parametrize(
    "words",
    [
        *("status", "status --json", "doctor", "config show", "report", "verify"),
        *(f"sql --format {style} SELECT(1)" for style in ("table", "csv", "json")),
        "sql --json SELECT(1)",
    ],
)
def test_where_stdout_is_closed_nothing_is_printed_and_nothing_is_wrong(job: JobOnTrial, words: str) -> None:
    """U1: as cron jobs and services start programs."""
    job.init()
    program = "import os, sys; os.close(1); os.execv(sys.executable, [sys.executable, '-m', 'midasdl', *sys.argv[1:]])"
    ended = subprocess.run(
        [sys.executable, "-c", program, *words.split()],
        cwd=job.folder,
        env=job.command.environment,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (ended.returncode, "did not foresee" in ended.stderr) == (0, False), ended.stderr


def test_what_doctor_found_stands_in_a_column_of_its_own(job: JobOnTrial) -> None:
    """U1: on a terminal that breaks its lines too."""
    lines = converse(job.command, ["doctor"], []).out.splitlines()
    broken_off = [line for line in lines if line.startswith(" " * 22)]
    assert broken_off, "80 columns are too few for some of them"
    begun = [line for line in lines if line not in broken_off]
    assert {line.split()[0] for line in begun} <= {"ok", "warning", "problem"}
    assert max(map(len, lines)) <= 80 or job.folder.as_posix() in "".join(lines)


@pytest.mark.parametrize("what", ["show", "init", "check"])
def test_each_command_of_config_has_examples_and_takes_json_before_it(job: JobOnTrial, what: str) -> None:
    """U1 U3."""
    assert f"  midasdl config {what}" in job.command("config", what, "--help").out.split("examples:")[1]
    (job.folder / "good.toml").write_text("[performance.workers]\ncount = 3\n")
    words = {"show": [], "init": ["new.toml"], "check": ["good.toml"]}[what]
    assert job.command("config", "--json", what, *words).records


def test_an_example_of_what_failed_fits_the_terminal(job: JobOnTrial) -> None:
    """P5: its second line stands below the first."""
    job.init()
    job.simulator.add_fault(Fault("status", status=404, path=f"*{job.lone_path()}", times=None))
    seen = converse(job.command, ["run", "--progress", "none"], [])
    lines = seen.out.splitlines()
    at = next(number for number, text in enumerate(lines) if text.startswith("      such as"))
    assert lines[at + 1].startswith("      ")
