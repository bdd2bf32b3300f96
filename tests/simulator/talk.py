"""How tests talk to a simulator: over sockets, seeing every byte."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable

import requests

from midasdl.simulator import RequestRecord, Simulator

ARCHIVE = "/badc/ukmo-midas-open"
TOKEN_CHECK = "/badc/ARCHIVE_INFO/ACCESS_TEST/RESTRICTED/TOKEN_CHECK"
CONTENTS = b"Conventions,G,BADC-CSV,1\n" + b"0123456789" * 100 + b"\nend data\n"
FILE = f"{ARCHIVE}/data/a.csv"
SOCKET_TIMEOUT_S = 10.0


class FakeClock:
    """A clock that moves only when somebody waits or a test moves it."""

    def __init__(self) -> None:
        self.now_s = 1_780_000_000.0
        self.waited_s = 0.0

    def now_us(self) -> int:
        return int(self.now_s * 1_000_000)

    def monotonic(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> bool:
        self.now_s += seconds
        self.waited_s += seconds
        return False


class Client:
    """One keep-alive connection that carries a token and sees every byte."""

    def __init__(self, simulator: Simulator, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", simulator.port, timeout=SOCKET_TIMEOUT_S)
        self.headers = {"Authorization": f"Bearer {token}"}

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, headers={**self.headers, **named})
        response = self._connection.getresponse()
        return response, response.read()

    def get(self, path: str = FILE, **headers: str) -> tuple[int, bytes]:
        response, body = self.ask(path, **headers)
        return response.status, body

    def close(self) -> None:
        self._connection.close()


Start = Callable[..., Simulator]
Connect = Callable[..., Client]


def mint(
    simulator: Simulator, user: str = "researcher", password: str = "rain-or-shine"
) -> requests.Response:
    return requests.post(simulator.token_url, auth=(user, password), timeout=SOCKET_TIMEOUT_S)


def raw(simulator: Simulator, request: bytes) -> bytes:
    """Send bytes and read until the server closes."""
    with socket.create_connection(("127.0.0.1", simulator.port), timeout=SOCKET_TIMEOUT_S) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def last(simulator: Simulator) -> RequestRecord:
    return simulator.requests[-1]
