"""The command inside the test's own process: the same words and answers, without the start of a Python."""

from __future__ import annotations

import io
import os
from contextlib import chdir, redirect_stderr, redirect_stdout
from unittest import mock

from midasdl.cli.main import main
from tests.support.command import Command, Ended

OF_THEIR_OWN = {"run", "resume", "verify", "adopt", "simulate"}
"""Commands that start processes, and tell them from whom they come."""


def run_inside(command: Command, *words: str, stdin: bytes = b"", code: int | None = 0) -> Ended:
    """Run a command to its end; `code` is what it must end with (None: anything)."""
    out, err = io.StringIO(), io.StringIO()
    with (
        chdir(command.folder),
        mock.patch.dict(os.environ, command.environment, clear=True),
        mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8")),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            found = main(words)
        except SystemExit as ending:  # how argparse ends after printing help
            found = int(ending.code or 0)
    ended = Ended(found, out.getvalue(), err.getvalue())
    assert code is None or ended.code == code, f"{words}: {ended}"
    return ended


class CommandInside(Command):
    """Runs ``midasdl`` like `Command`, and inside the test's own process unless it starts processes itself."""

    def __call__(self, *words: str, stdin: bytes = b"", code: int | None = 0) -> Ended:
        if words and words[0] in OF_THEIR_OWN:
            return super().__call__(*words, stdin=stdin, code=code)
        ended = run_inside(self, *words, stdin=stdin, code=code)
        assert "Traceback" not in ended.err, ended.err
        return ended
