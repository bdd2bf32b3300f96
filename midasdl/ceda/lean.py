"""The short way of a plain request: a connection that is there already, one send, one look at the answer.

What requests, urllib3 and http.client do for a small file takes several times as long as its bytes. This adapter
does it for the plain case alone: a GET without a proxy over a connection that urllib3 has made, checked and kept, and
an answer 200 that names its length. Whatever else comes is handed to the parser of the standard library, with the
bytes that have come, and becomes the response that the usual adapter would have made of it. New connections, proxies
and certificates are the usual adapter's from the start.
"""

from __future__ import annotations

import http.client
import io
import ssl
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

import requests
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3 import HTTPHeaderDict, HTTPResponse
from urllib3.exceptions import ClosedPoolError, IncompleteRead, ProtocolError, ReadTimeoutError

from midasdl.ceda.link import END_OF_HEAD, RECEIVE_BYTES, Link
from midasdl.ceda.plain_head import PlainHeaders, plain_headers

AT_ONCE = timedelta(0)


class LeanAdapter(HTTPAdapter):
    """An adapter for `requests` that sends plain requests the short way, and all others as usual.

    Notes
    -----
    Concurrency: belongs to one thread, as its session does. Nothing is ever sent twice.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._pools: dict[tuple[str, Any], Any] = {}
        self._sent: tuple[Any, str, str] = (None, "", "")
        self._kept: Link | None = None
        self.room = memoryview(bytearray(RECEIVE_BYTES))

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send a request; see `requests.adapters.HTTPAdapter.send`."""
        if stream and cert is None and type(timeout) is tuple and _is_plain(request, proxies):
            link = self._link_to(request, verify)
            if link is not None:
                return self._exchange(link, request, timeout[1])
        self.let_go()
        return super().send(request, stream, timeout, verify, cert, proxies)

    def close(self) -> None:
        """Let go of all connections."""
        self.let_go()
        self._pools.clear()
        super().close()

    def _link_to(self, request: requests.PreparedRequest, verify: Any) -> Link | None:
        """A kept connection to where a request goes; None where there is none, or none that lives."""
        url = str(request.url)
        link = self._kept
        if link is not None and url.startswith(link.origin) and verify == link.key[1] and link.is_idle():
            self._kept = None
            return link
        slash = url.find("/", 8)
        if slash < 0:
            return None
        self.let_go()
        return self._borrow((url[:slash], verify), request, verify)

    def _borrow(self, key: tuple[str, Any], request: requests.PreparedRequest, verify: Any) -> Link | None:
        pool = self._pools.get(key)
        if pool is None:
            pool = cast("Any", self.get_connection_with_tls_context(request, verify))
            self._pools[key] = pool
        try:
            connection = pool._get_conn()  # noqa: SLF001 - urllib3 has no other way to a connection of its pool
        except ClosedPoolError:
            del self._pools[key]
            return None
        if connection.sock is None:
            pool._put_conn(connection)  # noqa: SLF001
            return None
        return Link(self, key, pool, connection)

    def keep(self, link: Link) -> None:
        """Have a connection ready for the next plain request."""
        self.let_go()
        self._kept = link

    def let_go(self) -> None:
        """Give the connection that is kept for plain requests to its pool, where all others look for one."""
        link, self._kept = self._kept, None
        if link is not None:
            link.give_back()

    def _exchange(self, link: Link, request: requests.PreparedRequest, silence_s: float) -> requests.Response:
        """Send a request and look at the answer; a connection that fails meanwhile is of no further use."""
        try:
            link.be_patient(silence_s)
            head = f"GET {target_of(request)} HTTP/1.1\r\n{self._lines(link, request)}"
            link.socket.sendall(head.encode("latin-1"))
            begun, end = link.receive_head()
            headers = plain_headers(begun[:end]) if end >= 0 else None
            if headers is None:
                return self._hand_over(link, request, begun)
        except BaseException as error:
            link.break_off()
            raise _as_usual(error, link, request, silence_s) from None
        body = LeanBody(link, begun[end + len(END_OF_HEAD) :], int(headers.get("content-length")))
        return LeanResponse(request, headers, body, self)

    def _lines(self, link: Link, request: requests.PreparedRequest) -> str:
        """The headers of a request; whoever sends the same mapping again has not changed it."""
        host, headers = link.host_line, request.headers
        if self._sent[0] is not headers or self._sent[1] != host:
            lines = [host, *(f"{name}: {value}" for name, value in headers.items())]
            self._sent = headers, host, "\r\n".join(lines) + "\r\n\r\n"
        return self._sent[2]

    def _hand_over(self, link: Link, request: requests.PreparedRequest, begun: bytes) -> requests.Response:
        """Let the standard library read what has come and what is to come."""
        answer = http.client.HTTPResponse(_Begun(begun, link.socket), method="GET")  # type: ignore[arg-type]
        answer.begin()
        if answer.will_close:
            link.connection.close()  # the answer keeps the socket until it has been read
        raw = HTTPResponse(
            body=answer,
            headers=HTTPHeaderDict(answer.msg.items()),
            status=answer.status,
            version=answer.version,
            reason=answer.reason,
            preload_content=False,
            decode_content=False,
            original_response=answer,
            pool=link.pool,
            connection=link.connection,
            request_method="GET",
            request_url=target_of(request),
        )
        return self.build_response(request, raw)


def _is_plain(request: requests.PreparedRequest, proxies: Any) -> bool:
    if request.method != "GET" or request.body is not None:
        return False
    return not proxies or not select_proxy(str(request.url), proxies)


def target_of(request: requests.PreparedRequest) -> str:
    """What of a URL with a path is asked for."""
    url = str(request.url)
    target = url[url.index("/", 8) :]
    return target.partition("#")[0] if "#" in target else target


def _as_usual(
    error: BaseException, link: Link, request: requests.PreparedRequest, silence_s: float
) -> BaseException:
    """What the usual adapter raises for an exchange that fails before there is a response."""
    match error:
        case TimeoutError():
            words = f"Read timed out. (read timeout={silence_s})"
            silent = ReadTimeoutError(link.pool, target_of(request), words)
            return requests.ReadTimeout(silent, request=request)
        case ssl.SSLError():
            return requests.exceptions.SSLError(error, request=request)
        case OSError() | http.client.HTTPException():
            return requests.ConnectionError(ProtocolError("Connection aborted.", error), request=request)
        case _:
            return error


class LeanBody:
    """The body of a plain answer, as far as `CedaClient` and `requests.Response` use one.

    Parameters
    ----------
    begun : bytes
        What came together with the head.
    size_bytes : int
        Of the whole.
    """

    def __init__(self, link: Link, begun: bytes, size_bytes: int) -> None:
        self._link: Link | None = link
        self._begun = begun[:size_bytes]
        self._size_bytes = size_bytes
        self._missing = size_bytes - len(begun)
        if self._missing < 0:
            self.close()  # more came than was announced: what comes next cannot be told apart
        elif self._missing == 0:
            self._end()

    def read(self, amt: int | None = None, decode_content: bool | None = None) -> bytes:
        """All of it."""
        begun, self._begun = self._begun, b""
        if self._missing <= 0:
            return begun
        whole = bytearray(len(begun) + self._missing)
        whole[: len(begun)] = begun
        view = memoryview(whole)
        while self._missing:
            self._receive_into(view[-self._missing :])
        return bytes(whole)

    def stream(self, amt: int = RECEIVE_BYTES, decode_content: bool | None = None) -> Iterator[bytes]:
        """All of it, in pieces of at most `amt` bytes."""
        begun, self._begun = self._begun, b""
        for start in range(0, len(begun), amt):
            yield begun[start : start + amt]
        piece = memoryview(bytearray(amt))
        while self._missing > 0:
            got = self._receive_into(piece[: self._missing])
            yield bytes(piece[:got])

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

    def _receive_into(self, place: memoryview) -> int:
        """Take what comes next; what fails is told in urllib3's words."""
        link = self._link
        if link is None:
            raise ProtocolError("The body was closed before it was read.")
        try:
            got: int = link.socket.recv_into(place)
            if got == 0:
                raise IncompleteRead(self._size_bytes - self._missing, self._missing)
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
    if isinstance(error, TimeoutError):
        return ReadTimeoutError(pool, None, "Read timed out.")
    if isinstance(error, OSError | http.client.HTTPException):
        return ProtocolError(f"Connection broken: {error!r}", error)
    return error


class LeanResponse(requests.Response):
    """A plain answer; it has no cookies and no history."""

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


class _Begun:
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
