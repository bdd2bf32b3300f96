"""The short way of a plain request: a connection that is there already, one send, one look at the answer.

What requests, urllib3 and http.client do for a small file takes several times as long as its bytes. This adapter
does it for the plain case alone: a GET without a proxy over a connection that urllib3 has made, checked and kept, and
an answer 200 that names its length. Whatever else comes is handed to the parser of the standard library, with the
bytes that have come, and becomes the response that the usual adapter would have made of it. New connections, proxies
and certificates are the usual adapter's from the start.
"""

from __future__ import annotations

import http.client
import ssl
from typing import Any, cast

import requests
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3 import HTTPHeaderDict, HTTPResponse
from urllib3.exceptions import ClosedPoolError, ProtocolError, ReadTimeoutError

from midasdl.ceda.lean_answer import Begun, LeanBody, LeanResponse
from midasdl.ceda.link import END_OF_HEAD, Link
from midasdl.ceda.plain_head import HeadReader
from midasdl.ceda.room import Room


class LeanAdapter(HTTPAdapter):
    """An adapter for `requests` that sends plain requests the short way, and all others as usual.

    Attributes
    ----------
    room : Room
        Into which plain answers come.

    Notes
    -----
    Concurrency: belongs to one thread, as its session does. Nothing is ever sent twice.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.room = Room()
        self._pools: dict[tuple[str, Any], Any] = {}
        self._kept: Link | None = None
        self._heads = HeadReader()
        self._latest: LeanBody | None = None

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
        if _is_plain(request, stream, timeout, cert, proxies):
            link = self._link_to(request, verify)
            if link is not None:
                head = f"GET {target_of(request)}{lines_of(request, link.host_line)}".encode("latin-1")
                return self._exchange(link, request, head, timeout[1])
        self.let_go()
        return super().send(request, stream, timeout, verify, cert, proxies)

    def short_way(
        self, request: requests.PreparedRequest, *, timeout: Any, verify: Any, **options: Any
    ) -> ShortWay | None:
        """The way for requests that are like this one but for what their URL ends with; None if it is not plain.

        Parameters
        ----------
        timeout, verify, **options : Any
            As for `send`.
        """
        is_plain = _is_plain(request, timeout=timeout, **options)
        return ShortWay(self, request, timeout[1], verify) if is_plain else None

    def close(self) -> None:
        """Let go of all connections."""
        self.let_go()
        self._pools.clear()
        super().close()

    def take_kept(self, url: str, verify: Any) -> Link | None:
        """The connection that was last used, if it leads to where `url` points, and lives."""
        link = self._kept
        if link is None or not url.startswith(link.origin) or verify != link.key[1] or not link.is_idle():
            return None
        self._kept = None
        return link

    def keep(self, link: Link) -> None:
        """Have a connection ready for the next plain request."""
        if self._kept is not None:
            self.let_go()
        self._kept = link

    def let_go(self) -> None:
        """Give the connection that is kept for plain requests to its pool, where all others look for one."""
        link, self._kept = self._kept, None
        if link is not None:
            link.give_back()

    def _link_to(self, request: requests.PreparedRequest, verify: Any) -> Link | None:
        """A kept connection to where a request goes; None where there is none, or none that lives."""
        url = str(request.url)
        link = self.take_kept(url, verify)
        if link is not None:
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

    def _exchange(
        self, link: Link, request: requests.PreparedRequest, head: bytes, silence_s: float
    ) -> requests.Response:
        """Send a request and look at the answer; a connection that fails meanwhile is of no further use."""
        if self._latest is not None:
            self._latest.leave_room()
        try:
            link.be_patient(silence_s)
            link.socket.sendall(head)
            come, end = link.receive_head()
            headers = self._heads.read(bytes(self.room.view[:end])) if end >= 0 else None
            if headers is None:
                return self._hand_over(link, request, bytes(self.room.view[:come]))
        except BaseException as error:
            link.break_off()
            raise _as_usual(error, link, request, silence_s) from None
        size_bytes = int(headers.get("content-length"))
        self._latest = LeanBody(link, self.room, end + len(END_OF_HEAD), come, size_bytes)
        return LeanResponse(request, headers, self._latest, self)

    def _hand_over(self, link: Link, request: requests.PreparedRequest, begun: bytes) -> requests.Response:
        """Let the standard library read what has come and what is to come."""
        link.be_as_usual()
        answer = http.client.HTTPResponse(Begun(begun, link.socket), method="GET")  # type: ignore[arg-type]
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


class ShortWay:
    """The way to all that lies below one URL, for requests that differ in nothing else.

    Parameters
    ----------
    request : requests.PreparedRequest
        Of the URL itself, which ends with a slash; it is sent again and again.
    silence_s : float
        How long the server may say nothing.
    """

    def __init__(
        self, adapter: LeanAdapter, request: requests.PreparedRequest, silence_s: float, verify: Any
    ) -> None:
        self._adapter = adapter
        self._request = request
        self._url = str(request.url)
        self._silence_s = silence_s
        self._verify = verify
        self._target = f"GET {target_of(request)}".encode("latin-1")
        self._link: Link | None = None
        self._lines = b""

    def ask(self, path: str) -> requests.Response | None:
        """Send the request for what has a path below the URL; None where no connection is at hand.

        Parameters
        ----------
        path : str
            Stands in a URL as it is.
        """
        link = self._adapter.take_kept(self._url, self._verify)
        if link is None:
            return None
        if link is not self._link:
            self._link = link
            self._lines = lines_of(self._request, link.host_line).encode("latin-1")
        self._request.url = self._url + path
        head = self._target + path.encode("latin-1") + self._lines
        return self._adapter._exchange(link, self._request, head, self._silence_s)  # noqa: SLF001 - its other half


def _is_plain(
    request: requests.PreparedRequest,
    stream: bool = False,
    timeout: Any = None,
    cert: Any = None,
    proxies: Any = None,
) -> bool:
    if not stream or cert is not None or type(timeout) is not tuple:
        return False
    if request.method != "GET" or request.body is not None:
        return False
    return not proxies or not select_proxy(str(request.url), proxies)


def lines_of(request: requests.PreparedRequest, host_line: str) -> str:
    """What follows the target in a request, word for word as http.client writes it."""
    lines = [host_line, *(f"{name}: {value}" for name, value in request.headers.items())]
    return " HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n"


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
        case TimeoutError() | BlockingIOError():
            words = f"Read timed out. (read timeout={silence_s})"
            silent = ReadTimeoutError(link.pool, target_of(request), words)
            return requests.ReadTimeout(silent, request=request)
        case ssl.SSLError():
            return requests.exceptions.SSLError(error, request=request)
        case OSError() | http.client.HTTPException():
            return requests.ConnectionError(ProtocolError("Connection aborted.", error), request=request)
        case _:
            return error
