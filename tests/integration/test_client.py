"""C9, C11, C12, C13: one GET a file, and what becomes of each answer, over real sockets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from midasdl.ceda.client import CedaClient
from midasdl.ceda.network import HELP
from midasdl.ceda.ranges import Held
from midasdl.ceda.verdict import FetchError
from midasdl.errors import StorageError
from midasdl.models import ErrorClass
from midasdl.simulator import Fault, Simulator
from midasdl.version import PROJECT_URL, __version__
from tests.support.access import Basket, Office, asked, fetched
from tests.support.tls import Authority

CONTENTS = b"Conventions,G,BADC-CSV,1\n" + b"0123456789" * 400 + b"\nend data\n"
PATH = "data/a.csv"
ODD_NAMES = [
    "data/with space.csv",
    "data/#hash.csv",
    "data/100%.csv",
    "data/%41.csv",
    "data/a?b.csv",
    "data/über/wärme.csv",
    "data/a+b&c=d;e,f'g~h!(i)[j].csv",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    for name in [PATH, "data/b.csv", *ODD_NAMES]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(CONTENTS)
    (folder / "data/page.html").write_bytes(b"<!DOCTYPE html><title>Read me</title>")
    (folder / "data/empty.csv").write_bytes(b"")
    (folder / "data/large.csv").write_bytes(CONTENTS * 300)
    return folder


@pytest.fixture
def simulator(root: Path) -> Iterator[Simulator]:
    with Simulator(root) as running:
        yield running


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with Office(tmp_path) as opened:
        yield opened


@pytest.fixture(params=[10**8, 0], ids=["in-memory", "streamed"])
def in_memory(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def client(simulator: Simulator, office: Office, in_memory: int) -> CedaClient:
    """A client with a token, once with bodies in memory and once with all of them streamed."""
    access = office.open(simulator, in_memory=in_memory, silence_s=0.5)
    access.tokens.current()
    simulator.clear_requests()
    return access.client


def got(client: CedaClient, path: str = PATH) -> bytes:
    return fetched(client, path)


def verdict_of(client: CedaClient, path: str = PATH) -> tuple[ErrorClass, int | None]:
    basket = Basket()
    with pytest.raises(FetchError) as raised:
        client.fetch(path, basket)
    return raised.value.verdict.error_class, raised.value.verdict.http_status


# --- all is well


def test_c11_a_file_costs_exactly_one_get(client: CedaClient, simulator: Simulator) -> None:
    for path in (PATH, "data/b.csv", "data/large.csv"):
        assert got(client, path)
    names = [f"/badc/ukmo-midas-open/{path}" for path in (PATH, "data/b.csv", "data/large.csv")]
    assert [(each.method, each.path, each.status) for each in simulator.requests] == [
        ("GET", name, 200) for name in names
    ]


def test_c11_all_requests_of_a_healthy_run_use_one_connection(
    simulator: Simulator, office: Office, in_memory: int
) -> None:
    """The token's too, here, where both hosts are one; small and streamed bodies, an empty one, and a 404 between."""
    client = office.open(simulator, in_memory=in_memory).client
    for path in (PATH, "data/large.csv", "data/empty.csv", PATH, *ODD_NAMES):
        got(client, path)
    verdict_of(client, "data/none.csv")
    got(client)
    assert len({each.connection for each in simulator.requests}) == 1


def test_c15_requests_say_honestly_who_asks(client: CedaClient, simulator: Simulator) -> None:
    got(client)
    assert {each.user_agent for each in simulator.requests} == {f"midasdl/{__version__} (+{PROJECT_URL})"}


@pytest.mark.parametrize("path", ODD_NAMES)
def test_c11_a_file_of_any_name_is_asked_for_by_that_name(
    client: CedaClient, simulator: Simulator, path: str
) -> None:
    assert got(client, path) == CONTENTS
    assert simulator.requests[-1].path == f"/badc/ukmo-midas-open/{path}"


def test_c13_an_empty_file_is_a_file(client: CedaClient) -> None:
    assert got(client, "data/empty.csv") == b""


def test_s4_the_time_of_last_modification_comes_with_the_body(client: CedaClient, root: Path) -> None:
    body = client.fetch(PATH, Basket())
    assert body.last_modified_s == int((root / PATH).stat().st_mtime)


def test_c3_a_web_page_that_the_manifest_names_is_data(client: CedaClient) -> None:
    assert got(client, "data/page.html").startswith(b"<!DOCTYPE html>")


# --- trouble

VERDICTS = [
    (Fault("reset"), ErrorClass.CONNECTION, None),
    (Fault("close"), ErrorClass.CONNECTION, None),
    (Fault("truncate"), ErrorClass.INCOMPLETE, None),
    (Fault("truncate", bytes=0), ErrorClass.INCOMPLETE, None),
    (Fault("stall", seconds=30), ErrorClass.TIMEOUT, None),
    (Fault("stall", seconds=30, bytes=3_000), ErrorClass.TIMEOUT, None),
    (Fault("delay", seconds=30), ErrorClass.TIMEOUT, None),
    (Fault("html-200"), ErrorClass.UNEXPECTED_PAGE, 200),
    (Fault("html-200", body="<html>proxy error", content_type="text/csv"), ErrorClass.UNEXPECTED_PAGE, 200),
    (
        Fault("status", status=302, headers={"Location": "https://example.org/x"}),
        ErrorClass.UNEXPECTED_PAGE,
        302,
    ),
    (Fault("status", status=301, headers={"Location": "http://[broken"}), ErrorClass.UNEXPECTED_PAGE, 301),
    (Fault("status", status=304), ErrorClass.UNEXPECTED_PAGE, 304),
    (Fault("status", status=204), ErrorClass.UNEXPECTED_PAGE, 204),
    (Fault("status", status=400), ErrorClass.REJECTED, 400),
    (Fault("status", status=403), ErrorClass.FORBIDDEN, 403),
    (Fault("status", status=404), ErrorClass.NOT_FOUND, 404),
    (Fault("status", status=429), ErrorClass.THROTTLED, 429),
    (Fault("status", status=500), ErrorClass.SERVER_ERROR, 500),
    (Fault("status", status=503), ErrorClass.UNAVAILABLE, 503),
    (
        Fault(
            "status",
            status=200,
            headers={"Content-Encoding": "gzip"},
            body="this is no gzip at all",
            content_type="text/csv",
        ),
        ErrorClass.INCOMPLETE,
        None,
    ),
]


@pytest.mark.parametrize(
    ("fault", "error_class", "status"), VERDICTS, ids=lambda value: getattr(value, "action", str(value))
)
@pytest.mark.effect_of("performance.ceda_client.request_timeout_seconds")
def test_c9_each_way_to_fail_has_its_verdict_and_the_next_request_works(
    client: CedaClient, simulator: Simulator, fault: Fault, error_class: ErrorClass, status: int | None
) -> None:
    simulator.add_fault(fault)
    assert verdict_of(client) == (error_class, status)
    assert got(client) == CONTENTS
    assert len(asked(simulator, "download")) == 2, "nothing below us asks again by itself"


@pytest.mark.parametrize(
    "fault",
    [Fault("gzip"), Fault("chunked"), Fault("drip", seconds=0.1, bytes=8)],
    ids=lambda fault: str(fault.action),
)
def test_c12_unusual_but_whole_answers_are_data(
    client: CedaClient, simulator: Simulator, fault: Fault
) -> None:
    """Also one that drips for longer than the longest silence: a slow but moving file lives."""
    simulator.add_fault(fault)
    assert got(client) == CONTENTS
    assert got(client) == CONTENTS


def test_c11_a_connection_that_the_server_closes_behind_an_answer_costs_at_most_one_request(
    client: CedaClient, simulator: Simulator
) -> None:
    """Whether the close is noticed before the next request is sent is a race that nobody can win always."""
    simulator.add_fault(Fault("close-after"))
    assert got(client) == CONTENTS
    with suppress(FetchError):
        got(client)
    assert got(client) == CONTENTS
    assert len(asked(simulator, "download")) <= 3


@pytest.mark.parametrize("fault", [Fault("short"), Fault("corrupt")], ids=["short", "corrupt"])
def test_c9_wrong_bytes_are_for_the_checksum_to_find(
    client: CedaClient, simulator: Simulator, fault: Fault
) -> None:
    simulator.add_fault(fault)
    assert got(client) != CONTENTS
    assert got(client) == CONTENTS


def test_c9_a_server_that_is_away_is_no_connection(simulator: Simulator, client: CedaClient) -> None:
    simulator.stop()
    assert verdict_of(client) == (ErrorClass.CONNECTION, None)
    simulator.start()
    assert got(client) == CONTENTS


def test_c9_certificates_that_have_gone_are_no_reason_to_trust_a_connection(
    root: Path, office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C4 C9: a run looks into them once, and may last for days; it stops with what helps, and no worker crashes."""
    authority = Authority.found(tmp_path / "university.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.bundle))
    with Simulator(root, tls=authority.server()) as simulator:
        access = office.open(simulator)
        assert got(access.client) == CONTENTS
        authority.bundle.unlink()
        access.session.close()  # as when the server has closed it, or in a worker that comes later
        with pytest.raises(FetchError) as raised:
            access.client.fetch(PATH, Basket())
    assert raised.value.verdict.error_class is ErrorClass.TLS
    assert "--ca-bundle FILE" in HELP[ErrorClass.TLS]


def test_c6_retry_after_comes_with_the_verdict(client: CedaClient, simulator: Simulator) -> None:
    simulator.add_fault(Fault("status", status=503, retry_after="7"))
    with pytest.raises(FetchError) as raised:
        client.fetch(PATH, Basket())
    assert raised.value.verdict.retry_after_s == 7.0


def test_s7_trouble_with_the_disk_is_not_the_servers(simulator: Simulator, office: Office) -> None:
    class FullDisk(Basket):
        def write(self, _: bytes) -> None:
            raise StorageError("The disk is full.")

    access = office.open(simulator, in_memory=0)
    with pytest.raises(StorageError, match="full"):
        access.client.fetch(PATH, FullDisk())
    assert got(access.client) == CONTENTS


def test_c13_a_large_body_never_stands_in_memory_as_a_whole(simulator: Simulator, office: Office) -> None:
    basket = Basket()
    body = office.open(simulator, in_memory=10_000).client.fetch("data/large.csv", basket)
    assert body.content is None
    assert max(map(len, basket.chunks)) < 10_000
    assert b"".join(basket.chunks) == CONTENTS * 300


def test_c13_the_rest_of_a_body_is_asked_for_and_the_whole_is_summed_up(
    client: CedaClient, simulator: Simulator, root: Path
) -> None:
    """However small the rest is, it goes to its beginning; what is held serves as often as it is needed."""
    status = (root / PATH).stat()
    tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
    held = Held(1_000, tag, hashlib.md5(CONTENTS[:1_000]))
    for _ in range(2):
        basket = Basket(held)
        body = client.fetch(PATH, basket)
        assert b"".join(basket.chunks) == CONTENTS[1_000:]
        assert (body.content, body.http_status, body.size_bytes) == (None, 206, len(CONTENTS))
        assert body.md5 == hashlib.md5(CONTENTS).hexdigest()
        assert basket.validators == []
    assert {(each.status, each.range) for each in simulator.requests} == {(206, "bytes=1000-")}
