"""nginx as an independent judge: it limits rate and connections by its own rules, and logs what it rejects."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.programs import require_program

CONFIGURATION = """
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 256; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    limit_req_zone $server_name zone=rate:1m rate={rate}r/s;
    limit_conn_zone $server_name zone=number:1m;
    limit_req_status 429;
    limit_conn_status 429;
    server {{
        listen 127.0.0.1:{port};
        server_name judge;
        keepalive_requests 100000;
        location / {{
            limit_req zone=rate burst=1 nodelay;
            limit_conn number {connections};
            proxy_pass {back_end};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_next_upstream off;
            proxy_read_timeout 5s;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Judge:
    """A running nginx."""

    port: int
    folder: Path

    def rewrite(self, url: str) -> str:
        """The same URL through the judge."""
        parts = urlsplit(url)
        return parts._replace(netloc=f"127.0.0.1:{self.port}").geturl()

    @property
    def rejections(self) -> list[str]:
        """What it rejected, by its own log."""
        lines = (self.folder / "error.log").read_text().splitlines()
        return [line for line in lines if "limiting" in line]

    @property
    def requests(self) -> int:
        """How many requests came."""
        return len((self.folder / "access.log").read_text().splitlines())


@contextmanager
def judging(folder: Path, back_end: str, *, rate: int, connections: int) -> Iterator[Judge]:
    """Put nginx in front of a server for the length of the block."""
    program = require_program("nginx")
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    text = CONFIGURATION.format(
        folder=folder, rate=rate, connections=connections, port=port, back_end=back_end
    )
    (folder / "nginx.conf").write_text(text)
    process = subprocess.Popen(
        [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        _wait_until_it_listens(port, process)
        yield Judge(port, folder)
    finally:
        process.terminate()
        process.communicate()


def _wait_until_it_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "nginx does not listen"
            time.sleep(0.05)
        else:
            return
