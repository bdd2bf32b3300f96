"""The download host over real sockets: sign-in, licences, ranges and names, as CEDA has them."""

from __future__ import annotations

import hashlib
import os
import re
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from midasdl.simulator import make_archive
from tests.simulator.talk import (
    ARCHIVE,
    CONTENTS,
    FILE,
    SOCKET_TIMEOUT_S,
    TOKEN_CHECK,
    Connect,
    FakeClock,
    Start,
    last,
)


class TestDownloadHost:
    def test_without_a_good_token_the_answer_is_a_redirect_of_fifteen_bytes(
        self, start: Start, connect: Connect
    ) -> None:
        simulator = start()
        client = connect(simulator)
        path = f"{ARCHIVE}/data/sub/with%20space.csv"
        for authorization in ("", "Bearer nonsense", "Basic cmVzZWFyY2hlcjpyYWluLW9yLXNoaW5l"):
            response, body = client.ask(path, Authorization=authorization)
            assert (response.status, body) == (302, b"Unauthenticated")
            wanted = f"{simulator.base_url}/account/signin/?r={quote(simulator.base_url + path, safe='')}"
            assert response.headers["Location"] == wanted
        assert [record.token for record in simulator.requests] == [None, "unknown", None]

    def test_a_redirect_that_is_followed_ends_on_a_login_page_that_changes(self, start: Start) -> None:
        simulator = start()
        url = f"{simulator.archive_url}/data/a.csv"
        pages = [requests.get(url, timeout=SOCKET_TIMEOUT_S) for _ in range(2)]
        for page in pages:
            assert (page.status_code, [step.status_code for step in page.history]) == (200, [302])
            assert page.headers["Content-Type"].startswith("text/html")
            assert "<title>Login" in page.text
            assert 7000 < len(page.content) < 9000
        tokens = [re.findall(r'csrfmiddlewaretoken" value="(\w+)"', page.text) for page in pages]
        assert tokens[0] != tokens[1]

    def test_every_file_of_an_archive_comes_whole_over_one_connection(
        self, start: Start, connect: Connect, tmp_path: Path
    ) -> None:
        manifest = make_archive(tmp_path, 80)
        simulator = start(tmp_path)
        client = connect(simulator)
        for line in manifest.read_text().splitlines():
            status, body = client.get(f"{ARCHIVE}/{line[36:]}")
            assert (status, hashlib.md5(body).hexdigest()) == (200, line[:32])
        records = simulator.requests
        assert len(records) == 80
        assert {record.connection for record in records} == {1}
        assert sum(record.sent_bytes for record in records) == sum(
            place.stat().st_size for place in (tmp_path / "data").rglob("*") if place.is_file()
        )

    def test_a_file_comes_with_its_length_date_and_tag(
        self, start: Start, connect: Connect, root: Path
    ) -> None:
        response, body = connect(start()).ask(FILE)
        assert body == CONTENTS
        assert response.headers["Content-Type"] == "text/csv"
        assert response.headers["Content-Length"] == str(len(CONTENTS))
        assert response.headers["Accept-Ranges"] == "bytes"
        assert re.fullmatch(r'"[0-9a-f]+-[0-9a-f]+"', response.headers["ETag"])
        modified = parsedate_to_datetime(response.headers["Last-Modified"]).timestamp()
        assert modified == int((root / "data" / "a.csv").stat().st_mtime)

    def test_head_says_the_same_without_the_body(self, start: Start, connect: Connect) -> None:
        client = connect(start())
        got, _ = client.ask(FILE)
        head, body = client.ask(FILE, "HEAD")
        assert body == b""
        same = ("Content-Length", "Content-Type", "ETag", "Last-Modified", "Accept-Ranges")
        assert [head.headers[name] for name in same] == [got.headers[name] for name in same]

    def test_download_1_changes_only_the_disposition(self, start: Start, connect: Connect) -> None:
        client = connect(start())
        plain, body = client.ask(FILE)
        asked, same = client.ask(f"{FILE}?download=1")
        assert body == same
        assert asked.headers["Content-Disposition"].startswith("attachment; filename")
        differing = {
            name for name in {**plain.headers, **asked.headers} if plain.headers[name] != asked.headers[name]
        }
        assert differing - {"Date"} == {"Content-Disposition"}

    @pytest.mark.parametrize(
        ("wanted", "part"),
        [("bytes=0-9", slice(0, 10)), ("bytes=1000-", slice(1000, None)), ("bytes=-20", slice(-20, None))],
    )
    def test_a_range_is_answered_with_that_range(
        self, start: Start, connect: Connect, wanted: str, part: slice
    ) -> None:
        response, body = connect(start()).ask(FILE, Range=wanted)
        first, stop, _ = part.indices(len(CONTENTS))
        assert (response.status, body) == (206, CONTENTS[part])
        assert response.headers["Content-Range"] == f"bytes {first}-{stop - 1}/{len(CONTENTS)}"

    def test_a_range_behind_the_end_is_416(self, start: Start, connect: Connect) -> None:
        simulator = start()
        response, _ = connect(simulator).ask(FILE, Range="bytes=99999-")
        assert (response.status, response.headers["Content-Range"]) == (416, f"bytes */{len(CONTENTS)}")
        assert last(simulator).range == "bytes=99999-"

    def test_if_range_gives_the_part_only_while_the_file_is_the_same(
        self, start: Start, connect: Connect
    ) -> None:
        client = connect(start())
        headers = client.ask(FILE, "HEAD")[0].headers
        assert client.get(Range="bytes=5-", If_Range=headers["ETag"]) == (206, CONTENTS[5:])
        assert client.get(Range="bytes=5-", If_Range='"another"') == (200, CONTENTS)
        assert client.get(Range="bytes=5-", If_Range=f"W/{headers['ETag']}") == (200, CONTENTS)
        assert client.get(Range="bytes=99999-", If_Range='"another"') == (200, CONTENTS)
        assert client.get(If_Range=headers["ETag"]) == (200, CONTENTS)

    @pytest.mark.parametrize(("age_s", "status"), [(60, 206), (58, 200)])
    def test_if_range_takes_a_date_that_is_strong_and_no_other(
        self, start: Start, connect: Connect, root: Path, age_s: int, status: int
    ) -> None:
        clock = FakeClock()
        os.utime(root / "data" / "b.csv", (clock.now_s - age_s,) * 2)
        client = connect(start(clock=clock))
        path = f"{ARCHIVE}/data/b.csv"
        date = client.ask(path, "HEAD")[0].headers["Last-Modified"]
        assert client.get(path, Range="bytes=5-", If_Range=date)[0] == status
        assert client.get(path, Range="bytes=5-", If_Range="Sun, 24 Mar 2024 12:00:00 GMT")[0] == 200

    def test_only_a_get_has_ranges(self, start: Start, connect: Connect) -> None:
        response, _ = connect(start()).ask(FILE, "HEAD", Range="bytes=5-")
        assert (response.status, response.headers["Content-Range"]) == (200, None)

    def test_a_large_file_is_streamed_whole_and_in_part(
        self, start: Start, connect: Connect, root: Path
    ) -> None:
        client = connect(start())
        whole = (root / "data" / "large.csv").read_bytes()
        path = f"{ARCHIVE}/data/large.csv"
        assert client.get(path) == (200, whole)
        assert client.get(path, Range="bytes=1000000-2999999") == (206, whole[1_000_000:3_000_000])

    def test_an_empty_file_is_an_empty_answer(self, start: Start, connect: Connect) -> None:
        assert connect(start()).get(f"{ARCHIVE}/data/empty.csv") == (200, b"")

    def test_a_missing_file_is_a_404_page(self, start: Start, connect: Connect) -> None:
        client = connect(start())
        for path in (
            f"{ARCHIVE}/data/none.csv",
            f"{FILE}/",
            f"{ARCHIVE}/{'x' * 300}",
            "/badc/other/a.csv",
            "/none",
        ):
            response, body = client.ask(path)
            assert response.status == 404
            assert response.headers["Content-Type"].startswith("text/html")
            assert b"404" in body

    @pytest.mark.parametrize("name", ["with space.csv", "100%.csv", "a#b?c.csv", "%20.csv", "ü.csv"])
    def test_names_are_decoded_once(self, start: Start, connect: Connect, name: str) -> None:
        simulator = start()
        path = f"{ARCHIVE}/data/sub/{name}"
        assert connect(simulator).get(quote(path)) == (200, name.encode())
        assert last(simulator).path == path

    @pytest.mark.parametrize(
        "path",
        [
            "/../secret.txt",
            "/data/../../secret.txt",
            "/%2e%2e/secret.txt",
            "/..%2fsecret.txt",
            "/data/%2e%2e/%2e%2e/secret.txt",
            "/data/./a.csv",
            "/%00",
        ],
    )
    def test_no_path_leads_out_of_the_archive(self, start: Start, connect: Connect, path: str) -> None:
        client = connect(start())
        for prefix in (ARCHIVE, f"/listing{ARCHIVE}"):
            status, body = client.get(prefix + path)
            assert status == 404
            assert b"secret" not in body

    def test_the_probe_file_opens_with_a_token_alone(self, start: Start, connect: Connect) -> None:
        simulator = start()
        client = connect(simulator)
        simulator.set_account_state("ok", licence_missing=True)
        assert client.get(TOKEN_CHECK)[0] == 200
        assert client.get(TOKEN_CHECK, Authorization="")[0] == 302

    def test_a_missing_licence_is_403_or_a_redirect(self, start: Start, connect: Connect) -> None:
        simulator = start()
        client = connect(simulator)
        simulator.account.licence_missing = True
        assert client.get() == (403, b"Unauthorized")
        simulator.account.licence_redirect = True
        response, _ = client.ask(FILE)
        location = f"{simulator.base_url}/data{ARCHIVE}/data?forbidden"
        assert (response.status, response.headers["Location"]) == (302, location)

    def test_a_root_may_hold_all_of_badc(self, start: Start, connect: Connect, tmp_path: Path) -> None:
        (tmp_path / "badc" / "ukmo-midas-open").mkdir(parents=True)
        (tmp_path / "badc" / "ukmo-midas-open" / "x.csv").write_bytes(b"x")
        assert connect(start(tmp_path)).get(f"{ARCHIVE}/x.csv") == (200, b"x")

    def test_other_methods_are_refused_and_recorded(self, start: Start, connect: Connect) -> None:
        simulator = start()
        client = connect(simulator)
        assert client.ask(FILE, "DELETE")[0].status == 405
        assert client.ask(FILE, "BREW")[0].status == 501
        assert [(record.method, record.status) for record in simulator.requests] == [
            ("DELETE", 405),
            ("BREW", 501),
        ]
