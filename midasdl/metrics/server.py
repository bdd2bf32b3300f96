"""``/metrics``, ``/healthz``, ``/status`` and the status page, on one port. Read-only.

Whoever can reach the port may look. So it is this machine's own unless the settings say otherwise, and what a browser
was talked into asking from another site's page is refused by the name that it asks for.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, socket
from typing import Any, ClassVar
from urllib.parse import urlsplit

from midasdl.metrics.figures import Figures, status_of
from midasdl.metrics.page import PAGE, PAGE_POLICY
from midasdl.metrics.prometheus import exposition

STALLED_S = 30.0
"""The coordinator shows something a few times a second; after so much silence it is not healthy."""

MOST_CONNECTIONS = 32
"""More at the same time are closed: a page that asks every few seconds needs one."""

PATIENCE_S = 10.0
"""Who has not sent a request by then is let go."""

LOOK_EVERY_S = 0.05
"""How soon the server notices that it is to end."""

JSON = "application/json; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
NOTHING_BUT_DATA = "default-src 'none'; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered with."""

    status: int
    content_type: str
    body: bytes
    policy: str = NOTHING_BUT_DATA


def answer_to(path: str, accept: str, figures: Figures, silent_s: float) -> Answer:
    """What a GET is answered with. Pure.

    Parameters
    ----------
    silent_s : float
        For how long the coordinator has shown nothing.
    """
    match urlsplit(path).path:
        case "/":
            return Answer(200, "text/html; charset=utf-8", PAGE, PAGE_POLICY)
        case "/status":
            return Answer(200, JSON, json.dumps(status_of(figures)).encode())
        case "/metrics":
            body, content_type = exposition(figures, accept)
            return Answer(200, content_type, body)
        case "/healthz" if silent_s > STALLED_S and figures.ending is None:
            return Answer(503, TEXT, f"stalled: nothing was heard of the run for {silent_s:.0f} s\n".encode())
        case "/healthz":
            return Answer(200, TEXT, f"ok: {figures.phase}\n".encode())
        case _:
            return Answer(404, TEXT, b"There is /, /status, /metrics and /healthz.\n")


def is_welcome(asked_for: str | None, listening_on: str) -> bool:
    """Whether a request names this machine, where only this machine is served.

    A page of another site may let a browser ask any address, also under a name of its own that leads here; then the
    name of that site stands in the request.
    """
    if not is_loopback(listening_on):
        return True
    host = urlsplit(f"//{asked_for or ''}").hostname
    return host is not None and is_loopback(host)


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own, which nobody else can reach."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class StatusServer:
    """Serves the figures of a run.

    Parameters
    ----------
    host, port : str, int
        Where to listen; port 0 takes any that is free.
    latest : callable
        The figures of now.
    silent_s : callable

    Raises
    ------
    OSError
        The port is taken, or the address is none of this machine's.
    """

    def __init__(
        self, host: str, port: int, latest: Callable[[], Figures], silent_s: Callable[[], float]
    ) -> None:
        self._server = _Server(host, port, latest, silent_s)
        serve = partial(self._server.serve_forever, poll_interval=LOOK_EVERY_S)
        self._thread = threading.Thread(target=serve, daemon=True, name="status server")
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the page is."""
        host, port, *_ = self._server.server_address
        shown = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"http://{shown}:{port}/"

    def close(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = MOST_CONNECTIONS

    def __init__(
        self, host: str, port: int, latest: Callable[[], Figures], silent_s: Callable[[], float]
    ) -> None:
        self.address_family = AF_INET6 if ":" in host else AF_INET
        self.listening_on = host
        self.latest, self.silent_s = latest, silent_s
        self._room = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        """Whoever hangs up on us is nobody's concern, and no traceback's."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = PATIENCE_S
    server_version = "midasdl"
    sys_version = ""
    security: ClassVar[dict[str, str]] = {
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
    }

    def do_GET(self) -> None:
        self._send(self._answer())

    def do_HEAD(self) -> None:
        self._send(self._answer())

    def _answer(self) -> Answer:
        if not is_welcome(self.headers.get("Host"), self.server.listening_on):
            return Answer(403, TEXT, b"Ask for localhost, or change metrics.host.\n")
        return answer_to(
            self.path, self.headers.get("Accept", ""), self.server.latest(), self.server.silent_s()
        )

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Content-Security-Policy", answer.policy)
        for name, value in self.security.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *words: Any) -> None:  # noqa: A002 - as the base class has it
        """Who looks is not written down."""
