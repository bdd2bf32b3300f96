"""The head of a plain answer: 200, its length named, and nothing unusual. Pure."""

from __future__ import annotations

import re
from typing import Any

LARGEST_BODY_BYTES = 8_388_608
"""Beyond this the usual way costs nothing by comparison; hardly any file of the archive is so large."""

PLAIN_HEAD = re.compile(r"HTTP/1\.1 200 [^\r\n]*(?:\r\n[^\s:]+:[^\r\n]*)+")
NAME = re.compile(r"\n([^:]+):")
VALUE = re.compile(r"\n[^:]+:[^\S\r\n]*((?:[^\r\n]*\S)?)")
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
    text = head.decode("latin-1")
    if not PLAIN_HEAD.fullmatch(text):
        return None
    names, values = NAME.findall(text.lower()), VALUE.findall(text)
    headers = PlainHeaders(zip(names, values, strict=True))
    return headers if len(headers) == len(names) and _are_plain(headers) else None


def _are_plain(headers: PlainHeaders) -> bool:
    value_of = super(PlainHeaders, headers).get
    length = value_of("content-length", "")
    return (
        LENGTH.fullmatch(length) is not None
        and int(length) <= LARGEST_BODY_BYTES
        and UNUSUAL_HEADERS.isdisjoint(headers)
        and value_of("connection", "keep-alive").lower() == "keep-alive"
    )
