"""A connection that is kept at hand for plain requests, one at a time."""

from __future__ import annotations

import http.client
import select
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

RECEIVE_BYTES = 65_536
LONGEST_HEAD_BYTES = 65_536
END_OF_HEAD = b"\r\n\r\n"


class Keeper(Protocol):
    """Whoever lends connections.

    Attributes
    ----------
    room : memoryview
        Where what comes is received.
    """

    room: memoryview

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
            self.socket.settimeout(silence_s)
            self._patience_s = silence_s

    def receive_head(self) -> tuple[bytes, int]:
        """What has come when the head is complete, and where it ends; -1 where it does not."""
        begun = self._receive()
        if not begun:
            raise http.client.RemoteDisconnected("Remote end closed connection without response")
        while (end := begun.find(END_OF_HEAD)) < 0 and len(begun) < LONGEST_HEAD_BYTES:
            more = self._receive()
            if not more:
                break
            begun += more
        return begun, end

    def _receive(self) -> bytes:
        """What comes next: into memory that is there, because new memory costs more than the copy."""
        room = self._keeper.room
        return bytes(room[: self.socket.recv_into(room)])

    def free(self) -> None:
        """An exchange is over, and all of it has been read."""
        self._keeper.keep(self)

    def give_back(self) -> None:
        """Let the pool have it."""
        self.pool._put_conn(self.connection)  # noqa: SLF001 - see above

    def break_off(self) -> None:
        """Close it."""
        self.connection.close()
        self.give_back()


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
