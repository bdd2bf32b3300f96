"""What a person sees while a run is on, and which way of showing it suits the place."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from midasdl.cli.output import Output, to_stderr
from midasdl.cli.plain import Lines, Records
from midasdl.clock import Clock
from midasdl.progress.events import DownloadFailed, Event, PaceChanged, Waiting
from midasdl.progress.snapshot import Snapshot

if TYPE_CHECKING:
    from rich.console import Console

    from midasdl.cli.bar import Bar

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
        console = console or _console(mode)
        self._bar: Bar | None = None
        self._shower: Shower | None = None
        match mode_for(mode, output, console):
            case Mode.BAR if console is not None:
                self._shower = self._bar = _bar(console, clock)
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


def mode_for(mode: Mode, output: Output, console: Console | None) -> Mode:
    """What `Mode.AUTO` means here; no console is no terminal."""
    if mode is not Mode.AUTO:
        return mode
    if not output.shows_progress:
        return Mode.NONE
    is_able = console is not None and console.is_terminal and not console.is_dumb_terminal
    return Mode.BAR if is_able else Mode.LOG


def _console(mode: Mode) -> Console | None:
    """A console where one may be needed: most of midasdl's runs have no terminal, and importing rich takes its time."""
    is_wanted = mode is Mode.BAR or (mode is Mode.AUTO and _may_be_terminal())
    if not is_wanted:
        return None
    from rich.console import Console

    return Console(stderr=True, force_terminal=True if mode is Mode.BAR else None)


def _may_be_terminal() -> bool:
    """Whether rich could take stderr for a terminal, as these variables make it do where there is none."""
    is_forced = any(os.environ.get(name) for name in ("FORCE_COLOR", "TTY_COMPATIBLE"))
    return is_forced or (sys.stderr is not None and sys.stderr.isatty())


def _bar(console: Console, clock: Clock) -> Bar:
    from midasdl.cli.bar import Bar

    return Bar(console, clock)
