"""HTTP on one connection: read a request, ask what becomes of it, send the answer, keep the record."""

from __future__ import annotations

import logging
import select
import socket
import struct
from collections.abc import Iterator
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler

from midasdl.simulator.accounts import read_bearer
from midasdl.simulator.delivery import Stroke, ends_connection, framing, strokes
from midasdl.simulator.faults import Fault, FaultAction
from midasdl.simulator.listener import Listener
from midasdl.simulator.replies import Reply, error_reply
from midasdl.simulator.requestlog import OpenRecord
from midasdl.simulator.routes import Request, read_target, route_of
from midasdl.version import __version__

_LOG = logging.getLogger(__name__)
_WAIT_SLICE_S = 0.05
_MOST_REQUEST_BODY_BYTES = 1024 * 1024


class ConnectionOverError(ConnectionError):
    """The client has hung up, or the server is being stopped."""


class SimulatorHandler(BaseHTTPRequestHandler):
    """Serves one connection until it ends; each request leaves one record, however it ended."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener

    def setup(self) -> None:
        """Learn which connection this is."""
        super().setup()
        self._workings = self.server.workings
        self._connection = self.server.connection_number(self.request)
        self._served = 0
        self._record: OpenRecord | None = None

    def handle_one_request(self) -> None:
        """Serve one request and keep its record."""
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True
        finally:
            self._close_record()

    def parse_request(self) -> bool:
        """Read the headers; the request has begun with its first line."""
        self._open_record()
        return super().parse_request()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that cannot be understood, and close."""
        self._open_record().method = self.command or ""
        self.close_connection = True
        self._deliver(error_reply(code), None)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the request log has it."""

    def serve(self) -> None:
        """Answer the request whose headers have been read, with a 500 if the simulator itself fails."""
        try:
            self._answer()
        except ConnectionError:
            raise
        except Exception:
            _LOG.exception("the simulator failed to answer %s", self.path)
            self.close_connection = True
            if self._open_record().status == 0:
                self._deliver(error_reply(500), None)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = serve  # noqa: N815 - http.server's names

    def _open_record(self) -> OpenRecord:
        """Return the record of the request at hand; the first call begins it."""
        if self._record is None:
            now_s = self._workings.now_s()
            self._record = self._workings.log.begin(now_s, self._connection, self._client_has_left)
            self._served += 1
        return self._record

    def _close_record(self) -> None:
        if self._record is not None:
            self._workings.log.commit(self._record, self._workings.now_s())
            self._record = None

    def _answer(self) -> None:
        self._skip_request_body()
        request = self._request()
        self._note(request)
        trouble = self._workings.trouble(request, self.server.open_connections)
        fault = None
        if trouble is not None:
            self._open_record().fault, fault = trouble
        if fault is not None and fault.action in (FaultAction.RESET, FaultAction.CLOSE):
            self._hang_up(reset=fault.action == FaultAction.RESET)
        else:
            self._deliver(self._workings.reply(request, fault), fault)

    def _skip_request_body(self) -> None:
        announced = self.headers.get("Content-Length", "0")
        length = int(announced) if announced.isdecimal() else _MOST_REQUEST_BODY_BYTES + 1
        if length > _MOST_REQUEST_BODY_BYTES or "Transfer-Encoding" in self.headers:
            self.close_connection = True
        elif length:
            self.rfile.read(length)

    def _request(self) -> Request:
        target = read_target(self.path)
        return Request(
            method=self.command,
            route=route_of(target, self._workings.tree),
            target=target,
            authorization=self.headers.get("Authorization"),
            range=self.headers.get("Range"),
            if_range=self.headers.get("If-Range"),
        )

    def _note(self, request: Request) -> None:
        record = self._open_record()
        record.method, record.route, record.path = request.method, str(request.route), request.target.path
        record.token = self._workings.tokens.label(read_bearer(request.authorization))
        record.range, record.user_agent = request.range, self.headers.get("User-Agent")

    def _hang_up(self, *, reset: bool) -> None:
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.server.abort(self.request)

    def _deliver(self, reply: Reply, fault: Fault | None) -> None:
        bodiless = self.command == "HEAD"
        frame = framing(reply, http_1_0=self._speaks_http_1_0())
        ends_with_connection = frame is None and len(reply.body) > 0
        if ends_with_connection or self._served == self._workings.keep_alive_requests:
            self.close_connection = True
        in_chunks = frame is not None and frame[0] == "Transfer-Encoding"
        head = self._head(reply, frame)
        to_send = strokes(head, reply, self._workings.pace, fault, bodiless=bodiless, in_chunks=in_chunks)
        sent_bytes = self._send(reply.status, to_send)
        if ends_connection(fault) or (not bodiless and sent_bytes != len(reply.body)):
            self.close_connection = True

    def _speaks_http_1_0(self) -> bool:
        return self.request_version != "HTTP/1.1"

    def _head(self, reply: Reply, frame: tuple[str, str] | None) -> bytes:
        lines = [
            f"HTTP/1.1 {reply.status} {phrase_of(reply.status)}",
            f"Server: midasdl-simulator/{__version__}",
            f"Date: {formatdate(self._workings.now_s(), usegmt=True)}",
        ]
        lines.extend(f"{name}: {value}" for name, value in (*reply.headers, *([frame] if frame else [])))
        if self.close_connection:
            lines.append("Connection: close")
        elif self._speaks_http_1_0():
            lines.append("Connection: keep-alive")
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")

    def _send(self, status: int, to_send: Iterator[Stroke]) -> int:
        record = self._open_record()
        stroke = next(to_send, None)
        while stroke is not None:
            following = next(to_send, None)
            self._wait(stroke.wait_s)
            if following is None:
                self._workings.log.ending(record, self._workings.now_s())
            record.status = status
            self.connection.sendall(stroke.data)
            record.sent_bytes += stroke.body_bytes
            stroke = following
        return record.sent_bytes

    def _wait(self, seconds: float) -> None:
        while seconds > 0.0:
            stopped = self._workings.clock.wait(min(seconds, _WAIT_SLICE_S))
            if stopped or self._workings.stopping() or self._client_has_left():
                raise ConnectionOverError
            seconds -= _WAIT_SLICE_S

    def _client_has_left(self) -> bool:
        try:
            readable = select.select([self.connection], [], [], 0)[0]
            return bool(readable) and socket.socket.recv(self.connection, 1, socket.MSG_PEEK) == b""
        except (OSError, ValueError):
            return True


def phrase_of(status: int) -> str:
    """Return the reason phrase of a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
