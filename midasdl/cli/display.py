"""What a person sees while a run is on, and which way of showing it suits the place."""

from __future__ import annotations

import sys
from contextlib import suppress
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console

from midasdl.cli.output import Output, let_go
from midasdl.cli.picture import picture, symbols_for
from midasdl.cli.plain import Lines, Records
from midasdl.cli.region import Region
from midasdl.clock import Clock
from midasdl.progress.events import DownloadFailed, Event, PaceChanged, Waiting
from midasdl.progress.snapshot import Phase, Snapshot

DRAW_EVERY_S = 0.25
"""More often, nobody could read it."""

SAME_NOTE_S = 60.0
"""Several workers meet the same trouble: it is told once."""


class Mode(StrEnum):
    """Ways to show progress: the words of ``--progress``."""

    AUTO = "auto"
    BAR = "bar"
    LOG = "log"
    JSON = "json"
    NONE = "none"


class Shower(Protocol):
    """One of them."""

    def show(self, snapshot: Snapshot) -> None:
        """Show how things stand; called a few times a second."""


class Bar:
    """The picture of a run at the bottom of a terminal.

    Parameters
    ----------
    console : Console
        Of the terminal.
    """

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._symbols = symbols_for(console.encoding)
        self._region = Region(console, self._write)
        self._drawn: Snapshot | None = None
        self._due_s = clock.monotonic()

    def show(self, snapshot: Snapshot) -> None:
        """Draw how things stand, if it is time; the end always."""
        now_s = self._clock.monotonic()
        if now_s >= self._due_s or snapshot.phase is Phase.ENDED:
            self._due_s = now_s + DRAW_EVERY_S
            self._drawn = snapshot
            self._region.draw(picture(snapshot, self._console.width, self._symbols))

    def note(self, text: str) -> None:
        """Print something that stays, above the picture."""
        lines = [] if self._drawn is None else picture(self._drawn, self._console.width, self._symbols)
        self._region.above(text, lines)

    def leave(self) -> None:
        """The picture stays as it is; what comes next comes below."""
        self._region.leave()

    def _write(self, text: str) -> None:
        """A terminal that is gone takes nothing, and the run goes on; what it has no characters for becomes ``?``."""
        encoding = self._console.encoding
        try:
            self._console.file.write(text.encode(encoding, "replace").decode(encoding))
            self._console.file.flush()
        except OSError:
            let_go(sys.stderr)


class Display:
    """Follows a run and shows it; what it cannot show does not matter to the run. A context.

    Parameters
    ----------
    output : Output
        Where lines and records go, and notes while there is no bar.
    mode : Mode
        `Mode.AUTO`: a bar on a terminal, lines elsewhere, nothing where the user wants none or a program reads.
    """

    def __init__(self, output: Output, mode: Mode, clock: Clock, console: Console | None = None) -> None:
        self._output = output
        self._clock = clock
        self._noted: dict[str, float] = {}
        console = console or Console(stderr=True, force_terminal=True if mode is Mode.BAR else None)
        self._bar: Bar | None = None
        self._shower: Shower | None = None
        match mode_for(mode, output, console):
            case Mode.BAR:
                self._shower = self._bar = Bar(console, clock)
            case Mode.LOG:
                self._shower = Lines(output.line, clock)
            case Mode.JSON:
                self._shower = Records(output.record, clock)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._output.divert(self._bar.note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._output.divert(None)
        if self._bar is not None:
            with suppress(Exception):
                self._bar.leave()

    def follow(self, event: Event) -> None:
        """Take in one message of a worker."""
        if isinstance(event, DownloadFailed) and self._output.verbose:
            fate = "will be tried again" if event.will_retry else "failed"
            self._output.note(f"{event.path}: {event.message} ({event.error_class}; {fate})")
        if isinstance(event, Waiting | PaceChanged):
            self._note_once(event.why)

    def show(self, snapshot: Snapshot) -> None:
        """Show how things stand; called a few times a second."""
        if self._shower is not None:
            self._shower.show(snapshot)

    def _note_once(self, text: str) -> None:
        now_s = self._clock.monotonic()
        self._noted = {text: at_s for text, at_s in self._noted.items() if now_s - at_s < SAME_NOTE_S}
        if text not in self._noted:
            self._noted[text] = now_s
            self._output.note(text)


def mode_for(mode: Mode, output: Output, console: Console) -> Mode:
    """What `Mode.AUTO` means here."""
    if mode is not Mode.AUTO:
        return mode
    if not output.shows_progress:
        return Mode.NONE
    return Mode.BAR if console.is_terminal and not console.is_dumb_terminal else Mode.LOG
