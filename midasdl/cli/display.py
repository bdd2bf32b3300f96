"""What a person sees while a run is on, and which way of showing it suits the place."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from functools import partial
from types import TracebackType
from typing import Protocol, Self, TextIO, cast

from rich.console import Console

from midasdl.cli.output import Output, let_go, to_stderr, write_through
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

NOTES_HELD = 10_000
"""Notes that wait for whoever reads; what comes on top is left out."""

SHOWN_HELD = NOTES_HELD + 2
"""With the picture, of which only the newest waits, and the leave."""


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


class Hand(Protocol):
    """Who does what is to be shown: at once, or in a thread of its own (`midasdl.metrics.aside.Aside`)."""

    @property
    def held(self) -> int:
        """How much waits."""

    def post(self, item: Callable[[], object], /) -> None:
        """Do this, soon."""


class AtOnce:
    """Does everything in the thread that asks for it."""

    held = 0

    def post(self, item: Callable[[], object], /) -> None:
        """Do it."""
        item()


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
            write_through(
                text.encode(encoding, "replace").decode(encoding), cast("TextIO", self._console.file)
            )
        except OSError:
            let_go(sys.stderr)


class Display:
    """Follows a run and shows it; what it cannot show does not matter to the run. A context.

    Parameters
    ----------
    output : Output
        Where lines and records go. During the block its notes come through the display.
    mode : Mode
        `Mode.AUTO`: a bar on a terminal, lines elsewhere, nothing where the user wants none or a program reads.
    hand : Hand
        Whoever reads may hang (a full pipe, Ctrl-S): a run lets an `Aside` do the writing, so that it never waits
        for that (invariant I8). Everything that is shown goes through the same hand, in its order.
    """

    def __init__(
        self,
        output: Output,
        mode: Mode,
        clock: Clock,
        console: Console | None = None,
        hand: Hand | None = None,
    ) -> None:
        self._output = output
        self._clock = clock
        self._hand: Hand = hand or AtOnce()
        self._noted: dict[str, float] = {}
        self._newest: Snapshot | None = None
        self._newest_waits = False
        console = console or Console(stderr=True, force_terminal=True if mode is Mode.BAR else None)
        self._bar: Bar | None = None
        self._shower: Shower | None = None
        match mode_for(mode, output, console):
            case Mode.BAR:
                self._shower = self._bar = Bar(console, clock)
            case Mode.LOG:
                self._shower = Lines(to_stderr, clock)
            case Mode.JSON:
                self._shower = Records(output.record, clock)

    def __enter__(self) -> Self:
        self._output.divert(self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            with suppress(Exception):
                self._hand.post(self._bar.leave)
        self._output.divert(None)

    def follow(self, event: Event) -> None:
        """Take in one message of a worker."""
        if isinstance(event, DownloadFailed) and self._output.verbose:
            fate = "will be tried again" if event.will_retry else "failed"
            self._output.note(f"{event.path}: {event.message} ({event.error_class}; {fate})")
        if isinstance(event, Waiting | PaceChanged):
            self._note_once(event.why)

    def show(self, snapshot: Snapshot) -> None:
        """Show how things stand; called a few times a second."""
        if self._shower is None:
            return
        self._newest = snapshot
        if not self._newest_waits:
            self._newest_waits = True
            self._hand.post(partial(self._show_newest, self._shower))

    def _show_newest(self, shower: Shower) -> None:
        self._newest_waits = False
        if self._newest is not None:
            shower.show(self._newest)

    def _note(self, text: str) -> None:
        if self._hand.held < NOTES_HELD:
            self._hand.post(partial(to_stderr if self._bar is None else self._bar.note, text))

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
