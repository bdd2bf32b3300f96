"""What everybody fetches from: nginx for throughput, and a server that keeps one waiting."""

from __future__ import annotations

import os
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 512; multi_accept on; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    gzip off;
    keepalive_requests 10000000;
    keepalive_timeout 300s;
    types {{ text/csv csv; }}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=512;
        root {root};
    }}
}}
"""


@contextmanager
def nginx_serving(root: Path, folder: Path) -> Iterator[str]:
    """Nginx over a folder of files, for whoever started it and on loopback alone; gives its URL."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise LookupError("nginx")
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, root=root, port=port))
    process = subprocess.Popen(
        [program, "-p", str(folder), "-c", str(configuration), "-e", str(folder / "error.log")]
    )
    try:
        _wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """A port on loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + 10
    while time.monotonic() < until_s:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("nginx does not start; see its error.log")


class SlowServer(socketserver.ThreadingTCPServer):
    """Answers each GET after a delay, and remembers when it came and how long it was kept.

    One thread a connection: each sleeps as precisely as the system can, which an event loop does not.

    Attributes
    ----------
    started_s : list of float
        When requests came, in the order in which they came.
    kept_s : list of float
        How long each was really kept waiting.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, root: Path, delay_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Patient)
        self.root = root
        self.delay_s = delay_s
        self.started_s: list[float] = []
        self.kept_s: list[float] = []
        self.lock = threading.Lock()
        self.in_flight = 0
        self.most_in_flight = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def forget(self) -> None:
        """Begin to count anew."""
        with self.lock:
            self.started_s, self.kept_s, self.most_in_flight = [], [], 0

    @property
    def rate(self) -> float:
        """Requests a second, between the first and the last."""
        starts = sorted(self.started_s)
        return (len(starts) - 1) / (starts[-1] - starts[0])

    @property
    def gaps_s(self) -> list[float]:
        """Seconds between starts."""
        starts = sorted(self.started_s)
        return [after - before for before, after in pairwise(starts)]


class _Patient(socketserver.BaseRequestHandler):
    """One connection."""

    server: SlowServer

    def handle(self) -> None:
        """Answer one request after another until the other side goes."""
        link: socket.socket = self.request
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        waiting = b""
        while True:
            while b"\r\n\r\n" not in waiting:
                more = link.recv(65_536)
                if not more:
                    return
                waiting += more
            head, _, waiting = waiting.partition(b"\r\n\r\n")
            self._answer(link, head.split(b" ", 2)[1].decode())

    def _answer(self, link: socket.socket, target: str) -> None:
        server = self.server
        came_s = time.monotonic()
        with server.lock:
            server.started_s.append(came_s)
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
        try:
            body = (server.root / target.lstrip("/")).read_bytes()
            status = "200 OK"
        except OSError:
            body, status = b"none", "404 Not Found"
        time.sleep(max(0.0, came_s + server.delay_s - time.monotonic()))
        head = f"HTTP/1.1 {status}\r\nContent-Type: text/csv\r\nContent-Length: {len(body)}\r\n\r\n"
        with server.lock:
            server.in_flight -= 1
            server.kept_s.append(time.monotonic() - came_s)
        link.sendall(head.encode() + body)


@contextmanager
def slow_server(root: Path, delay_s: float) -> Iterator[SlowServer]:
    """A server over a folder of files, for the length of the block."""
    server = SlowServer(root, delay_s)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
