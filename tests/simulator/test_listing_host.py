"""The listing host over real sockets."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import requests

from tests.simulator.talk import (
    ARCHIVE,
    CONTENTS,
    FILE,
    SOCKET_TIMEOUT_S,
    Connect,
    Start,
)


class TestListingHost:
    def test_a_folder_is_described_to_anybody(self, start: Start, root: Path) -> None:
        simulator = start()
        listing = requests.get(f"{simulator.listing_url}/data?json", timeout=SOCKET_TIMEOUT_S).json()
        items = {item["name"]: item for item in listing["items"]}
        assert listing["path"] == f"{ARCHIVE}/data"
        assert [item["name"] for item in listing["items"]] == sorted(
            place.name for place in (root / "data").iterdir()
        )
        assert items["sub"] == {
            "path": f"{ARCHIVE}/data/sub",
            "name": "sub",
            "location": [None],
            "type": "dir",
        }
        described = items["a.csv"]
        assert described["md5"] == hashlib.md5(CONTENTS).hexdigest()
        assert described["size"] == len(CONTENTS)
        assert described["path"] == FILE
        assert described["directory"] == f"{ARCHIVE}/data"
        assert (described["ext"], described["type"], described["location"]) == (".csv", "file", ["on_disk"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?", described["last_modified"])
        assert {"fileset", "last_audit", "download"} <= set(described)

    def test_the_download_urls_of_a_listing_lead_to_the_files(self, start: Start, connect: Connect) -> None:
        simulator = start()
        client = connect(simulator)
        listing = json.loads(client.get(f"/listing{ARCHIVE}/data/sub?json")[1])
        for item in listing["items"]:
            target = item["download"].removeprefix(simulator.base_url)
            assert target.endswith("?download=1")
            assert client.get(target) == (200, item["name"].encode())

    def test_both_hosts_list(self, start: Start, connect: Connect) -> None:
        client = connect(start())
        assert (
            client.get(f"/listing{ARCHIVE}?json")
            == client.get(f"{ARCHIVE}?json")
            == client.get(f"{ARCHIVE}/?json")
        )

    def test_people_get_a_page(self, start: Start, connect: Connect) -> None:
        response, body = connect(start()).ask(f"/listing{ARCHIVE}/data", Authorization="")
        assert (response.status, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert b"a.csv" in body

    def test_a_file_is_redirected_to_the_download_host_without_its_query(
        self, start: Start, connect: Connect
    ) -> None:
        simulator = start()
        response, _ = connect(simulator).ask(f"/listing{FILE}?download=1")
        assert (response.status, response.headers["Location"]) == (302, simulator.base_url + FILE)

    def test_an_unknown_folder_is_a_404_page(self, start: Start, connect: Connect) -> None:
        client = connect(start())
        for path in (f"/listing{ARCHIVE}/none?json", "/listing/etc?json", "/listing", f"{ARCHIVE}/none?json"):
            response, _ = client.ask(path)
            assert response.status == 404
            assert response.headers["Content-Type"].startswith("text/html")

    def test_links_are_listed_as_links(self, start: Start, connect: Connect, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"a")
        (tmp_path / "l").symlink_to("a")
        listing = json.loads(connect(start(tmp_path)).get(f"{ARCHIVE}?json")[1])
        assert [item["type"] for item in listing["items"]] == ["file", "link"]
