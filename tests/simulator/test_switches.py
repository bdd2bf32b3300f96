"""Switches, pace, records and life of a simulator."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from midasdl.errors import ConfigurationError, StorageError
from midasdl.simulator import Fault, RequestRecord, Simulator, Throttle, peak_in_flight
from midasdl.simulator.site import Site
from tests.simulator.talk import (
    ARCHIVE,
    CONTENTS,
    FILE,
    SOCKET_TIMEOUT_S,
    Client,
    Connect,
    FakeClock,
    Start,
    last,
    mint,
    raw,
)


class TestSwitchesAndPace:
    def test_etag_type_and_length_can_be_withheld(self, start: Start, connect: Connect) -> None:
        client = connect(start(etag=False, content_type="application/octet-stream", chunked=True))
        response, body = client.ask(FILE)
        assert response.headers["ETag"] is None
        assert response.headers["Content-Length"] is None
        assert response.headers["Content-Type"] == "application/octet-stream"
        assert body == CONTENTS

    def test_every_file_can_be_sent_with_gzip(self, start: Start, connect: Connect) -> None:
        client = connect(start(gzip=True))
        status, body = client.get(Range="bytes=5-")
        assert (status, gzip.decompress(body)) == (200, CONTENTS)

    def test_a_connection_can_be_closed_after_so_many_requests(self, start: Start, connect: Connect) -> None:
        simulator = start(keep_alive_requests=2)
        client = connect(simulator)
        closing = [client.ask(FILE)[0].headers["Connection"] for _ in range(5)]
        assert closing == [None, "close", None, "close", None]
        assert [record.connection for record in simulator.requests] == [1, 1, 2, 2, 3]

    def test_an_old_client_is_served_until_the_connection_ends(self, start: Start) -> None:
        simulator = start(chunked=True)
        token = simulator.mint_token()
        answer = raw(simulator, f"GET {FILE} HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"Transfer-Encoding" not in head
        assert body == CONTENTS

    def test_delay_and_rate_are_those_asked_for(self, start: Start, connect: Connect) -> None:
        clock = FakeClock()
        simulator = start(first_byte_delay_s=0.1, bytes_per_second=1000.0, clock=clock)
        assert connect(simulator).get() == (200, CONTENTS)
        assert clock.waited_s == pytest.approx(0.1 + len(CONTENTS) / 1000.0)

    def test_a_rate_too_high_is_answered_503_until_it_is_forgiven(
        self, start: Start, connect: Connect
    ) -> None:
        clock = FakeClock()
        simulator = start(throttle=Throttle(max_rate_per_s=3, retry_after="60", for_s=60), clock=clock)
        client = connect(simulator)
        assert [client.get()[0] for _ in range(4)] == [200, 200, 200, 503]
        assert mint(simulator).status_code == 200
        clock.now_s += 59
        response, _ = client.ask(FILE)
        assert (response.status, response.headers["Retry-After"]) == (503, "60")
        clock.now_s += 2
        assert client.get()[0] == 200
        faults = [record.fault for record in simulator.requests if record.route == "download"]
        assert faults == [None, None, None, "throttle", "throttle", None]

    def test_too_many_connections_are_answered_429(self, start: Start, connect: Connect) -> None:
        simulator = start(throttle=Throttle(max_connections=2, status=429), clock=FakeClock())
        token = simulator.mint_token()
        assert [connect(simulator, token).get()[0] for _ in range(3)] == [200, 200, 429]


class TestRecords:
    def test_a_record_tells_who_asked_what_and_when(self, start: Start, connect: Connect) -> None:
        simulator = start()
        before = time.time()
        connect(simulator).get(f"{FILE}?download=1", Range="bytes=0-4", User_Agent="midasdl/1")
        found = last(simulator)
        assert before <= found.started <= found.ended <= time.time()
        assert found == RequestRecord(
            number=1,
            started=found.started,
            ended=found.ended,
            method="GET",
            route="download",
            path=FILE,
            status=206,
            connection=1,
            token="token-1",
            sent_bytes=5,
            fault=None,
            range="bytes=0-4",
            user_agent="midasdl/1",
        )

    def test_every_route_has_its_name(self, start: Start, connect: Connect) -> None:
        simulator = start()
        client = connect(simulator)
        for path in (FILE, f"/listing{ARCHIVE}?json", "/account/signin/", "/api/token/create/", "/else"):
            client.get(path)
        assert [entry.route for entry in simulator.requests] == [
            "download",
            "listing",
            "signin",
            "token",
            "other",
        ]

    def test_the_log_file_has_every_record_and_no_secret(
        self, start: Start, connect: Connect, tmp_path: Path
    ) -> None:
        simulator = start(log_path=tmp_path / "requests.jsonl")
        token = mint(simulator).json()["access_token"]
        connect(simulator).get(Authorization=f"Bearer {token}")
        connect(simulator).get(Authorization="Bearer my-private-token")
        simulator.stop()
        text = (tmp_path / "requests.jsonl").read_text()
        lines = sorted(map(json.loads, text.splitlines()), key=lambda line: line["number"])
        assert [line["status"] for line in lines] == [200, 200, 302]
        basic = base64.b64encode(b"researcher:rain-or-shine").decode()
        for secret in (token, "my-private-token", "rain-or-shine", basic):
            assert secret not in text
            assert secret not in repr(simulator.requests)

    def test_a_client_that_resets_while_it_is_served_is_recorded(self, start: Start) -> None:
        simulator = start(bytes_per_second=100_000)
        token = simulator.mint_token()
        request = f"GET {ARCHIVE}/data/large.csv HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", simulator.port), timeout=SOCKET_TIMEOUT_S) as connection:
            connection.sendall(request.encode())
            connection.recv(1000)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        found = last(simulator)
        assert (found.status, found.route) == (200, "download")
        assert found.sent_bytes < 256 * 12_000

    def test_a_simulator_that_breaks_answers_500_and_records_it(
        self,
        start: Start,
        connect: Connect,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        simulator = start()

        def break_down(*_: object) -> None:
            raise RuntimeError("broken")

        with monkeypatch.context() as patch:
            patch.setattr(Site, "reply", break_down)
            assert connect(simulator).get()[0] == 500
        assert last(simulator).status == 500
        assert "the simulator failed to answer" in caplog.text
        assert connect(simulator).get()[0] == 200

    def test_a_request_that_is_no_http_is_answered_400_and_recorded(self, start: Start) -> None:
        simulator = start()
        assert b" 400 " in raw(simulator, b"what is this\r\n\r\n").splitlines()[0]
        assert b" 414 " in raw(simulator, b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n").splitlines()[0]
        assert [(entry.status, entry.route) for entry in simulator.requests] == [
            (400, "other"),
            (414, "other"),
        ]

    def test_forgotten_records_do_not_come_back(self, start: Start, connect: Connect) -> None:
        simulator = start()
        client = connect(simulator)
        client.get()
        simulator.clear_requests()
        client.get()
        assert [entry.number for entry in simulator.requests] == [2]

    def test_eight_clients_at_once_are_told_apart_and_all_served(
        self, start: Start, connect: Connect
    ) -> None:
        simulator = start()
        token = simulator.mint_token()
        clients = [connect(simulator, token) for _ in range(8)]

        def work(client: Client) -> set[tuple[int, bytes]]:
            return {client.get() for _ in range(100)}

        with ThreadPoolExecutor(8) as pool:
            answers = set().union(*pool.map(work, clients))
        records = simulator.requests
        assert answers == {(200, CONTENTS)}
        assert [entry.number for entry in records] == list(range(1, 801))
        assert {entry.connection for entry in records} == set(range(1, 9))
        assert 1 <= peak_in_flight(records) <= 8


class TestLife:
    def test_its_urls_are_those_that_midasdl_reads_from_the_environment(self, start: Start) -> None:
        simulator = start()
        assert simulator.base_url == f"http://127.0.0.1:{simulator.port}"
        assert simulator.environment() == {
            "MIDASDL_CEDA__ARCHIVE_URL": f"{simulator.base_url}/badc/ukmo-midas-open",
            "MIDASDL_CEDA__TOKEN_URL": f"{simulator.base_url}/api/token/create/",
            "MIDASDL_CEDA__LISTING_URL": f"{simulator.base_url}/listing/badc/ukmo-midas-open",
        }

    def test_it_can_go_away_and_come_back_at_the_same_place(self, start: Start, connect: Connect) -> None:
        simulator = start(faults=[Fault("status", after=1)])
        client, url = connect(simulator), simulator.base_url
        assert client.get()[0] == 200
        simulator.stop()
        simulator.stop()
        with pytest.raises(ConnectionError):
            client.get()
        client.close()
        with pytest.raises(ConnectionRefusedError):
            client.get()
        client.close()
        simulator.start()
        assert simulator.start().base_url == url
        assert [client.get()[0], client.get()[0]] == [503, 200]
        assert [entry.status for entry in simulator.requests] == [200, 503, 200]

    def test_stopping_ends_requests_that_are_stalled(self, start: Start) -> None:
        simulator = start(faults=[Fault("delay", seconds=600, times=None)])
        with socket.create_connection(("127.0.0.1", simulator.port), timeout=SOCKET_TIMEOUT_S) as connection:
            connection.sendall(f"GET {FILE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            connection.settimeout(0.1)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            begun = time.monotonic()
            simulator.stop()
            assert time.monotonic() - begun < 2
            connection.settimeout(SOCKET_TIMEOUT_S)
            assert connection.recv(1) == b""
        assert [entry.status for entry in simulator.requests] == [0]

    def test_a_taken_port_and_a_missing_root_are_configuration_errors(
        self, start: Start, root: Path, tmp_path: Path
    ) -> None:
        simulator = start()
        with pytest.raises(ConfigurationError, match=str(simulator.port)):
            start(port=simulator.port)
        with pytest.raises(ConfigurationError, match="none"):
            Simulator(tmp_path / "none")
        with pytest.raises(ConfigurationError, match="bytes_per_second"):
            Simulator(root, bytes_per_second=0)
        with pytest.raises(StorageError, match="requests"):
            start(log_path=tmp_path / "none" / "requests.jsonl")
        with pytest.raises(RuntimeError, match="not been started"):
            _ = Simulator(root).base_url

    def test_two_simulators_share_nothing(self, start: Start, connect: Connect) -> None:
        one, other = start(), start()
        one.account.licence_missing = True
        assert [connect(one).get()[0], connect(other).get()[0]] == [403, 200]
        assert len(one.requests) == len(other.requests) == 1
        assert connect(other).get(Authorization=f"Bearer {one.mint_token()}")[0] == 302
