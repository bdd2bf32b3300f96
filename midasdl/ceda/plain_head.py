"""The head of a plain answer: 200, its length named, and nothing unusual. Pure."""

from __future__ import annotations

import re
from typing import Any

LARGEST_BODY_BYTES = 8_388_608
"""Beyond this the usual way costs nothing by comparison; hardly any file of the archive is so large."""

PLAIN_BEGINNING = b"HTTP/1.1 200 "
LENGTH = re.compile("[0-9]{1,17}")
UNUSUAL_HEADERS = frozenset({"transfer-encoding", "content-encoding", "set-cookie", "trailer", "upgrade"})


class PlainHeaders(dict[str, str]):
    """The headers of a plain answer; kept in lower case, asked for in any."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a header, or `default`."""
        return super().get(name.lower(), default)


def plain_headers(head: bytes) -> PlainHeaders | None:
    """The headers of an answer in which nothing is unusual; None where anything is, or may be.

    Parameters
    ----------
    head : bytes
        Status line and headers, without the empty line behind them.
    """
    if not head.startswith(PLAIN_BEGINNING) or head.count(b"\n") != head.count(b"\r"):
        return None
    headers = PlainHeaders()
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        key = name.lower()
        if not colon or not name or name.strip() != name or "\n" in value or dict.__contains__(headers, key):
            return None
        headers[key] = value.strip()
    return headers if _are_plain(headers) else None


def _are_plain(headers: PlainHeaders) -> bool:
    value_of = super(PlainHeaders, headers).get
    length = value_of("content-length", "")
    return (
        LENGTH.fullmatch(length) is not None
        and int(length) <= LARGEST_BODY_BYTES
        and UNUSUAL_HEADERS.isdisjoint(headers)
        and value_of("connection", "keep-alive").lower() == "keep-alive"
    )
