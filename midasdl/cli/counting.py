"""What a person sees of a command that goes through many files: a bar on a terminal, a plain line now and then."""

from __future__ import annotations

import sys
from contextlib import suppress
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from midasdl.cli.context import number
from midasdl.cli.output import Output
from midasdl.cli.plain import LINE_EVERY_S
from midasdl.clock import Clock


class Counting:
    """A context; what it cannot show does not matter to the work.

    Parameters
    ----------
    output : Output
        Decides whether anything is shown.
    doing : str
        What the command does, such as ``verifying``.
    """

    def __init__(self, output: Output, doing: str, clock: Clock) -> None:
        self._output = output
        self._doing = doing
        self._clock = clock
        self._said_s = clock.monotonic()
        self._bar: Progress | None = None
        console = Console(stderr=True)
        if output.shows_progress and console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[counted]}"),
                TimeElapsedColumn(),
                console=console,
                redirect_stdout=sys.stdout.isatty(),
            )
            self._task = self._bar.add_task(doing, total=None, counted="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            with suppress(OSError):
                self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            with suppress(OSError):
                self._bar.stop()

    def show(self, done: int, total: int | None, more: str = "") -> None:
        """How far it is; None where nobody knows how much there is."""
        counted = f"{number(done)} files" if total is None else f"{number(done)} of {number(total)} files"
        text = ", ".join(filter(None, [counted, more]))
        if self._bar is not None:
            with suppress(OSError):
                self._bar.update(self._task, completed=done, total=total, counted=text)
        elif self._output.shows_progress and self._clock.monotonic() - self._said_s >= LINE_EVERY_S:
            self._said_s = self._clock.monotonic()
            self._output.note(f"{self._doing}: {text}")
