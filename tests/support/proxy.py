"""A proxy as a university has it: CONNECT, with user name and password, and a list of whom it was asked for."""

from __future__ import annotations

import base64
import selectors
import socket
import socketserver
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import quote

USER = "proxy-user"


@dataclass
class Proxy:
    """Lets those through to a port of this machine who show user name and password.

    Attributes
    ----------
    password : str
    routes : mapping of str to int
        ``host:port`` as it is asked for, and the port of this machine that stands for it; others are refused.
    refusal : str or None
        The status with which everybody is refused.
    asked : list of tuple
        Target and status of each CONNECT.
    """

    password: str
    routes: Mapping[str, int]
    refusal: str | None = None
    asked: list[tuple[str, int]] = field(default_factory=list)

    def __enter__(self) -> Self:
        proxy = self

        class Visit(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                proxy.serve(self)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Visit)
        self._server.daemon_threads = True
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def url(self, password: str | None = None) -> str:
        """What ``HTTPS_PROXY`` must be."""
        secret = quote(self.password if password is None else password, safe="")
        return f"http://{USER}:{secret}@127.0.0.1:{self._server.server_address[1]}"

    @property
    def anonymous_url(self) -> str:
        """The same without user name and password."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def serve(self, visit: socketserver.StreamRequestHandler) -> None:
        """One CONNECT, and what follows it."""
        words = visit.rfile.readline().decode("latin-1").split()
        headers = dict(_headers(visit))
        if len(words) != 3:
            return
        status = self._status(words[0], words[1], headers.get("proxy-authorization", ""))
        self.asked.append((words[1], int(status[:3])))
        if not status.startswith("200"):
            challenge = 'Proxy-Authenticate: Basic realm="university"\r\n' if status.startswith("407") else ""
            visit.wfile.write(f"HTTP/1.1 {status}\r\n{challenge}Content-Length: 0\r\n\r\n".encode())
            return
        with socket.create_connection(("127.0.0.1", self.routes[words[1]])) as there:
            visit.wfile.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
            self._carry(visit.connection, there)

    def _status(self, method: str, target: str, shown: str) -> str:
        expected = base64.b64encode(f"{USER}:{self.password}".encode()).decode()
        if self.refusal is not None:
            return self.refusal
        if shown != f"Basic {expected}":
            return "407 Proxy Authentication Required"
        if method != "CONNECT" or target not in self.routes:
            return "403 Forbidden"
        return "200 Connection established"

    def _carry(self, here: socket.socket, there: socket.socket) -> None:
        """Bytes both ways until either side has had enough."""
        with selectors.DefaultSelector() as selector:
            selector.register(here, selectors.EVENT_READ, there)
            selector.register(there, selectors.EVENT_READ, here)
            while not self._stopping.is_set():
                for key, _ in selector.select(0.1):
                    data = _read(key.fileobj)
                    if not data:
                        return
                    key.data.sendall(data)


def _read(source: object) -> bytes:
    assert isinstance(source, socket.socket)
    try:
        return source.recv(65_536)
    except ConnectionError:
        return b""


def _headers(visit: socketserver.StreamRequestHandler) -> list[tuple[str, str]]:
    headers = []
    while (line := visit.rfile.readline().decode("latin-1").strip()) != "":
        name, _, value = line.partition(":")
        headers.append((name.lower(), value.strip()))
    return headers
