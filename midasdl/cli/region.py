"""Some lines at the bottom of a terminal that are drawn over again and again, with notes scrolling by above them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.text import Text

UP = "\x1b[{}A"
ERASE_BELOW = "\x1b[J"
ERASE_REST = "\x1b[K"
HIDE_CURSOR = "\x1b[?25l"
SHOW_CURSOR = "\x1b[?25h"


class Region:
    """Draws lines where it drew them before.

    Each time is one write, and every line replaces itself without being blanked first, so nothing flickers. When the
    terminal has become narrower, lines of before have been broken by it: they are counted as they lie now.

    Parameters
    ----------
    console : Console
        Of a terminal.
    write : callable
        Takes what shall reach the terminal.
    """

    def __init__(self, console: Console, write: Callable[[str], None]) -> None:
        self._console = console
        self._write = write
        self._drawn: list[int] = []
        self._ansi = _Ansi(console)

    def draw(self, lines: Sequence[Text]) -> None:
        """Show these lines instead of those of before; as many as the terminal has room for."""
        lines = lines[: max(1, self._console.height - 1)]
        start = self._to_the_start() if self._drawn else HIDE_CURSOR
        self._write(start + "\n".join(self._ansi(line) + ERASE_REST for line in lines) + ERASE_BELOW)
        self._drawn = [line.cell_len for line in lines]

    def above(self, text: str, lines: Sequence[Text]) -> None:
        """Print a note that stays, and the lines below it."""
        start = self._to_the_start() + ERASE_BELOW if self._drawn else ""
        self._drawn = []
        self._write(f"{start}{text}\n")
        self.draw(lines)

    def leave(self) -> None:
        """Let the lines stand as they are, and give the terminal back."""
        if self._drawn:
            self._write(f"\n{SHOW_CURSOR}")
            self._drawn = []

    def _to_the_start(self) -> str:
        """Back to the first cell of what was drawn."""
        width = max(1, self._console.width)
        rows = sum(max(1, -(-cells // width)) for cells in self._drawn)
        return "\r" + (UP.format(rows - 1) if rows > 1 else "")


class _Ansi:
    """Turns a line into what the terminal understands, with its colours as far as it has any."""

    def __init__(self, console: Console) -> None:
        self._file = io.StringIO()
        self._console = Console(
            file=self._file,
            force_terminal=True,
            color_system=console.color_system,  # type: ignore[arg-type]
            no_color=console.no_color,
            legacy_windows=False,
        )

    def __call__(self, line: Text) -> str:
        self._file.seek(0)
        self._file.truncate()
        self._console.print(line, end="", highlight=False, soft_wrap=True)
        return self._file.getvalue()
