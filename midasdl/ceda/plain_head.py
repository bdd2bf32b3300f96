"""The head of a plain answer: 200, its length named, and nothing unusual. Pure."""

from __future__ import annotations

import re
from typing import Any

LARGEST_BODY_BYTES = 8_388_608
"""Beyond this the usual way costs nothing by comparison; hardly any file of the archive is so large."""

STATUS_LINE = r"HTTP/1\.1 200 [^\r\n]*"
PLAIN_HEAD = re.compile(STATUS_LINE + r"(?:\r\n[^\s:]+:[^\r\n]*)+")
SPACE = r"[^\S\r\n]*"
ANY_VALUE = r"((?:[^\r\n]*\S)?)"
NAME = re.compile(r"\n([^:]+):")
VALUE = re.compile(rf"\n[^:]+:{SPACE}{ANY_VALUE}")
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
        return dict.get(self, name.lower(), default)


class HeadReader:
    """Reads the heads of plain answers; those that are like the last one, as a server's are, in one step.

    Notes
    -----
    Concurrency: belongs to one thread.
    """

    __slots__ = ("_like_the_last", "_names")

    def __init__(self) -> None:
        self._like_the_last: re.Pattern[str] | None = None
        self._names: tuple[str, ...] = ()

    def read(self, head: bytes) -> PlainHeaders | None:
        """The headers of an answer in which nothing is unusual; None where anything is, or may be.

        Parameters
        ----------
        head : bytes
            Status line and headers, without the empty line behind them.
        """
        text = head.decode("latin-1")
        if self._like_the_last is not None and (match := self._like_the_last.fullmatch(text)):
            return PlainHeaders(zip(self._names, match.groups(), strict=True))
        headers = plain_headers(text)
        if headers is not None:
            self._names = tuple(headers)
            self._like_the_last = pattern_of(text, headers)
        return headers


def plain_headers(text: str) -> PlainHeaders | None:
    """The headers of a plain answer, as `HeadReader.read` gives them."""
    if not PLAIN_HEAD.fullmatch(text):
        return None
    names, values = NAME.findall(text.lower()), VALUE.findall(text)
    headers = PlainHeaders(zip(names, values, strict=True))
    return headers if len(headers) == len(names) and _are_plain(headers) else None


def pattern_of(text: str, headers: PlainHeaders) -> re.Pattern[str]:
    """What heads look like that are plain because this one is: the same names, and the same said where it matters."""
    lines = [
        rf"\r\n{re.escape(name)}:{SPACE}{_value_like(value, name.lower())}{SPACE}"
        for name, value in zip(NAME.findall(text), headers.values(), strict=True)
    ]
    return re.compile(STATUS_LINE + "".join(lines))


def _value_like(value: str, name: str) -> str:
    """A value that decides nothing may be any; a length may be any that is surely small enough."""
    if name == "content-length":
        return "([0-9]{1,6})"
    return f"({re.escape(value)})" if name == "connection" else ANY_VALUE


def _are_plain(headers: PlainHeaders) -> bool:
    value_of = super(PlainHeaders, headers).get
    length = value_of("content-length", "")
    return (
        LENGTH.fullmatch(length) is not None
        and int(length) <= LARGEST_BODY_BYTES
        and UNUSUAL_HEADERS.isdisjoint(headers)
        and value_of("connection", "keep-alive").lower() == "keep-alive"
    )
