"""What a command says: words for people, JSON lines for programs, never both on stdout."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from midasdl.cli.wording import wrapped
from midasdl.errors import MidasdlError, StorageError

SCHEMA_VERSION = 1
"""Raised when a field of the JSON output changes its meaning or goes away."""


UNKNOWN_COLUMNS = 80
"""Of a terminal that does not say how wide it is."""

NOBODY_THERE = frozenset({errno.EPIPE, errno.EIO, errno.EBADF})
"""How the system says that the reader, or the terminal, is gone."""

NO_FILE = -1
"""The descriptor of a stream in memory."""

NAMES_THE_LEDGER = re.compile(r"\bmidasdl (?=(?:init|run|resume|retry|status|verify|adopt|report|sql)\b)")
"""Suggestions of commands that work on a ledger."""


def put(text: str, stream: TextIO | None, indent: str = "", *, lead: str = "", is_prose: bool = True) -> bool:
    """Print a line; where the reader or the terminal is gone it is left out, and the work goes on.

    Parameters
    ----------
    indent : str
        Put before each line once it has been made to fit.
    lead : str
        Instead of an indent: stands at the beginning of the first line, and those that a terminal breaks off stand
        below the text beside it.
    is_prose : bool
        Made to fit a terminal; what programs read stays as it is there too.

    Returns
    -------
    bool
        Whether anybody may read it.

    Raises
    ------
    StorageError
        What was printed goes to a file, and the file cannot take it.
    """
    if stream is None:
        return False
    try:
        indent = " " * len(lead) if lead else indent
        fitting = _to_fit(text, stream, len(indent)) if is_prose else text
        write_through(lead + textwrap.indent(fitting, indent).removeprefix(" " * len(lead)) + "\n", stream)
    except OSError as error:
        let_go(stream)
        if error.errno not in NOBODY_THERE and stream is not sys.stderr:
            raise _unprintable(error) from None
        return False
    return True


@contextmanager
def printing() -> Iterator[None]:
    """Whatever else prints to stdout does so in this block; a reader that goes away is somebody else's business.

    Raises
    ------
    StorageError
        What was printed goes to a file, and the file cannot take it.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NOBODY_THERE or sys.stdout is None:
            raise
        let_go(sys.stdout)
        raise _unprintable(error) from None


def _unprintable(error: OSError) -> StorageError:
    return StorageError(
        f"What midasdl prints cannot be written: {error.strerror}.", "Print it to another place."
    )


def write_through(text: str, stream: TextIO) -> None:
    """Write past the stream's buffer, whose lock nobody may hold while a reader hangs.

    What stands in for a stream while a bar is drawn, and so has no encoding of its own, is written to as it wants.

    Whoever starts a process flushes the streams first, and so does the interpreter at its end: they would wait for
    that lock, and no signal could reach them.

    Raises
    ------
    OSError
        It cannot be written.
    """
    stream.flush()
    try:
        descriptor = stream.fileno()
    except OSError:
        descriptor = NO_FILE
    if descriptor == NO_FILE or os.linesep != "\n" or stream.encoding is None:
        stream.write(text)
        stream.flush()
        return
    rest = memoryview(text.encode(stream.encoding, stream.errors or "strict"))
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def columns_of(stream: TextIO | None) -> int | None:
    """How wide a terminal is; None where a stream is none, or closed."""
    if stream is None or not stream.isatty():
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or UNKNOWN_COLUMNS
    except (OSError, ValueError):
        return None


def _to_fit(text: str, stream: TextIO, margin: int) -> str:
    """For a terminal, lines no longer than it is wide."""
    columns = columns_of(stream)
    return text if columns is None else wrapped(text, columns - margin)


def to_stderr(text: str) -> None:
    """Print a line there; where nobody reads it, it is left out."""
    put(text, sys.stderr)


def let_go(stream: TextIO) -> None:
    """From now on, also in the interpreter's last flush, what is printed goes nowhere."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def say_the_last() -> None:
    """Before the interpreter flushes its streams: let go of those whose other end is gone, or it would end with 120."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            try:
                stream.flush()
            except (OSError, ValueError):
                let_go(stream)


class Output:
    """Where words and records go; what nobody hears stops no work.

    Parameters
    ----------
    json_lines : bool
        Records go to stdout as JSON lines; words go to stderr.
    quiet : bool
        Only results and errors.
    ledger : str, optional
        The ledger that was named with ``--ledger``: commands that are suggested name it too.

    Attributes
    ----------
    is_read : bool
        Whether, as far as anybody knows, results still reach somebody.
    """

    def __init__(
        self, *, json_lines: bool = False, quiet: bool = False, verbose: int = 0, ledger: str | None = None
    ) -> None:
        self._ledger = ledger
        self._notes_go_to: Callable[[str], None] | None = None
        self.json_lines = json_lines
        self.quiet = quiet
        self.verbose = verbose
        self.is_read = True
        self._is_silent = False

    @property
    def shows_progress(self) -> bool:
        """Whether a person watches."""
        return not self.quiet and not self.json_lines

    def say(self, text: str, indent: str = "", *, lead: str = "") -> None:
        """A result in words; left out where records are wanted. `indent` and `lead` are those of `put`."""
        if not self.json_lines:
            self._result(self._with_ledger(text), indent, lead=lead)

    def note(self, text: str) -> None:
        """Something by the way, on stderr; left out when quiet."""
        if not self.quiet and not self._is_silent:
            (self._notes_go_to or to_stderr)(text)

    def fall_silent(self) -> None:
        """Say nothing more: somebody who does not read holds the stream."""
        self._is_silent = True

    def divert(self, to: Callable[[str], None] | None) -> None:
        """From now on notes go there, where a display has the terminal; None: to stderr as ever."""
        self._notes_go_to = to

    def _with_ledger(self, text: str) -> str:
        """Suggested commands must work as they stand."""
        if self._ledger is None:
            return text
        quoted = shlex.quote(self._ledger)
        return NAMES_THE_LEDGER.sub(lambda _: f"midasdl --ledger {quoted} ", text)

    def record(self, kind: str, facts: Mapping[str, Any]) -> None:
        """A result as one JSON line, where records are wanted."""
        if self.json_lines:
            record = json.dumps({"schema": SCHEMA_VERSION, "kind": kind, **facts}, default=str)
            self._result(record, is_prose=False)

    def _result(self, line: str, indent: str = "", *, lead: str = "", is_prose: bool = True) -> None:
        if not self._is_silent:
            self.is_read = put(line, sys.stdout, indent, lead=lead, is_prose=is_prose) and self.is_read

    def error(self, error: MidasdlError) -> None:
        """What happened, why, and what helps, on stderr."""
        if self._is_silent:
            return
        put(f"midasdl: {error.message}", sys.stderr)
        if error.hint:
            put(self._with_ledger(error.hint), sys.stderr, indent="  ")
        self.record(
            "error", {"message": error.message, "hint": error.hint, "exit_code": int(error.exit_code)}
        )
