"""The picture of a run at the bottom of a terminal, drawn anew a few times a second."""

from __future__ import annotations

import sys
from typing import TextIO, cast

from rich.console import Console

from midasdl.cli.output import let_go, write_through
from midasdl.cli.picture import picture, symbols_for
from midasdl.cli.region import Region
from midasdl.clock import Clock
from midasdl.progress.snapshot import Phase, Snapshot

DRAW_EVERY_S = 0.25
"""More often, nobody could read it."""


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
