"""C9, C11, C12: a plain request goes the short way, and whatever is unusual has the same end as on the usual one."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter

from midasdl.ceda import session as session_module
from midasdl.ceda.classify import FOREIGN_ERRORS, classify_exception
from midasdl.ceda.lean import LeanAdapter
from midasdl.ceda.lean_answer import LeanResponse
from midasdl.ceda.link import be_patient
from midasdl.ceda.plain_head import LARGEST_BODY_BYTES, HeadReader
from midasdl.ceda.verdict import FetchError
from midasdl.errors import AuthenticationError
from midasdl.models import ErrorClass
from midasdl.simulator import Fault, Simulator
from tests.support.access import Basket, Office

CONTENTS = b"Conventions,G,BADC-CSV,1\n" + b"0123456789" * 400 + b"\nend data\n"
PATH = "data/a.csv"
SIGN_IN = {"Location": "https://auth.ceda.ac.uk/account/signin/?r=x"}

FAULTS = [
    Fault("reset"),
    Fault("close"),
    Fault("close-after"),
    Fault("truncate"),
    Fault("truncate", bytes=0),
    Fault("truncate", bytes=3_000),
    Fault("short"),
    Fault("corrupt"),
    Fault("stall", seconds=30),
    Fault("stall", seconds=30, bytes=3_000),
    Fault("delay", seconds=30),
    Fault("drip", seconds=0.02, bytes=8),
    Fault("gzip"),
    Fault("chunked"),
    Fault("login-page"),
    Fault("redirect-to-login"),
    Fault("expire-token"),
    Fault("revoke-tokens"),
    Fault("html-200"),
    Fault("html-200", body="<html>", content_type="text/csv"),
    Fault(
        "status", status=200, headers={"Content-Encoding": "gzip"}, body="no gzip", content_type="text/csv"
    ),
    Fault("status", status=204),
    Fault("status", status=302, headers=SIGN_IN),
    Fault("status", status=304),
    Fault("status", status=401),
    Fault("status", status=403),
    Fault("status", status=404),
    Fault("status", status=429),
    Fault("status", status=500),
    Fault("status", status=503, retry_after="1"),
]
IN_MEMORY, STREAMED = 10**8, 0
BODIES = {"truncate", "short", "stall", "drip", "gzip", "chunked", "login-page"}
ROWS = [(fault, IN_MEMORY) for fault in FAULTS]
ROWS += [(fault, STREAMED) for fault in FAULTS if fault.action in BODIES]


class End:
    """How a request for a file ended, in every respect that the rest of midasdl can see."""

    def __init__(self, fetch: Callable[[], Any]) -> None:
        try:
            body = fetch()
        except FetchError as error:
            self.facts: Any = error.verdict
        except AuthenticationError as error:
            self.facts = (error.message, error.hint)
        else:
            self.facts = (body.md5, body.size_bytes, body.http_status, body.last_modified_s)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    (folder / "data").mkdir()
    (folder / PATH).write_bytes(CONTENTS)
    return folder


def story(folder: Path, root: Path, fault: Fault, in_memory: int) -> tuple[Any, ...]:
    """Three requests, of which the second meets the fault: how they ended, and what the server saw of them."""
    folder.mkdir()
    with Simulator(root) as simulator, Office(folder) as office:
        client = office.open(simulator, in_memory=in_memory, silence_s=0.4).client
        client.fetch(PATH, Basket())
        simulator.add_fault(Fault(**{**_as_keywords(fault), "route": "download"}))
        ends = [End(lambda: client.fetch(PATH, Basket())).facts]
        if fault.action != "close-after":  # whether the next request notices in time is a race
            ends.append(End(lambda: client.fetch(PATH, Basket())).facts)
        requests_seen = [(each.route, each.status) for each in simulator.requests]
        connections = len({each.connection for each in simulator.requests})
    return ends, requests_seen, connections


def _as_keywords(fault: Fault) -> dict[str, Any]:
    return {name: getattr(fault, name) for name in fault.__dataclass_fields__}


def without_port(facts: object) -> str:
    """As text; two simulators differ in their port."""
    words = str(facts).split("port=")
    return words[0] + "".join(f"port=N{rest.lstrip('0123456789')}" for rest in words[1:])


@pytest.mark.parametrize(
    ("fault", "in_memory"),
    ROWS,
    ids=lambda value: getattr(value, "action", "in-memory" if value else "streamed"),
)
def test_each_fault_ends_the_short_way_as_it_ends_the_usual_one(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault, in_memory: int
) -> None:
    """C9 C11 C12: verdict, words, retry-after, requests and connections are the same."""
    exchange, short = LeanAdapter._exchange, []
    monkeypatch.setattr(LeanAdapter, "_exchange", lambda *words: short.append(words) or exchange(*words))
    lean = story(tmp_path / "lean", root, fault, in_memory)
    assert short, "nothing went the short way"
    monkeypatch.setattr(session_module, "LeanAdapter", HTTPAdapter)
    usual = story(tmp_path / "usual", root, fault, in_memory)
    assert without_port(lean) == without_port(usual)


# --- answers that no simulator makes

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell"
ODD = {
    "plain": PLAIN,
    "no-length": b"HTTP/1.1 200 OK\r\n\r\nodd!",
    "http-1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nodd!",
    "closing": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nodd!",
    "continue-first": b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN,
    "bare-newlines": b"HTTP/1.1 200 OK\nContent-Length: 4\n\nodd!",
    "folded": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 4\r\n\r\nodd!",
    "two-equal-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nodd!",
    "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nodd!",
    "length-in-words": b"HTTP/1.1 200 OK\r\nContent-Length: four\r\n\r\nodd!",
    "negative-length": b"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\nodd!",
    "length-and-chunks": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nodd!\r\n0\r\n\r\n"
    ),
    "no-reason": b"HTTP/1.1 200\r\nContent-Length: 4\r\n\r\nodd!",
    "no-http": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "half-a-head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "nothing": b"",
    "short-body": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nodd!",
    "long-body": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nodd!",
    "endless-head": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    "cookie": b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 4\r\n\r\nodd!",
    "not-found": b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nodd!",
}


@contextmanager
def answering(*answers: bytes, pieces: int = 1) -> Iterator[tuple[str, list[str]]]:
    """A server that gives one answer after another; after one that is not plain it closes."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[str] = []
    to_give = iter(answers)

    def converse(link: socket.socket) -> None:
        with link, suppress(OSError):
            while head := link.recv(65_536):
                asked.append(head.decode())
                answer = next(to_give)
                size = max(1, len(answer) // pieces)
                for start in range(0, len(answer), size):
                    link.sendall(answer[start : start + size])
                    time.sleep(0.002 if pieces > 1 else 0)
                if answer is not PLAIN:
                    return

    def serve() -> None:
        with suppress(OSError):
            while True:
                converse(listener.accept()[0])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/data/a%20b.csv", asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def heard(adapter: HTTPAdapter, url: str) -> tuple[Any, Any]:
    """What a session hears in answer to its second request, and the cookies that it has then."""
    with requests.Session() as session:
        session.mount("http://", adapter)
        session.get(url, stream=True, timeout=(2, 2)).raw.read()
        try:
            response = session.get(url, stream=True, timeout=(2, 2))
            end: Any = (response.status_code, response.raw.read(), response.raw.read())
        except FOREIGN_ERRORS as error:
            end = classify_exception(error)
        return end, dict(session.cookies)


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("pieces", [1, 9], ids=["at-once", "in-pieces"])
def test_each_odd_answer_is_understood_as_the_standard_library_understands_it(
    answer: bytes, pieces: int
) -> None:
    """C9: also where it comes in pieces; nothing is asked for twice."""
    ends = []
    for adapter in (LeanAdapter(max_retries=0), HTTPAdapter(max_retries=0)):
        with answering(PLAIN, answer, pieces=pieces) as (url, asked):
            ends.append((without_port(heard(adapter, url)), len(asked)))
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    "begun", [b"", b"HTTP/1.1 404 ", b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nno"]
)
def test_silence_is_a_timeout_however_far_an_answer_has_come(begun: bytes) -> None:
    """C9: also where the short way has handed it over, whose sockets tell silence in another way."""
    ends = []
    for adapter in (LeanAdapter(max_retries=0), HTTPAdapter(max_retries=0)):
        with keeping_on(PLAIN, begun) as url, requests.Session() as session:
            session.mount("http://", adapter)
            session.get(url, stream=True, timeout=(2, 2)).raw.read()
            with pytest.raises(FOREIGN_ERRORS) as raised:
                session.get(url, stream=True, timeout=(2, 0.1)).raw.read()
            ends.append(classify_exception(raised.value))
    assert ends[0] is not None
    assert ends[0].error_class is ErrorClass.TIMEOUT
    assert without_port(ends[0]) == without_port(ends[1])


def test_silence_after_a_way_back_to_the_usual_one_is_a_timeout_too() -> None:
    """C9: whoever has a connection after a plain request waits as long as it says itself."""
    with keeping_on(PLAIN, PLAIN, b"HTTP/1.1 2") as url, requests.Session() as session:
        session.mount("http://", LeanAdapter(max_retries=0, pool_maxsize=1))
        for _ in range(2):
            session.get(url, stream=True, timeout=(2, 30)).raw.read()
        with pytest.raises(requests.ReadTimeout):
            session.get(url, timeout=(2, 0.1))


def test_a_socket_that_the_system_times_gives_up_on_both_ways() -> None:
    """C9: neither what does not come nor what cannot be sent holds a worker for ever."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        be_patient(ours, 0.05)
        for act in (lambda: ours.recv(1), lambda: ours.sendall(bytes(10**7))):
            with pytest.raises((BlockingIOError, TimeoutError)):
                act()


def test_the_request_is_word_for_word_the_usual_one() -> None:
    """C4 C15: headers, their order and the host are those of the standard library, on the way that is short too."""
    heads = []
    for adapter in (LeanAdapter(), HTTPAdapter()):
        with answering(PLAIN, PLAIN) as (url, asked):
            heard(adapter, url)
        first, second = (head.replace(url.split("/")[2], "HOST") for head in asked)
        heads += [sorted(first.splitlines()), sorted(second.splitlines())]
    assert heads[0] == heads[1] == heads[2] == heads[3]


def test_c11_plain_requests_and_others_share_one_connection(simulator_of_one: Simulator) -> None:
    """A plain one, one with a body, and a plain one again."""
    url = f"{simulator_of_one.archive_url}/{PATH}"
    with requests.Session() as session:
        session.mount("http://", LeanAdapter(pool_maxsize=1))
        kinds = []
        for method in ("GET", "GET", "POST", "GET", "GET"):
            response = session.request(method, url, stream=True, timeout=(2, 2))
            kinds.append(isinstance(response, LeanResponse))
            response.raw.read()
    assert not kinds[0], "a new connection is the usual adapter's"
    assert len({each.connection for each in simulator_of_one.requests}) == 1


def test_a_response_may_be_left_unread() -> None:
    """C11: nothing of it is taken for the next answer."""
    with answering(PLAIN, PLAIN, PLAIN) as (url, asked), requests.Session() as session:
        session.mount("http://", LeanAdapter(pool_maxsize=1))
        session.get(url, stream=True, timeout=(2, 2)).raw.read()
        with session.get(url, stream=True, timeout=(2, 2)) as unread:
            assert isinstance(unread, LeanResponse)
        assert session.get(url, stream=True, timeout=(2, 2)).raw.read() == b"well"
    assert len(asked) == 3


@pytest.mark.parametrize("size", [4, 70_000, 900_000, 3_000_000])
def test_a_body_of_any_size_comes_whole_into_memory_that_is_used_again(size: int) -> None:
    """C9: what one answer leaves there is never taken for another's."""
    bodies = [bytes([65 + number]) * length for number, length in enumerate((size, 9, size + 1, size))]
    heads = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) for body in bodies]
    answers = [head + body for head, body in zip(heads, bodies, strict=True)]
    with keeping_on(PLAIN, *answers) as url, requests.Session() as session:
        adapter = LeanAdapter(pool_maxsize=1)
        session.mount("http://", adapter)
        session.get(url, stream=True, timeout=(2, 2)).raw.read()
        lent = [session.get(url, stream=True, timeout=(2, 2)).raw.lend() == body for body in bodies]
    assert lent == [True] * 4
    assert len(adapter.room.view) >= size


def test_a_response_that_is_read_late_is_still_its_own() -> None:
    """C9: whoever asks again before it is read gets another answer, and the first stays as it came."""
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + body for body in (b"one!", b"two!")]
    with keeping_on(PLAIN, *answers) as url, requests.Session() as session:
        session.mount("http://", LeanAdapter(pool_maxsize=1))
        session.get(url, stream=True, timeout=(2, 2)).raw.read()
        one, two = (session.get(url, stream=True, timeout=(2, 2)) for _ in range(2))
        assert (isinstance(one, LeanResponse), isinstance(two, LeanResponse)) == (True, True)
        assert (two.raw.read(), one.raw.read(), one.raw.read()) == (b"two!", b"one!", b"")


@contextmanager
def keeping_on(*answers: bytes) -> Iterator[str]:
    """A server that gives one answer after another over the same connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError), listener.accept()[0] as link:
                for answer in answers:
                    link.recv(65_536)
                    link.sendall(answer)
                link.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/data/a.csv"
    thread.join(timeout=5)


@pytest.fixture
def simulator_of_one(root: Path) -> Iterator[Simulator]:
    with Simulator(root) as running:
        yield running


@pytest.mark.parametrize(
    ("head", "is_plain"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 12", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length:12\r\nX-A:\r\nConnection: Keep-Alive", True),
        (b"HTTP/1.1 206 Partial Content\r\nContent-Length: 12", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: %d" % LARGEST_BODY_BYTES, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: %d" % (LARGEST_BODY_BYTES + 1), False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1_2", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length : 12", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nContent-Encoding: identity", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n: x", False),
        (b"HTTP/1.1 200 OK", False),
    ],
)
def test_only_what_is_plain_beyond_doubt_goes_the_short_way(head: bytes, is_plain: bool) -> None:
    """C9: a length, and nothing that changes what a length means."""
    headers = HeadReader().read(head)
    assert (headers is not None) is is_plain
    assert headers is None or headers["CONTENT-length"] == headers.get("Content-Length") > "1"


LENGTHS = ["12", "1234567", "99999999", "12 ", "12x", "-1", ""]
VALUES = {
    "Content-Length": LENGTHS,
    "content-length": LENGTHS,
    "Connection": ["keep-alive", "Keep-Alive", "close", "upgrade", ""],
    "Server": ["nginx", "", "  a b ", "\x85", "\xa0x", "a:b\r\nX: c", "a\r\n folded"],
    "ETag": ['"a:b"', ""],
    "Transfer-Encoding": ["chunked"],
}


@st.composite
def like_heads(draw: st.DrawFn) -> list[bytes]:
    """Heads with the same names, of which each says what it likes."""
    names = draw(
        st.lists(st.sampled_from(sorted(VALUES)), max_size=4).map(lambda more: ["Content-Length", *more])
    )
    heads = []
    for order in (names, names, names[::-1]):
        lines = [f"{name}: {draw(st.sampled_from(VALUES[name]))}" for name in order]
        heads.append("\r\n".join(["HTTP/1.1 200 OK", *lines]).encode("latin-1"))
    return heads


@settings(max_examples=400)
@given(heads=like_heads())
def test_what_was_read_before_changes_nothing_of_how_a_head_is_read(heads: list[bytes]) -> None:
    """C9: one that is like the last is read in one step, and means the same."""
    reader = HeadReader()
    for head in heads * 2:
        assert reader.read(head) == HeadReader().read(head)
