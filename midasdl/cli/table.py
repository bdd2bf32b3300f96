"""Rows as people read them: in columns where these fit the terminal, else a block for each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

GAP = "  "


def table_lines(
    names: Sequence[str],
    rows: Sequence[Sequence[Any]],
    columns: int | None,
    number: Callable[[int], str] = str,
) -> Iterator[str]:
    """The lines of a table.

    Parameters
    ----------
    names : sequence of str
        Of its columns.
    columns : int or None
        How wide the terminal is; None where lines may be as long as they like.
    number : callable
        How whole numbers are written.
    """
    body = [[number(value) if isinstance(value, int) else _text_of(value) for value in row] for row in rows]
    widths = [
        max(map(_width, column), default=0)
        for column in zip(*[list(map(_text_of, names)), *body], strict=True)
    ]
    if columns is not None and body and sum(widths) + len(GAP) * (len(widths) - 1) > columns:
        yield from _blocks(names, body)
        return
    is_number = [
        bool(rows) and all(isinstance(row[index], int | float | None) for row in rows)
        for index in range(len(names))
    ]
    for line in [list(names), *body]:
        cells = [
            " " * (width - _width(cell)) + cell if right else cell + " " * (width - _width(cell))
            for cell, width, right in zip(line, widths, is_number, strict=True)
        ]
        yield GAP.join(cells).rstrip()


def _blocks(names: Sequence[str], body: Sequence[Sequence[str]]) -> Iterator[str]:
    widest = max(map(_width, names))
    for number, row in enumerate(body, start=1):
        yield f"-- {number}"
        for name, cell in zip(names, row, strict=True):
            yield f"{name}{' ' * (widest - _width(name))}{GAP}{cell}".rstrip()


def _text_of(value: Any) -> str:
    """A value on one line, in characters that do nothing to a terminal."""
    text = "" if value is None else str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _width(text: str) -> int:
    """How many places of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
