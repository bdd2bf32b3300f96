"""The command inside the test's own process: the same words and answers, without the start of two Pythons."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from multiprocessing.connection import Connection
from tempfile import NamedTemporaryFile
from typing import IO
from unittest import mock

from midasdl import coordinator, crew
from midasdl.cli.main import main
from midasdl.worker_process import WorkerOrder, work
from tests.support.command import Command, Ended

OF_THEIR_OWN = {"simulate"}
"""Commands that live until somebody ends them."""

READ_AT_THE_START = ("PYTHON", "LD_")
"""How names begin that only a new Python hears of."""


def run_inside(command: Command, *words: str, stdin: bytes = b"", code: int | None = 0) -> Ended:
    """Run a command to its end; `code` is what it must end with (None: anything)."""
    out, err = io.StringIO(), io.StringIO()
    with (
        chdir(command.folder),
        mock.patch.dict(os.environ, command.environment, clear=True),
        mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8")),
        redirect_stdout(out),
        redirect_stderr(err),
        _processes_in_the_same_world(command.environment) as complaints,
    ):
        try:
            found = main(words)
        except SystemExit as ending:  # how argparse ends after printing help
            found = int(ending.code or 0)
        told_by_processes = complaints.read().decode()
    ended = Ended(found, out.getvalue(), err.getvalue() + told_by_processes)
    assert code is None or ended.code == code, f"{words}: {ended}"
    return ended


class CommandInside(Command):
    """Runs ``midasdl`` like `Command`, and inside the test's own process where nobody could tell the difference.

    The processes that it starts are as real as ever, and of one kind with those of the command: they are forked off a
    Python that lives as long as the tests.
    """

    def __call__(self, *words: str, stdin: bytes = b"", code: int | None = 0) -> Ended:
        if self._is_for_a_new_python or (words and words[0] in OF_THEIR_OWN):
            return super().__call__(*words, stdin=stdin, code=code)
        ended = run_inside(self, *words, stdin=stdin, code=code)
        assert "Traceback" not in ended.err, ended.err
        return ended

    @property
    def _is_for_a_new_python(self) -> bool:
        usual = Command(self.folder).environment
        own = {name for name, value in self.environment.items() if usual.get(name) != value}
        return any(name.startswith(READ_AT_THE_START) for name in own)


@contextmanager
def _processes_in_the_same_world(environment: Mapping[str, str]) -> Iterator[IO[bytes]]:
    """Let workers have the command's environment, and what they write on stderr come into a file."""
    with NamedTemporaryFile() as complaints:
        world = (dict(environment), complaints.name)
        with (
            mock.patch.object(coordinator, "work", partial(_work_in, *world)),
            mock.patch.object(crew, "_serve", partial(_serve_in, *world)),
        ):
            yield complaints


def _work_in(environment: Mapping[str, str], complaints: str, order: WorkerOrder, pipe: Connection) -> None:
    _enter(environment, complaints)
    work(order, pipe)


def _serve_in(environment: Mapping[str, str], complaints: str, pipe: Connection) -> None:
    _enter(environment, complaints)
    crew._serve(pipe)


def _enter(environment: Mapping[str, str], complaints: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    stream = os.open(complaints, os.O_WRONLY | os.O_APPEND)
    os.dup2(stream, 2)
    os.close(stream)
