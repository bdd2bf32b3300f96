"""A connection that is kept at hand for plain requests, one at a time."""

from __future__ import annotations

import http.client
import select
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from midasdl.ceda.room import Room

LONGEST_HEAD_BYTES = 65_536
END_OF_HEAD = b"\r\n\r\n"
SYSTEM_COUNTS = sys.platform == "linux" and sys.maxsize > 2**32
"""Whether the system itself can be told how long a socket waits, in a form that is known here."""


class Keeper(Protocol):
    """Whoever lends connections.

    Attributes
    ----------
    room : Room
        Where what comes is received.
    """

    room: Room

    def keep(self, link: Link) -> None:
        """Have it back, ready for the next request."""


class Link:
    """A connection that its pool has lent for plain requests, one at a time."""

    __slots__ = (
        *("_is_readable", "_keeper", "_patience_s"),
        *("connection", "host_line", "key", "origin", "pool", "socket"),
    )

    def __init__(self, keeper: Keeper, key: tuple[str, Any], pool: Any, connection: Any) -> None:
        self._keeper = keeper
        self._is_readable = watch(connection.sock)
        self._patience_s: float | None = None
        self.key = key
        self.origin = f"{key[0]}/"
        self.pool = pool
        self.connection = connection
        self.socket = connection.sock
        self.host_line = host_line(connection)

    def is_idle(self) -> bool:
        """Whether it lives: nothing has come since the last answer, not even its end."""
        return self.connection.sock is self.socket and not self._is_readable()

    def be_patient(self, silence_s: float) -> None:
        """Let its socket wait for so long."""
        if self._patience_s != silence_s:
            be_patient(self.socket, silence_s)
            self._patience_s = silence_s

    def receive_head(self) -> tuple[int, int]:
        """How much has come into the room when the head is complete, and where it ends; -1 where it does not."""
        room = self._keeper.room
        receive = self.socket.recv_into
        got: int = receive(room.view)
        if not got:
            raise http.client.RemoteDisconnected("Remote end closed connection without response")
        while (end := room.find(END_OF_HEAD, got)) < 0 and got < LONGEST_HEAD_BYTES:
            more = receive(room.view[got:])
            if not more:
                break
            got += more
        return got, end

    def free(self) -> None:
        """An exchange is over, and all of it has been read."""
        self._keeper.keep(self)

    def be_as_usual(self) -> None:
        """Let its socket wait as the standard library expects of it."""
        if self._patience_s is not None:
            self.socket.settimeout(self._patience_s)
            self._patience_s = None

    def give_back(self) -> None:
        """Let the pool have it; who takes it from there says anew how long it waits."""
        self.pool._put_conn(self.connection)  # noqa: SLF001 - urllib3 has no other way to give one back

    def break_off(self) -> None:
        """Close it."""
        self.connection.close()
        self.give_back()


def be_patient(connected: Any, silence_s: float) -> None:
    """Let a socket wait for so long; where the system can count, that takes no call of its own each time.

    What is received or sent too late raises `BlockingIOError` then, elsewhere `TimeoutError`.
    """
    if not SYSTEM_COUNTS or type(connected) is not socket.socket:
        connected.settimeout(silence_s)
        return
    span = struct.pack("ll", int(silence_s), int(silence_s % 1 * 1e6))
    connected.settimeout(None)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, span)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, span)


def watch(connected: Any) -> Callable[[], object]:
    """What tells whether anything can be read from a socket, or its end."""
    if not hasattr(select, "poll"):
        return lambda: select.select([connected], [], [], 0)[0]
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    return partial(poll.poll, 0)


def host_line(connection: Any) -> str:
    """The header that names the host, as http.client writes it."""
    host = f"[{connection.host}]" if ":" in connection.host else connection.host
    return (
        f"Host: {host}" if connection.port == connection.default_port else f"Host: {host}:{connection.port}"
    )
