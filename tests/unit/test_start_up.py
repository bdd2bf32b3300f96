"""Issue 7: a command starts as fast as what it needs allows, and needs no more than its own work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from midasdl.cli.main import COMMANDS, OPTIONS_WITH_A_VALUE, build_parser, commands_meant

MANIFEST = b"50c9d1c465f3cbff652be1509c2e2a4e  data/a.csv\n"

WATCHER = """
import sys
from midasdl.cli.main import main

def modules_after(*words):
    main(words)
    return set(sys.modules)

print(*(f"{name}:{','.join(sorted(FORBIDDEN[name] & modules_after(*words)))}" for name, words in (
    ("version", ["--version"]),
    ("retry", ["retry"]),
    ("status", ["status"]),
    ("status", ["status", "--json"]),
)), sep="\\n")
"""

FORBIDDEN = {
    "version": {
        *("asyncio", "dataclasses", "email", "logging", "multiprocessing", "psutil", "pydantic", "requests"),
        *("rich", "shutil", "socket", "sqlalchemy", "sqlite3", "ssl", "subprocess", "tomllib"),
        *("midasdl.clock", "midasdl.ledger", "midasdl.manifest", "midasdl.models"),
        *(f"midasdl.cli.{name}" for name in COMMANDS),
    },
    "retry": {"alembic", "pydantic", "requests", "rich", "urllib3", "midasdl.job", "midasdl.cli.run"},
    "status": {"alembic", "pydantic", "requests", "rich", "urllib3", "midasdl.job", "midasdl.cli.run"},
}


def test_commands_import_only_what_they_use(tmp_path: Path) -> None:
    """No library for downloads, settings or migrations is loaded by commands that only look at the ledger."""
    program = f"FORBIDDEN = {FORBIDDEN!r}\n{WATCHER}"
    subprocess.run(
        [sys.executable, "-m", "midasdl", "-q", "init", "-"], input=MANIFEST, cwd=tmp_path, check=True
    )

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[-4:] == ["version:", "retry:", "status:", "status:"]


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    "before", [[], ["--json", "-vq"], ["--ledger", "status"], ["--ledger=init", "--config", "-x"]]
)
def test_the_parser_knows_the_command_that_is_named(name: str, before: list[str]) -> None:
    """Options before the command, whatever their values look like, do not hide it."""
    assert commands_meant([*before, name, "run", "--help"]) == (name,)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["runn"], ["--ledger"], ["./run", "run"]])
def test_the_parser_knows_every_command_where_none_is_named(words: list[str]) -> None:
    """So that help lists all of them, and a mistyped one is answered with all that there are."""
    assert commands_meant(words) == COMMANDS


def test_every_option_with_a_value_is_known_to_the_search_for_the_command() -> None:
    """A new option of every command that takes a value must join the list."""
    options = [action for action in build_parser([])._actions if action.option_strings]

    valued = {name for action in options if action.nargs != 0 for name in action.option_strings}

    assert valued == set(OPTIONS_WITH_A_VALUE)
