"""Routes, ranges, delivery and pages, without a socket."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import midasdl.simulator
from midasdl.simulator.delivery import Pace, altered_reply, framing, own_reply, strokes
from midasdl.simulator.faults import Fault
from midasdl.simulator.listing import Md5Cache
from midasdl.simulator.pages import login_page
from midasdl.simulator.replies import Body, FilePart, Reply, first_bytes, load, remaining_bytes
from midasdl.simulator.routes import Route, Tree, read_target, route_of
from midasdl.simulator.site import ByteRange, read_range


def test_every_exported_name_exists_and_the_list_is_sorted() -> None:
    assert midasdl.simulator.__all__ == sorted(
        midasdl.simulator.__all__, key=lambda name: (name.islower(), name)
    )
    assert all(hasattr(midasdl.simulator, name) for name in midasdl.simulator.__all__)


class TestRoutes:
    def test_a_target_is_decoded_once_and_parted_from_its_query(self) -> None:
        target = read_target("/badc/a%20b/100%25%23%2520.csv?download=1&json")
        assert target.path == "/badc/a b/100%#%20.csv"
        assert target.query == {"download": ["1"], "json": [""]}

    def test_a_request_that_came_through_a_proxy_is_understood(self) -> None:
        assert read_target("http://dap.ceda.invalid/badc/x?json").path == "/badc/x"
        assert read_target("http://dap.ceda.invalid").path == "/"

    def test_bytes_that_are_not_utf_8_survive(self) -> None:
        assert os.fsencode(read_target("/badc/%ff").path) == b"/badc/\xff"

    @pytest.mark.parametrize(
        "path",
        [
            "/badc/ukmo-midas-open/../secret",
            "/badc/ukmo-midas-open/data/../../secret",
            "/badc/../secret",
            "/badc/ukmo-midas-open/./secret",
            "/badc/ukmo-midas-open/a\0b",
            "/etc/passwd",
            "/badc/other/secret",
            "/badc",
            "",
        ],
    )
    def test_nothing_outside_the_archive_can_be_located(self, tmp_path: Path, path: str) -> None:
        assert Tree(tmp_path).locate(path) is None

    @given(st.text(alphabet="./ab%\\\0~", max_size=30))
    def test_whatever_is_located_lies_below_the_root(self, path: str) -> None:
        root = Path("/nowhere/root")
        place = Tree(root).locate(f"/badc/ukmo-midas-open/{path}")
        assert place is None or Path(os.path.normpath(place)).is_relative_to(root)

    def test_a_root_with_a_badc_folder_is_the_whole_archive(self, tmp_path: Path) -> None:
        (tmp_path / "badc" / "other").mkdir(parents=True)
        assert Tree(tmp_path).locate("/badc/other/x") == tmp_path / "badc" / "other" / "x"
        assert Tree(tmp_path).is_folder("/badc/other")
        assert Tree(tmp_path).locate("/data/x") is None

    def test_each_path_has_its_route(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        tree = Tree(tmp_path)
        routes = {
            "/api/token/create/": Route.TOKEN,
            "/api/token/create": Route.OTHER,
            "/account/signin/?r=x": Route.SIGNIN,
            "/listing/badc/x": Route.LISTING,
            "/listings": Route.OTHER,
            "/badc/ukmo-midas-open/data": Route.LISTING,
            "/badc/ukmo-midas-open/data/x.csv": Route.DOWNLOAD,
            "/badc/ukmo-midas-open/data/x.csv?download=1": Route.DOWNLOAD,
            "/badc/ukmo-midas-open/none?json": Route.LISTING,
            "/badc/ARCHIVE_INFO/ACCESS_TEST/RESTRICTED/TOKEN_CHECK": Route.DOWNLOAD,
            "/": Route.OTHER,
        }
        assert {text: route_of(read_target(text), tree) for text in routes} == routes


class TestRanges:
    @pytest.mark.parametrize(
        ("header", "wanted"),
        [
            ("bytes=0-3", (0, 4)),
            ("bytes=4-", (4, 10)),
            ("bytes=-3", (7, 10)),
            ("bytes=-30", (0, 10)),
            ("bytes=8-100", (8, 10)),
            ("Bytes=4-", (4, 10)),
            ("bytes=10-", (10, 10)),
            (f"bytes={'9' * 999}-", (10, 10)),
            (f"bytes={'9' * 5000}-", None),
            ("bytes=99-100", (10, 10)),
            ("bytes=-0", (10, 10)),
            ("bytes=5-2", None),
            ("bytes=0-1,4-5", None),
            ("lines=0-1", None),
            ("bytes=-", None),
            ("nonsense", None),
            (None, None),
        ],
    )
    def test_a_range_names_the_bytes_of_ten(self, header: str | None, wanted: tuple[int, int] | None) -> None:
        assert read_range(header, 10) == (ByteRange(*wanted) if wanted else None)

    def test_the_end_of_nothing_is_the_whole_of_it(self) -> None:
        assert read_range("bytes=-5", 0) is None
        assert read_range("bytes=0-", 0) == ByteRange(0, 0)

    @given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
    def test_a_range_is_what_slicing_gives(self, size: int, first: int, extra: int) -> None:
        found = read_range(f"bytes={first}-{first + extra}", size)
        assert found is not None
        data = bytes(range(size))
        assert data[found.start : found.stop] == data[first : first + extra + 1]


class TestDelivery:
    @staticmethod
    def sent(
        body: Body, fault: Fault | None = None, pace: Pace | None = None, **flags: bool
    ) -> tuple[float, bytes]:
        parts = list(strokes(b"HEAD", Reply(200, body=body), pace or Pace(), fault, **flags))
        return sum(part.wait_s for part in parts), b"".join(part.data for part in parts)

    def test_head_and_small_body_leave_in_one_stroke(self) -> None:
        assert list(strokes(b"HEAD", Reply(200, body=b"body"), Pace())) == [(0.0, b"HEADbody", 4)]

    @given(
        st.binary(max_size=60),
        st.sampled_from([None, "drip", "stall", "delay"]),
        st.one_of(st.none(), st.integers(0, 70)),
        st.one_of(st.none(), st.floats(1.0, 200.0)),
    )
    def test_a_slow_answer_is_a_whole_answer(
        self, body: bytes, action: str | None, count: int | None, rate: float | None
    ) -> None:
        fault = Fault(action, seconds=2.0, bytes=count) if action else None
        pace = Pace(0.25, rate)
        waited, data = self.sent(body, fault, pace)
        assert data == b"HEAD" + body
        assert waited >= 0.25
        assert waited <= 0.25 + len(body) / (rate or 1e9) + 2.0 * max(1, len(body)) + 1e-6

    def test_a_rate_spreads_a_body_over_its_time(self) -> None:
        waited, data = self.sent(b"x" * 1000, pace=Pace(0.5, 100.0))
        assert waited == pytest.approx(10.5)
        assert len(data) == 1004

    def test_a_drip_sends_its_bytes_one_by_one(self) -> None:
        parts = list(
            strokes(b"HEAD", Reply(200, body=b"abcdef"), Pace(), Fault("drip", seconds=0.5, bytes=2))
        )
        assert parts == [(0.0, b"HEAD", 0), (0.5, b"a", 1), (0.5, b"b", 1), (0.0, b"cdef", 4)]

    def test_a_stall_comes_after_its_bytes(self) -> None:
        parts = list(strokes(b"HEAD", Reply(200, body=b"abcdef"), Pace(), Fault("stall", seconds=9, bytes=2)))
        assert parts == [(0.0, b"HEADab", 2), (9.0, b"cdef", 4)]

    def test_a_stall_without_bytes_comes_after_the_headers(self) -> None:
        parts = list(strokes(b"HEAD", Reply(200, body=b"abcdef"), Pace(), Fault("stall", seconds=9)))
        assert parts == [(0.0, b"HEAD", 0), (9.0, b"abcdef", 6)]

    def test_a_truncated_body_is_announced_whole(self) -> None:
        reply = Reply(200, body=b"abcdef")
        fault = Fault("truncate", bytes=4)
        assert framing(altered_reply(reply, fault)) == ("Content-Length", "6")
        assert self.sent(b"abcdef", fault)[1] == b"HEADabcd"
        assert self.sent(b"abcdef", Fault("truncate"))[1] == b"HEADabc"

    def test_a_short_body_is_announced_as_short_as_it_is(self) -> None:
        short = altered_reply(Reply(200, body=b"abcdef"), Fault("short", bytes=4))
        assert (framing(short), short.body) == (("Content-Length", "4"), b"abcd")

    @given(st.binary(min_size=1, max_size=50), st.one_of(st.none(), st.integers(1, 60)))
    def test_a_corrupt_body_has_the_right_length_and_the_wrong_bytes(
        self, body: bytes, count: int | None
    ) -> None:
        wrong = load(altered_reply(Reply(200, body=body), Fault("corrupt", bytes=count)).body)
        assert len(wrong) == len(body)
        assert sum(a != b for a, b in zip(wrong, body, strict=True)) == min(count or 1, len(body))

    def test_gzip_says_what_it_did(self) -> None:
        reply = altered_reply(Reply(200, (("Accept-Ranges", "bytes"),), b"abc" * 100), Fault("gzip"))
        assert dict(reply.headers) == {"Content-Encoding": "gzip"}
        assert gzip.decompress(load(reply.body)) == b"abc" * 100

    def test_chunks_carry_the_body_and_end(self) -> None:
        assert self.sent(b"x" * 17, in_chunks=True)[1] == b"HEAD11\r\n" + b"x" * 17 + b"\r\n0\r\n\r\n"
        assert self.sent(b"", in_chunks=True)[1] == b"HEAD0\r\n\r\n"
        assert self.sent(b"abcd", Fault("truncate", bytes=1), in_chunks=True)[1] == b"HEAD1\r\na\r\n"

    def test_an_old_client_gets_no_chunks(self) -> None:
        assert framing(Reply(200, chunked=True), http_1_0=True) is None

    def test_an_answer_to_head_has_no_body(self) -> None:
        assert self.sent(b"body", Fault("truncate"), bodiless=True)[1] == b"HEAD"

    def test_an_answer_of_the_fault_itself_is_shaped_by_its_parameters(self) -> None:
        fault = Fault("status", status=429, retry_after="7", body="slow down", content_type="text/plain")
        reply = own_reply(fault)
        assert reply is not None
        assert (reply.status, load(reply.body)) == (429, b"slow down")
        assert dict(reply.headers) == {"Content-Type": "text/plain", "Retry-After": "7"}
        assert own_reply(Fault("status", status=204)) == Reply(204)
        assert own_reply(Fault("corrupt")) is None

    @given(st.binary(max_size=40), st.integers(0, 50))
    def test_a_stretch_of_a_file_behaves_like_its_bytes(
        self, tmp_path_factory: pytest.TempPathFactory, body: bytes, cut: int
    ) -> None:
        place = tmp_path_factory.getbasetemp() / "stretch"
        place.write_bytes(b"<<" + body + b">>")
        part = FilePart(place, 2, len(body))
        assert load(part) == body
        assert load(first_bytes(part, cut)) == body[:cut]
        assert load(remaining_bytes(part, cut)) == body[cut:]
        assert self.sent(part, Fault("stall", bytes=cut)) == self.sent(body, Fault("stall", bytes=cut))


class TestPagesAndListing:
    def test_the_login_page_is_about_8_kb_and_changes_each_time(self) -> None:
        first, second = login_page("one"), login_page("two")
        assert 7500 < len(first) < 8500
        assert "<title>Login" in first
        assert 'name="csrfmiddlewaretoken"' in first
        assert first != second

    def test_the_md5_of_a_changed_file_is_computed_anew(self, tmp_path: Path) -> None:
        cache, place = Md5Cache(), tmp_path / "a"
        for contents in (b"one", b"other"):
            place.write_bytes(contents)
            assert cache.of(place) == cache.of(place) == hashlib.md5(contents).hexdigest()
