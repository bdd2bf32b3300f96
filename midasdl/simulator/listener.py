"""Sockets and threads: one thread a connection, every one of them known, so that all can be ended."""

from __future__ import annotations

import logging
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

from midasdl.simulator.workings import Workings

_LOG = logging.getLogger(__name__)
_POLL_S = 0.02
_JOIN_S = 5.0


class Listener(ThreadingHTTPServer):
    """Accepts connections and hands each to a handler in a thread of its own.

    `workings` must be set before `start`: the address is known only after the socket is bound.

    Parameters
    ----------
    tls : ssl.SSLContext, optional
        Speak TLS. The handshake belongs to the thread of its connection, so that nobody else waits for it.
    """

    daemon_threads = True
    request_queue_size = 256
    workings: Workings

    def __init__(
        self,
        address: tuple[str, int],
        handler: Callable[..., BaseHTTPRequestHandler],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.accepted = 0
        self._tls = tls
        self._numbers = count(1)
        self._connections: dict[socket.socket, int] = {}
        self._handlers: set[threading.Thread] = set()
        self._aborted: set[socket.socket] = set()
        self._acceptor = threading.Thread(
            target=self.serve_forever, args=(_POLL_S,), name="simulator", daemon=True
        )
        super().__init__(address, handler)

    @property
    def open_connections(self) -> int:
        """How many connections are open, idle ones included."""
        return len(self._connections)

    def connection_number(self, connection: socket.socket) -> int:
        """Return the ordinal of a connection, from 1."""
        return self._connections[connection]

    def abort(self, connection: socket.socket) -> None:
        """Skip the orderly end of a connection, so that closing it resets it."""
        self._aborted.add(connection)

    def start(self) -> None:
        """Accept connections from now on."""
        self._acceptor.start()

    def stop(self) -> None:
        """Accept no more, end every connection and wait for their threads."""
        self.shutdown()
        self._acceptor.join()
        self.server_close()
        for connection in list(self._connections):
            _end(connection)
        deadline = time.monotonic() + _JOIN_S
        for thread in list(self._handlers):
            thread.join(max(0.0, deadline - time.monotonic()))

    def server_bind(self) -> None:
        """Bind without asking the resolver for this machine's name, as the standard library would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection."""
        connection, address = super().get_request()
        self.accepted += 1
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the thread of a connection."""
        number = next(self._numbers)
        self._connections[request] = number
        thread = threading.Thread(
            target=self._handle, args=(request, client_address), name=f"simulator-{number}", daemon=True
        )
        self._handlers.add(thread)
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        """End a connection: in order, or by a reset if it was aborted."""
        if request in self._aborted:
            self._aborted.discard(request)
            self.close_request(request)
        else:
            super().shutdown_request(request)
        self._connections.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what a handler did not expect; a client that hangs up is no error."""
        _LOG.debug("a connection of the simulator broke", exc_info=True)

    def _handle(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.process_request_thread(request, client_address)
        finally:
            self._handlers.discard(threading.current_thread())


def _end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        _LOG.debug("a connection had ended by itself")
