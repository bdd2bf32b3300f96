"""Plain answers, as far as `CedaClient` and `requests` use one, and others that have begun to come."""

from __future__ import annotations

import http.client
import io
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import IncompleteRead, ProtocolError, ReadTimeoutError

from midasdl.ceda.link import Link
from midasdl.ceda.plain_head import PlainHeaders
from midasdl.ceda.room import RECEIVE_BYTES, Room

AT_ONCE = timedelta(0)
SILENT = (TimeoutError, BlockingIOError)
"""What a socket raises that has waited for too long; see `midasdl.ceda.link.be_patient`."""


class LeanBody:
    """The body of a plain answer.

    Parameters
    ----------
    room : Room
        Into which it comes.
    start, end : int
        Between which it has come together with the head; more than was announced may lie there.
    size_bytes : int
        Of the whole, as announced.
    """

    __slots__ = ("_come", "_link", "_missing", "_own", "_room", "_start", "size_bytes")

    def __init__(self, link: Link, room: Room, start: int, end: int, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._link: Link | None = link
        self._room = room
        self._start = start
        self._come = min(end - start, size_bytes)
        self._own: bytes | None = None
        self._missing = size_bytes - (end - start)
        if self._missing == 0:
            self._end()
        elif self._missing < 0:
            self.close()  # more came than was announced: what comes next cannot be told apart

    def lend(self) -> memoryview:
        """All of it, in memory that holds it until the next request of the same session."""
        begun = self._take()
        if self._missing <= 0:
            return begun
        size = len(begun) + self._missing
        if self._own is None:
            whole = self._room.whole(self._start, len(begun), size)
        else:
            whole = memoryview(bytearray(size))
            whole[: len(begun)] = begun
        while self._missing:
            self._receive_into(whole[-self._missing :])
        return whole

    def read(self, amt: int | None = None, decode_content: bool | None = None) -> bytes:
        """All of it."""
        return bytes(self.lend())

    def stream(self, amt: int = RECEIVE_BYTES, decode_content: bool | None = None) -> Iterator[bytes]:
        """All of it, in pieces of at most `amt` bytes."""
        begun = bytes(self._take())
        for start in range(0, len(begun), amt):
            yield begun[start : start + amt]
        piece = memoryview(bytearray(amt if self._missing > 0 else 0))
        while self._missing > 0:
            got = self._receive_into(piece[: self._missing])
            yield bytes(piece[:got])

    def leave_room(self) -> None:
        """The room is needed for another answer: what nobody has read yet gets memory of its own."""
        if self._come and self._own is None:
            self._own = bytes(self._room.view[self._start : self._start + self._come])

    def drain_conn(self) -> None:
        """Make the connection ready for the next request."""
        for _ in self.stream():
            pass

    def release_conn(self) -> None:
        """The pool has the connection back as soon as the body has been read."""

    def close(self) -> None:
        """Read no more; what is left unread makes the connection useless."""
        link, self._link = self._link, None
        if link is not None:
            link.break_off()

    def _take(self) -> memoryview:
        """What has come and was not given out yet."""
        come, self._come = self._come, 0
        if self._own is not None:
            return memoryview(self._own)[:come]
        return self._room.view[self._start : self._start + come]

    def _receive_into(self, place: memoryview) -> int:
        """Take what comes next; what fails is told in urllib3's words."""
        link = self._link
        if link is None:
            raise ProtocolError("The body was closed before it was read.")
        try:
            got: int = link.socket.recv_into(place)
            if got == 0:
                raise IncompleteRead(self.size_bytes - self._missing, self._missing)
        except BaseException as error:
            self.close()
            raise _in_urllib3s_words(error, link.pool) from None
        self._missing -= got
        if self._missing == 0:
            self._end()
        return got

    def _end(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.free()


def _in_urllib3s_words(error: BaseException, pool: Any) -> BaseException:
    if isinstance(error, SILENT):
        return ReadTimeoutError(pool, None, "Read timed out.")
    if isinstance(error, OSError | http.client.HTTPException):
        return ProtocolError(f"Connection broken: {error!r}", error)
    return error


class LeanResponse(requests.Response):
    """A plain answer; it has no cookies and no history."""

    raw: LeanBody

    def __init__(
        self, request: requests.PreparedRequest, headers: PlainHeaders, raw: LeanBody, adapter: HTTPAdapter
    ) -> None:
        self._content = False  # type: ignore[assignment]
        self._content_consumed = False
        self._next = None
        self.status_code = 200
        self.reason = "OK"
        self.headers = headers  # type: ignore[assignment]
        self.raw = raw
        self.url = request.url  # type: ignore[assignment]
        self.encoding = None
        self.history = []
        self.elapsed = AT_ONCE
        self.request = request
        self.connection = adapter

    def close(self) -> None:
        """Read no more of it."""
        self.raw.close()


class Begun:
    """A socket of which some bytes have been received already, as far as http.client needs one."""

    def __init__(self, begun: bytes, socket: Any) -> None:
        self._begun = begun
        self._socket = socket

    def makefile(self, _: str) -> io.BufferedReader:
        """The bytes that have come, then those that come."""
        return io.BufferedReader(_Chained(self._begun, self._socket.makefile("rb", buffering=0)))


class _Chained(io.RawIOBase):
    def __init__(self, begun: bytes, rest: Any) -> None:
        self._begun = memoryview(begun)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, place: Any) -> int | None:
        if not self._begun:
            got: int | None = self._rest.readinto(place)
            return got
        count = min(len(place), len(self._begun))
        place[:count] = self._begun[:count]
        self._begun = self._begun[count:]
        return count

    def close(self) -> None:
        if not self.closed:
            self._rest.close()
        super().close()
