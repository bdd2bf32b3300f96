"""Faults by rule and count, seen from the other end of the connection."""

from __future__ import annotations

import gzip
import http.client
import socket
from urllib.parse import unquote

import pytest
import requests

from midasdl.simulator import Fault
from tests.simulator.talk import (
    ARCHIVE,
    CONTENTS,
    FILE,
    SOCKET_TIMEOUT_S,
    Connect,
    FakeClock,
    Start,
    last,
    mint,
    raw,
)


class TestFaults:
    def test_reset_resets_before_any_answer(self, start: Start, connect: Connect) -> None:
        simulator = start(faults=[Fault("reset")])
        client = connect(simulator)
        with pytest.raises(ConnectionResetError):
            client.get()
        assert client.get() == (200, CONTENTS)
        assert [(record.status, record.fault) for record in simulator.requests] == [(0, "reset"), (200, None)]

    def test_close_ends_the_connection_without_an_answer(self, start: Start) -> None:
        simulator = start(faults=[Fault("close")])
        assert raw(simulator, f"GET {FILE} HTTP/1.1\r\nHost: x\r\n\r\n".encode()) == b""
        assert (last(simulator).status, last(simulator).fault) == (0, "close")

    def test_truncate_sends_less_than_it_announced(self, start: Start, connect: Connect) -> None:
        simulator = start(faults=[Fault("truncate", bytes=100)])
        with pytest.raises(http.client.IncompleteRead) as caught:
            connect(simulator).get()
        assert caught.value.partial == CONTENTS[:100]
        assert caught.value.expected == len(CONTENTS) - 100
        assert (last(simulator).status, last(simulator).sent_bytes) == (200, 100)

    def test_truncate_cuts_a_large_file_at_the_byte(self, start: Start, connect: Connect) -> None:
        with pytest.raises(http.client.IncompleteRead) as caught:
            connect(start(faults=[Fault("truncate", bytes=1_500_001)])).get(f"{ARCHIVE}/data/large.csv")
        assert len(caught.value.partial) == 1_500_001

    def test_short_looks_complete_and_keeps_the_connection(self, start: Start, connect: Connect) -> None:
        simulator = start(faults=[Fault("short", bytes=7)])
        client = connect(simulator)
        response, body = client.ask(FILE)
        assert (response.status, response.headers["Content-Length"], body) == (200, "7", CONTENTS[:7])
        assert client.get() == (200, CONTENTS)
        assert {record.connection for record in simulator.requests} == {1}

    def test_corrupt_changes_bytes_and_nothing_else(self, start: Start, connect: Connect) -> None:
        client = connect(start(faults=[Fault("corrupt", bytes=3)]))
        response, body = client.ask(FILE)
        assert response.headers["Content-Length"] == str(len(CONTENTS))
        assert sum(wrong != right for wrong, right in zip(body, CONTENTS, strict=True)) == 3

    def test_stall_keeps_the_client_waiting_in_the_middle(self, start: Start, connect: Connect) -> None:
        clock = FakeClock()
        simulator = start(faults=[Fault("stall", seconds=30, bytes=10)], clock=clock)
        assert connect(simulator).get() == (200, CONTENTS)
        assert clock.waited_s == pytest.approx(30)
        assert last(simulator).ended - last(simulator).started == pytest.approx(30)

    def test_a_client_that_gives_up_on_a_stall_is_in_the_record_at_once(self, start: Start) -> None:
        simulator = start(faults=[Fault("stall", seconds=600, bytes=10)])
        request = f"GET {FILE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {simulator.mint_token()}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", simulator.port), timeout=SOCKET_TIMEOUT_S) as connection:
            connection.sendall(request.encode())
            assert connection.recv(65536).endswith(CONTENTS[:10])
        given_up = last(simulator)
        assert (given_up.status, given_up.sent_bytes, given_up.fault) == (200, 10, "stall")
        assert given_up.ended - given_up.started < 5

    def test_drip_feeds_byte_by_byte(self, start: Start, connect: Connect) -> None:
        clock = FakeClock()
        simulator = start(faults=[Fault("drip", seconds=0.5, bytes=20)], clock=clock)
        assert connect(simulator).get() == (200, CONTENTS)
        assert clock.waited_s == pytest.approx(10)

    def test_delay_waits_before_the_first_byte(self, start: Start) -> None:
        simulator = start(faults=[Fault("delay", seconds=600)])
        with pytest.raises(requests.exceptions.ReadTimeout):
            requests.get(f"{simulator.archive_url}/data/a.csv", timeout=0.2)
        assert (last(simulator).status, last(simulator).fault) == (0, "delay")

    def test_login_page_and_html_200_are_pages_in_place_of_data(self, start: Start, connect: Connect) -> None:
        faults = [Fault("login-page"), Fault("html-200"), Fault("html-200", body="{", content_type="text/x")]
        client = connect(start(faults=faults))
        answers = [client.ask(FILE) for _ in range(4)]
        assert [response.status for response, _ in answers] == [200] * 4
        assert b"<title>Login" in answers[0][1]
        assert b"<html" in answers[1][1]
        assert b"Login" not in answers[1][1]
        assert (answers[2][0].headers["Content-Type"], answers[2][1]) == ("text/x", b"{")
        assert answers[3][1] == CONTENTS

    def test_redirect_to_login_comes_though_the_token_is_good(self, start: Start, connect: Connect) -> None:
        simulator = start(faults=[Fault("redirect-to-login")])
        client = connect(simulator)
        response, body = client.ask(FILE)
        assert (response.status, body) == (302, b"Unauthenticated")
        location = f"{simulator.base_url}/account/signin/?r={simulator.base_url}{FILE}"
        assert unquote(response.headers["Location"]) == location
        assert client.get()[0] == 200

    def test_status_is_any_status_with_a_page(self, start: Start, connect: Connect) -> None:
        faults = [
            Fault("status", status=429, retry_after="7"),
            Fault("status", status=599),
            Fault("status", status=302, headers={"Location": "http://elsewhere.invalid/"}),
            Fault("status", status=204),
        ]
        simulator = start(faults=faults)
        client = connect(simulator)
        answers = [client.ask(FILE)[0] for _ in faults]
        assert [answer.status for answer in answers] == [429, 599, 302, 204]
        assert answers[0].headers["Retry-After"] == "7"
        assert answers[0].headers["Content-Type"].startswith("text/html")
        assert answers[1].headers["Retry-After"] is None
        assert answers[2].headers["Location"] == "http://elsewhere.invalid/"
        assert {record.connection for record in simulator.requests} == {1}

    def test_a_token_request_that_fails_by_a_fault_mints_nothing(
        self, start: Start, connect: Connect
    ) -> None:
        simulator = start(faults=[Fault("status", route="token", status=504, times=5)])
        client = connect(simulator)
        assert [mint(simulator).status_code for _ in range(6)] == [504] * 5 + [200]
        assert client.get()[0] == 200

    def test_expire_token_ends_the_token_after_so_many_files(self, start: Start, connect: Connect) -> None:
        simulator = start(faults=[Fault("expire-token", route="download", after=2)])
        client, other = connect(simulator), connect(simulator)
        assert [client.get()[0] for _ in range(4)] == [200, 200, 302, 302]
        assert other.get()[0] == 200
        assert [record.fault for record in simulator.requests] == [None, None, "expire-token", None, None]

    def test_revoke_tokens_ends_all_of_them(self, start: Start, connect: Connect) -> None:
        simulator = start(faults=[Fault("revoke-tokens", after=1)])
        client, other = connect(simulator), connect(simulator)
        assert [client.get()[0], client.get()[0], other.get()[0]] == [200, 302, 302]

    def test_gzip_encodes_though_nobody_asked(self, start: Start, connect: Connect) -> None:
        response, body = connect(start(faults=[Fault("gzip")])).ask(FILE, Accept_Encoding="identity")
        assert response.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(body) == CONTENTS

    def test_chunked_announces_no_length(self, start: Start, connect: Connect) -> None:
        client = connect(start(faults=[Fault("chunked", times=2)]))
        for path, size in ((FILE, len(CONTENTS)), (f"{ARCHIVE}/data/large.csv", 256 * 12_000)):
            response, body = client.ask(path)
            assert response.headers["Transfer-Encoding"] == "chunked"
            assert response.headers["Content-Length"] is None
            assert len(body) == size

    def test_close_after_answers_well_and_closes_unannounced(self, start: Start, connect: Connect) -> None:
        simulator = start(faults=[Fault("close-after")])
        client = connect(simulator)
        response, body = client.ask(FILE)
        assert (body, response.headers["Connection"]) == (CONTENTS, None)
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            client.get()
        client.close()
        assert client.get() == (200, CONTENTS)

    def test_faults_can_be_added_and_cleared_while_it_runs(self, start: Start, connect: Connect) -> None:
        simulator = start()
        client = connect(simulator)
        simulator.add_fault(Fault("status", path="*/b.csv", times=None))
        assert [client.get()[0], client.get(f"{ARCHIVE}/data/b.csv")[0]] == [200, 503]
        simulator.clear_faults()
        assert client.get(f"{ARCHIVE}/data/b.csv")[0] == 200
