"""An answer as a value: status, headers and a body that is bytes or a stretch of a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path

from midasdl.simulator import pages

HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
PIECE_BYTES = 256 * 1024
IN_MEMORY_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FilePart:
    """`length` bytes of a file from `start`, read when they are sent."""

    path: Path
    start: int
    length: int

    def __len__(self) -> int:
        return self.length

    def pieces(self, piece_bytes: int) -> Iterator[bytes]:
        """Read the stretch piece by piece; a file that has become shorter ends it early."""
        left = self.length
        with self.path.open("rb") as stream:
            stream.seek(self.start)
            while left > 0:
                piece = stream.read(min(left, piece_bytes))
                if not piece:
                    return
                left -= len(piece)
                yield piece


Body = bytes | FilePart


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server says to one request; how it is sent is decided elsewhere.

    `headers` hold neither the length, nor the date, nor the connection's fate.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: Body = b""
    chunked: bool = False

    def with_headers(self, *headers: tuple[str, str]) -> Reply:
        """Return the same answer with further headers."""
        return replace(self, headers=(*self.headers, *headers))


def load(body: Body) -> bytes:
    """Return a body as bytes."""
    return body if isinstance(body, bytes) else b"".join(body.pieces(PIECE_BYTES))


def first_bytes(body: Body, count: int) -> Body:
    """Return the first `count` bytes of a body."""
    if isinstance(body, bytes):
        return body[:count]
    return replace(body, length=min(count, body.length))


def remaining_bytes(body: Body, count: int) -> Body:
    """Return a body without its first `count` bytes."""
    if isinstance(body, bytes):
        return body[count:]
    skipped = min(count, body.length)
    return replace(body, start=body.start + skipped, length=body.length - skipped)


def pieces(body: Body, piece_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
    """Return a body piece by piece."""
    if isinstance(body, FilePart):
        return body.pieces(piece_bytes)
    return (body[start : start + piece_bytes] for start in range(0, len(body), piece_bytes))


def text_reply(status: int, text: str, content_type: str = TEXT) -> Reply:
    """Answer with a few words."""
    return Reply(status, (("Content-Type", content_type),), text.encode())


def html_reply(status: int, html: str) -> Reply:
    """Answer with a page."""
    return text_reply(status, html, HTML)


def json_reply(status: int, value: object) -> Reply:
    """Answer with JSON."""
    return text_reply(status, json.dumps(value), "application/json")


def error_reply(status: int) -> Reply:
    """Answer an error as a web server does: with an HTML page that names it."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    return html_reply(status, pages.error_page(status, phrase))


def redirect_reply(location: str, text: str = "") -> Reply:
    """Answer 302."""
    return text_reply(302, text).with_headers(("Location", location))
