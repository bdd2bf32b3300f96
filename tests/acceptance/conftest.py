"""A job on a simulator, as a user has it: a folder, a manifest, the command."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from midasdl.simulator import RequestRecord, Simulator
from tests.conftest import Archive
from tests.support.command import Command, Ended
from tests.support.inside import CommandInside
from tests.support.programs import md5sum_agrees


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Everything in this folder is an acceptance test."""
    for item in items:
        if "acceptance" in item.path.parts:
            item.add_marker(pytest.mark.acceptance)


@dataclass(frozen=True)
class JobOnTrial:
    """One job: where it lives, whom it asks, and how to look at it from outside."""

    command: Command
    simulator: Simulator
    manifest: Path

    @property
    def folder(self) -> Path:
        return self.command.folder

    @property
    def ledger(self) -> Path:
        return self.folder / "progress.db"

    def init(self, *words: str) -> Ended:
        return self.command("init", str(self.manifest), "--dest", "data-root", *words)

    def with_settings(self, **settings: object) -> JobOnTrial:
        return JobOnTrial(self.command.with_settings(**settings), self.simulator, self.manifest)

    def lone_path(self) -> str:
        """A file whose contents no other file has."""
        lines = Archive(self.manifest.parent, self.manifest).lines
        counts = Counter(md5 for md5, _ in lines)
        return next(path for md5, path in lines if counts[md5] == 1)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the ledger with Python's own SQLite, read-only."""
        with sqlite3.connect(f"{self.ledger.as_uri()}?mode=ro", uri=True) as connection:
            rows = connection.execute(query).fetchall()
        connection.close()
        return rows

    def one(self, query: str) -> Any:
        return self.rows(query)[0][0]

    def change(self, statement: str) -> None:
        """Alter the ledger from outside, as a test's stand-in for time and fate."""
        with sqlite3.connect(self.ledger) as connection:
            connection.execute(statement)
        connection.close()

    @property
    def is_complete(self) -> bool:
        """Whether ``md5sum -c`` agrees, from the data root."""
        return md5sum_agrees(self.folder / "data-root", self.manifest)

    @property
    def downloads(self) -> list[RequestRecord]:
        return [record for record in self.simulator.requests if record.route == "download"]


@pytest.fixture
def command(command: Command) -> Command:
    """The real command, in a process of its own where that matters; `real_command` always is."""
    return CommandInside(command.folder, command.environment)


@pytest.fixture
def real_command(command: Command) -> Command:
    """The real command, in a process of its own."""
    return Command(command.folder, command.environment)


@pytest.fixture
def job_on(command: Command) -> Iterator[Callable[..., JobOnTrial]]:
    """Make a job on an archive: ``job_on(archive, token_lifetime_s=10)``."""
    with ExitStack() as stack:

        def make(archive: Archive, **simulator: Any) -> JobOnTrial:
            running = stack.enter_context(Simulator(archive.root, **simulator))
            return JobOnTrial(command.with_environment(**running.environment()), running, archive.manifest)

        yield make


@pytest.fixture
def job(job_on: Callable[..., JobOnTrial], small_archive: Archive) -> JobOnTrial:
    """A job of 120 files."""
    return job_on(small_archive)


@pytest.fixture(scope="session")
def real_and_made_archive(
    shared_data: Path, archive: Archive, tmp_path_factory: pytest.TempPathFactory
) -> Archive:
    """The nine real files together with the 2,000 made ones, and a manifest that ``md5sum`` wrote."""
    root = tmp_path_factory.mktemp("real-archive")
    shutil.copytree(archive.root / "data", root / "data")
    shutil.copytree(
        shared_data / "archive" / "badc" / "ukmo-midas-open" / "data", root / "data", dirs_exist_ok=True
    )
    files = sorted(str(path.relative_to(root)) for path in (root / "data").rglob("*") if path.is_file())
    sums = subprocess.run(
        ["md5sum", *(f"./{name}" for name in files)], cwd=root, capture_output=True, check=True
    )
    manifest = root / "manifest.txt"
    manifest.write_bytes(sums.stdout)
    return Archive(root, manifest)
