"""A terminal that shows what is written to it, and breaks long lines anew when its width changes."""

from __future__ import annotations

import io
import re

from rich.console import Console

PIECE = re.compile(r"\x1b\[(\d*)([A-Za-z])|\x1b\[\?25([lh])|\x1b\[[\d;]*m|([^\x1b])", re.DOTALL)


class Screen(io.StringIO):
    """Understands what midasdl sends: text, line ends, colours, up, erase the rest of a line or of the screen."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.lines = [""]
        self.row, self.column = 0, 0
        self.cursor_shown = True
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        self.writes.append(text)
        for count, letter, cursor, character in PIECE.findall(text):
            if letter == "A":
                self._up(int(count or 1))
            elif letter == "K":
                self.lines[self.row] = self.lines[self.row][: self.column]
            elif letter == "J":
                self.lines[self.row] = self.lines[self.row][: self.column]
                del self.lines[self.row + 1 :]
            elif cursor:
                self.cursor_shown = cursor == "h"
            elif character:
                self._put(character)
        return len(text)

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column -= self.column % self.width if self.column < len(self.lines[self.row]) else 0
            self.column = (max(0, self.column - 1) // self.width) * self.width
        elif character == "\n":
            self.row, self.column = self.row + 1, 0
            if self.row == len(self.lines):
                self.lines.append("")
        else:
            line = self.lines[self.row]
            self.lines[self.row] = (
                line[: self.column].ljust(self.column) + character + line[self.column + 1 :]
            )
            self.column += 1

    def _up(self, count: int) -> None:
        """By rows as they lie on the screen: a line that is too long takes several."""
        for _ in range(count):
            if self.column >= self.width:
                self.column -= self.width
            else:
                self.row -= 1
                rows = max(1, -(-len(self.lines[self.row]) // self.width))
                self.column = (rows - 1) * self.width
        assert self.row >= 0, "above the top of the screen"

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n")


def console_on(screen: Screen, **facts: object) -> Console:
    """A rich console on that screen; its width follows."""

    class Following(Console):
        @property
        def width(self) -> int:
            return screen.width

        @width.setter
        def width(self, width: int) -> None:
            screen.width = width

    return Following(file=screen, force_terminal=True, height=30, legacy_windows=False, **facts)  # type: ignore[arg-type]
