"""Log files: lines of JSON and lines for people, rotated at a size, by the handlers of `logging`.

No logger is registered anywhere: what an embedding program does with `logging` and what a run writes do not meet.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path

from midasdl.metrics.records import LogRecord, as_json, as_text


@dataclass(frozen=True, slots=True)
class LogFiles:
    """Where lines go, and how large a file may become.

    Attributes
    ----------
    json_file, text_file : Path or None
    level : int
        Lines below it are left out.
    max_bytes : int
        A file that would become larger is put aside, and a new one begun.
    backups : int
        Files put aside that are kept.
    """

    json_file: Path | None
    text_file: Path | None
    level: int
    max_bytes: int
    backups: int


class Log:
    """Writes lines; what cannot be written is left out and told once.

    Parameters
    ----------
    files : LogFiles
    tell : callable
        Takes one sentence when a file cannot be written.

    Notes
    -----
    Concurrency: belongs to one thread. Two runs that write into one file mix their lines; each needs its own.
    """

    def __init__(self, files: LogFiles, tell: Callable[[str], None]) -> None:
        self._level = files.level
        self._handlers = tuple(_handlers(files, tell))

    def __call__(self, record: LogRecord) -> None:
        """Write one line."""
        if record.level < self._level:
            return
        line = logging.LogRecord("midasdl", record.level, "", 0, record.words, None, None)
        line.midasdl = record
        for handler in self._handlers:
            handler.handle(line)

    def close(self) -> None:
        """Let go of the files."""
        for handler in self._handlers:
            with suppress(OSError, ValueError):
                handler.close()


def _handlers(files: LogFiles, tell: Callable[[str], None]) -> Iterable[logging.Handler]:
    shapes: tuple[tuple[Path | None, Callable[[LogRecord], str]], ...] = (
        (files.json_file, as_json),
        (files.text_file, as_text),
    )
    for path, shape in shapes:
        if path is not None:
            yield _Rotated(path, shape, files, tell)


class _Rotated(RotatingFileHandler):
    """A handler that opens its file with the first line, and survives whatever the disk does."""

    def __init__(
        self, path: Path, shape: Callable[[LogRecord], str], files: LogFiles, tell: Callable[[str], None]
    ) -> None:
        super().__init__(
            path,
            maxBytes=files.max_bytes,
            backupCount=files.backups,
            encoding="utf-8",
            errors="backslashreplace",
            delay=True,
        )
        self._shape, self._tell = shape, tell
        self._is_stuck = self._was_told = False
        self.path = path

    def format(self, record: logging.LogRecord) -> str:
        kept: LogRecord = record.midasdl  # type: ignore[attr-defined]
        return ("\n" if self._was_told else "") + self._shape(
            kept
        )  # what got stuck may have left half a line

    def emit(self, record: logging.LogRecord) -> None:
        self._is_stuck = False
        super().emit(record)
        if self._was_told and not self._is_stuck:
            self._was_told = False
            self._tell(f"The log {self.path} can be written again; some lines are missing.")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - as the base class has it
        """What the log cannot take is left out; said once, until it works again."""
        error = sys.exc_info()[1]
        self._is_stuck = True
        self._forget_what_is_stuck()
        if not self._was_told:
            self._was_told = True
            why = getattr(error, "strerror", None) or type(error).__name__
            self._tell(f"The log {self.path} cannot be written ({why}); the run goes on without it.")

    def _forget_what_is_stuck(self) -> None:
        """A stream that cannot be flushed would try the same bytes with every line; the next line opens it anew."""
        stream, self.stream = self.stream, None
        with suppress(OSError, ValueError):
            if stream is not None:
                stream.close()
