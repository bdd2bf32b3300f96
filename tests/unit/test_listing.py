"""M8: what CEDA's listing says, in every form in which it has been seen, and asking it again when it fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from requests import Response

from midasdl.ceda.listing import (
    Item,
    ItemType,
    ListingService,
    Release,
    _json,
    choose,
    parse_listing,
    releases,
)
from midasdl.ceda.persist import Patience
from midasdl.ceda.session import open_session
from midasdl.ceda.verdict import FetchError, Verdict
from midasdl.errors import SelectionError
from midasdl.models import ErrorClass
from midasdl.politeness.backoff import Backoff
from midasdl.politeness.lone_gate import LoneGate
from midasdl.simulator import Fault, Simulator
from tests.support.clock import FakeClock

MD5 = "0123456789abcdef0123456789abcdef"
ROOT = "/badc/ukmo-midas-open"
AS_OF_TODAY = {
    "path": ROOT,
    "items": [
        {"path": f"{ROOT}/data", "name": "data", "location": [None], "type": "dir"},
        {
            "ext": ".txt",
            "path": f"{ROOT}/midas-open-v202407-md5s.txt",
            "size": 104_000_000,
            "name": "midas-open-v202407-md5s.txt",
            "location": ["on_disk"],
            "type": "file",
            "fileset": "spot-1234",
            "directory": ROOT,
            "last_modified": "2024-08-27T10:11:12",
            "last_audit": "2024-09-01T00:00:00.123456",
            "md5": MD5,
            "download": f"https://dap.ceda.ac.uk{ROOT}/midas-open-v202407-md5s.txt?download=1",
        },
    ],
}


def only(**entry: object) -> Item:
    """The one item of a listing that holds one entry."""
    items = parse_listing({"items": [{"name": "x", **entry}]})
    assert items is not None
    return items[0]


def release(version: str) -> dict[str, object]:
    return {"name": f"midas-open-v{version}-md5s.txt", "type": "file", "size": 1, "md5": MD5}


def test_m8_a_listing_as_ceda_gives_it_today() -> None:
    items = parse_listing(AS_OF_TODAY)

    assert items == (
        Item("data", ItemType.FOLDER),
        Item(
            "midas-open-v202407-md5s.txt",
            ItemType.FILE,
            104_000_000,
            MD5,
            datetime(2024, 8, 27, 10, 11, 12, tzinfo=UTC),
            on_disk=True,
        ),
    )


@pytest.mark.parametrize(
    ("location", "on_disk"),
    [(["on_disk"], True), ("on_disk", True), (["on_tape"], False), ([None], None), (None, None), (7, None)],
)
def test_m8_a_location_may_be_a_list_or_a_bare_string(location: object, on_disk: bool | None) -> None:
    assert only(location=location).on_disk is on_disk


@pytest.mark.parametrize(
    ("md5", "read"), [(MD5, MD5), (MD5.upper(), MD5), ("", None), (None, None), ("0" * 31, None), (5, None)]
)
def test_m8_an_md5_may_be_empty(md5: object, read: str | None) -> None:
    assert only(md5=md5).md5 == read


@pytest.mark.parametrize(
    ("size", "read"),
    [(0, 0), (7, 7), ("7", 7), (7.0, 7), (-1, None), (True, None), ("7 MB", None), (None, None), (7.5, None)],
)
def test_m8_a_size_that_is_none_is_unknown(size: object, read: int | None) -> None:
    assert only(size=size).size_bytes == read


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ({"type": "file"}, ItemType.FILE),
        ({"type": "dir"}, ItemType.FOLDER),
        ({"type": "link"}, ItemType.LINK),
        ({"type": "pool"}, ItemType.OTHER),
        ({"size": 7}, ItemType.FILE),
        ({}, ItemType.OTHER),
    ],
)
def test_m8_a_type_may_be_missing_or_new(entry: dict[str, object], kind: ItemType) -> None:
    assert only(**entry).type is kind


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-08-27T10:11:12", datetime(2024, 8, 27, 10, 11, 12, tzinfo=UTC)),
        ("2024-08-27T10:11:12Z", datetime(2024, 8, 27, 10, 11, 12, tzinfo=UTC)),
        ("2024-08-27T11:11:12+01:00", datetime(2024, 8, 27, 10, 11, 12, tzinfo=UTC)),
        ("yesterday", None),
        (None, None),
        (1_724_753_472, None),
    ],
)
def test_m8_a_date_without_a_zone_is_utc(text: object, moment: datetime | None) -> None:
    assert only(last_modified=text).modified_at == moment


@pytest.mark.parametrize("reply", [None, [], "text", 7, {}, {"items": None}, {"items": {"name": "x"}}])
def test_m8_what_is_no_listing_is_said_to_be_none(reply: object) -> None:
    assert parse_listing(reply) is None


def test_m8_entries_without_a_name_are_left_out() -> None:
    assert parse_listing({"items": [None, 7, {}, {"name": ""}, {"name": 7}, {"name": "x"}]}) == (
        Item("x", ItemType.OTHER),
    )


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)
KEYS = st.sampled_from(["name", "type", "size", "md5", "location", "last_modified", "new"])


@given(st.lists(st.dictionaries(KEYS, ANYTHING) | ANYTHING))
def test_m8_no_listing_whatever_raises(items: list[Any]) -> None:
    parsed = parse_listing({"items": items})

    assert parsed is not None
    releases(parsed)


@given(
    st.binary(max_size=60)
    | st.lists(st.sampled_from([*'[]{},:"', '"items"', '"size"', "9" * 40, "1e308", "NaN", "\\ud800", " "]))
    .map("".join)
    .map(str.encode)
)
@example(b"[" * 100_000)
@example(b'{"items": [{"name": "x", "size": ' + b"9" * 5_000 + b"}]}")
@example(b'{"items": [{"name": "x", "size": ' + b"9" * 400 + b"}]}")
@example(b'{"items": [{"name": "x", "size": 1e308, "last_modified": "9999-12-31T23:59:59-23:59"}]}')
@example(b'\xff\xfe{\x00"\x00')
def test_m8_no_bytes_whatever_raise(body: bytes) -> None:
    """M8: what is no listing is said to be none, and every size is one that can be shown and kept."""
    answer = Response()
    answer.status_code, answer._content = 200, body

    found = parse_listing(_json(answer)) or ()

    assert all(item.size_bytes is None or item.size_bytes < 2**63 for item in found)


def test_m8_releases_come_oldest_first_and_nothing_else_is_one() -> None:
    names = [
        *(release("202407"), release("201901"), release("202507")),
        {"name": "midas-open-v202607-md5s.txt", "type": "link"},
        {"name": "midas-open-v202501-md5s.txt", "type": "dir"},
        *({"name": name, "type": "file"} for name in ("data", "midas-open-v2024-md5s.txt", "00README")),
        {"name": "midas-open-v202407-md5s.txt.gz", "type": "file"},
        {"name": "../midas-open-v202407-md5s.txt", "type": "file"},
        {"name": "midas-open-v٢٠٢٤٠٧-md5s.txt", "type": "file"},  # noqa: RUF001 - digits that are none
    ]
    items = parse_listing({"items": names})

    assert items is not None
    assert [found.version for found in releases(items)] == ["201901", "202407", "202507", "202607"]


KNOWN = tuple(
    Release(version, f"midas-open-v{version}-md5s.txt", 1, MD5, None) for version in ("202407", "201901")
)


@pytest.mark.parametrize(
    ("wanted", "version"),
    [
        ("latest", "202407"),
        ("201901", "201901"),
        ("v201901", "201901"),
        ("midas-open-v201901-md5s.txt", "201901"),
    ],
)
def test_m8_a_release_is_chosen_by_any_of_its_names(wanted: str, version: str) -> None:
    assert choose(KNOWN, wanted).version == version


@pytest.mark.parametrize("wanted", ["202501", "2024", "newest", "", "v202407x"])
def test_m8_an_unknown_release_is_answered_with_those_that_there_are(wanted: str) -> None:
    with pytest.raises(SelectionError) as raised:
        choose(KNOWN, wanted)

    assert "201901, 202407" in raised.value.message
    assert raised.value.exit_code == 2


# --- asking


@pytest.fixture
def archive_root(tmp_path: Path) -> Path:
    """Two releases and a folder."""
    for version in ("202407", "202507"):
        (tmp_path / f"midas-open-v{version}-md5s.txt").write_text(f"{MD5}  ./data/{version}.csv\n")
    (tmp_path / "data").mkdir()
    return tmp_path


class Asked:
    """A listing service on a simulator, with time that stands still."""

    def __init__(self, simulator: Simulator, clock: FakeClock, session: Any) -> None:
        self.simulator = simulator
        self.clock = clock
        self.retries: list[tuple[ErrorClass, float]] = []
        self.timeout_s = (5.0, 5.0)
        self._session = session

    def __call__(self, max_retries: int = 3) -> tuple[Item, ...]:
        def note(verdict: Verdict, wait_s: float) -> None:
            self.retries.append((verdict.error_class, wait_s))

        patience = Patience(max_retries, Backoff(1.0, 300.0, 2.0, 0.0), lambda low, _: low)
        gate = LoneGate(100_000, self.clock)
        service = ListingService(self._session, gate, self.timeout_s, patience, self.clock, note)
        return service.items(self.simulator.listing_url)

    @property
    def requests(self) -> int:
        return len(self.simulator.requests)


@pytest.fixture
def asked(archive_root: Path, clock: FakeClock) -> Iterator[Asked]:
    with Simulator(archive_root) as simulator, open_session() as session:
        yield Asked(simulator, clock, session)


def test_m8_the_listing_is_asked_once_and_anonymously(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C4: no token is sent, and `.netrc` is not looked into."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    sent: list[str] = []
    hook: Callable[..., None] = lambda answer, **_: sent.extend(answer.request.headers)  # noqa: E731
    asked._session.hooks["response"].append(hook)

    found = releases(asked())

    assert [each.version for each in found] == ["202407", "202507"]
    assert found[0].size_bytes == len(f"{MD5}  ./data/202407.csv\n")
    assert [record.token for record in asked.simulator.requests] == [None]
    assert "Authorization" not in sent


@pytest.mark.parametrize(
    ("fault", "error_class", "first_wait_s"),
    [
        (Fault("status", status=500), ErrorClass.SERVER_ERROR, 4.0),
        (Fault("status", status=504), ErrorClass.UNAVAILABLE, 1.0),
        (Fault("status", status=429), ErrorClass.THROTTLED, 1.0),
        (Fault("close"), ErrorClass.CONNECTION, 1.0),
        (Fault("truncate"), ErrorClass.INCOMPLETE, 1.0),
        (Fault("html-200"), ErrorClass.UNEXPECTED_PAGE, 4.0),
        (Fault("login-page"), ErrorClass.UNEXPECTED_PAGE, 4.0),
        (Fault("redirect-to-login"), ErrorClass.UNEXPECTED_PAGE, 4.0),
        (Fault("status", status=200, body="{", content_type="application/json"), None, 4.0),
        (Fault("status", status=200, body=json.dumps([]), content_type="application/json"), None, 4.0),
    ],
    ids=lambda value: value.action + str(value.status) if isinstance(value, Fault) else "",
)
def test_m8_what_may_pass_is_asked_again_after_a_wait(
    asked: Asked, fault: Fault, error_class: ErrorClass | None, first_wait_s: float
) -> None:
    """C8: 500, 504, broken connections, web pages; a web page is never taken for a listing."""
    asked.simulator.add_fault(fault)

    assert len(releases(asked())) == 2
    assert asked.retries == [(error_class or ErrorClass.UNEXPECTED_PAGE, first_wait_s)]
    assert asked.requests == 2


def test_m8_a_listing_that_does_not_come_in_time_is_asked_again(asked: Asked) -> None:
    asked.timeout_s = (5.0, 0.2)
    asked.simulator.add_fault(Fault("delay", seconds=1.0))

    assert len(releases(asked())) == 2
    assert asked.retries == [(ErrorClass.TIMEOUT, 1.0)]


def test_m8_patience_ends_after_max_retries(asked: Asked) -> None:
    """C8: one request and the retries, with growing waits."""
    asked.simulator.add_fault(Fault("status", status=503, times=None))

    with pytest.raises(FetchError) as raised:
        asked(max_retries=2)

    assert raised.value.verdict.error_class is ErrorClass.UNAVAILABLE
    assert asked.requests == 3
    assert asked.retries == [(ErrorClass.UNAVAILABLE, 1.0), (ErrorClass.UNAVAILABLE, 2.0)]


def test_m8_a_listing_that_is_not_there_is_asked_for_once(asked: Asked) -> None:
    asked.simulator.add_fault(Fault("status", status=404, times=None))

    with pytest.raises(FetchError):
        asked()

    assert asked.requests == 1


def test_c6_a_server_that_asks_to_wait_is_heard(asked: Asked) -> None:
    asked.simulator.add_fault(Fault("status", status=503, retry_after="90"))

    asked()

    assert sum(asked.clock.waits) == pytest.approx(90.0, abs=1.0)


def test_c5_requests_without_a_ledger_keep_their_distance(clock: FakeClock) -> None:
    """The stand-in for the gate spaces the starts at each host, and hears of pauses."""
    gate = LoneGate(100_000, clock)
    starts = []
    for host in ("a", "a", "b", "a"):
        with gate.request(host):
            starts.append(clock.now_us())
    gate.pause("a", clock.now_us() + 5_000_000, "asked to")
    with gate.request("a"):
        starts.append(clock.now_us())

    assert [later - starts[0] for later in starts] == [0, 100_000, 100_000, 200_000, 5_200_000]
