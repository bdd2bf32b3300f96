"""A pseudo-terminal with a person in front of it."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from tests.support.command import Command, Ended

TAKE_THE_TERMINAL = (
    "import fcntl, os, sys, termios\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execv(sys.executable, [sys.executable, '-m', 'midasdl', *sys.argv[1:]])\n"
)
PATIENCE_S = 30.0


def converse(command: Command, words: Sequence[str], answers: Sequence[tuple[str, str]]) -> Ended:
    """Run a command on a terminal of its own; each answer is typed when its question stands on the screen.

    Returns
    -------
    Ended
        `out` is the whole screen.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE_THE_TERMINAL, *words],
        cwd=command.folder,
        env=command.environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    screen = b""
    seen = 0
    try:
        for question, answer in answers:
            while question.encode() not in screen[seen:]:
                piece = _read(ours)
                assert piece, f"{question!r} never came: {screen.decode(errors='replace')}"
                screen += piece
            seen = len(screen)
            os.write(ours, answer.encode())
        while piece := _read(ours):
            screen += piece
        code = process.wait(PATIENCE_S)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()
        os.close(ours)
    return Ended(code, screen.decode().replace("\r\n", "\n"), "")


def _read(terminal: int) -> bytes:
    """What comes next on the screen; empty when the other side has hung up or is silent for too long."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        if select.select([terminal], [], [], 0.5)[0]:
            try:
                return os.read(terminal, 65_536)
            except OSError:  # Linux's way to say that nobody has the terminal open any more
                return b""
    return b""


class Terminal:
    """A command on a terminal of its own, with a person who types, looks, and may hang up.

    Parameters
    ----------
    ignore : sequence of signals
        What the command is protected from, as ``nohup`` does.
    """

    def __init__(self, command: Command, words: Sequence[str], ignore: Sequence[int] = ()) -> None:
        self._ours, theirs = pty.openpty()
        self._theirs = os.dup(theirs)
        self._screen = b""

        def protect() -> None:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
            for number in ignore:
                signal.signal(number, signal.SIG_IGN)

        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_THE_TERMINAL, *words],
            cwd=command.folder,
            env=command.environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=protect,  # noqa: PLW1509 - only changes how signals are taken
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for descriptor in (self._ours, self._theirs):
            with suppress(OSError):
                os.close(descriptor)

    @property
    def echoes(self) -> bool:
        """Whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self._theirs)[3] & termios.ECHO)

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def hang_up(self) -> None:
        os.close(self._theirs)
        os.close(self._ours)

    def read_until(self, words: str) -> None:
        seen = len(self._screen)
        while words.encode() not in self._screen[seen:]:
            piece = _read(self._ours)
            assert piece, f"{words!r} never came: {self._screen.decode(errors='replace')}"
            self._screen += piece

    def read_to_the_end(self) -> Ended:
        """What stands on the screen when the command has ended."""
        while self.process.poll() is None:
            self._screen += self._what_is_there(0.1)
        self._screen += self._what_is_there(0.1)
        return Ended(self.process.returncode, self._screen.decode(errors="replace").replace("\r\n", "\n"), "")

    def _what_is_there(self, within_s: float) -> bytes:
        piece = b""
        while select.select([self._ours], [], [], within_s)[0]:
            piece += os.read(self._ours, 65_536)
        return piece
