"""Promises about reading manifests (M1, M2, M4, M6)."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midasdl.manifest import (
    MAX_LINE_BYTES,
    MAX_REJECT_CHARACTERS,
    ManifestParser,
    folder_conflicts,
    open_manifest,
    parse_line,
)
from midasdl.models import FileInfo, Kind, Reject

MD5 = "50c9d1c465f3cbff652be1509c2e2a4e"
TOP = "data/uk-daily-rain-obs/dataset-version-202407"
STATION = f"{TOP}/devon/01381_twist"
PREFIX = "midas-open_uk-daily-rain-obs_dv-202407"
DATA = f"{STATION}/qc-version-1/{PREFIX}_devon_01381_twist_qcv-1_1992.csv"
CAPABILITY = f"{STATION}/{PREFIX}_devon_01381_twist_capability.csv"
METADATA = f"{TOP}/{PREFIX}_station-metadata.csv"
CHANGE_LOG = f"{TOP}/{PREFIX}_change_log.txt"
STATION_LOG = f"{TOP}/change_log_station_files/{PREFIX}_devon_01381_twist_qcv-0_1992.txt"
SAMPLE = Path(__file__).resolve().parents[3] / "shared" / "data" / "midas-open-v202407-md5s.sample.txt"

SPELLINGS = {
    "two-spaces": "{md5}  {path}",
    "one-space": "{md5} {path}",
    "star": "{md5} *{path}",
    "tab": "{md5}\t{path}",
    "dot-slash": "{md5}  ./{path}",
    "dots-slashes": "{md5}  ././{path}",
    "byte-order-mark": "\ufeff{md5}  {path}",
}


def accepted(line: str | bytes, line_no: int = 1) -> FileInfo:
    raw = line.encode() if isinstance(line, str) else line
    entry = parse_line(raw, line_no)
    assert isinstance(entry, FileInfo), entry
    return entry


def rejected(line: str | bytes, line_no: int = 1) -> Reject:
    raw = line.encode() if isinstance(line, str) else line
    entry = parse_line(raw, line_no)
    assert isinstance(entry, Reject), entry
    return entry


def path_of(path: str) -> str:
    return accepted(f"{MD5}  {path}\n").path


# M1: a stream of md5sum lines


@pytest.mark.skipif(not SAMPLE.exists(), reason="the real sample of a manifest is not at hand")
def test_m1_the_real_sample_is_accepted_whole() -> None:
    """M1: the first lines of a real manifest are all understood."""
    with open_manifest(str(SAMPLE), io.BytesIO()) as stream:
        entries = list(ManifestParser(stream))
    infos = [entry for entry in entries if isinstance(entry, FileInfo)]
    assert len(infos) == len(entries) == 13
    assert {info.kind for info in infos} == {Kind.DATA, Kind.CAPABILITY}
    assert {info.station_name for info in infos} == {"twist"}
    assert [info.line_no for info in infos] == list(range(1, 14))


def test_m1_the_counters_tell_every_line() -> None:
    """M1, M2: lines = accepted + rejected + ignored, and the first reject is kept."""
    parser = ManifestParser([f"{MD5}  a\n".encode(), b"\n", b"# note\n", b"rubbish\n", b"more rubbish\n"])
    entries = list(parser)
    assert (parser.lines, parser.accepted, parser.rejected, parser.ignored) == (5, 1, 2, 2)
    assert parser.first_reject == entries[1]


def test_m1_counters_are_true_during_iteration() -> None:
    """M1: whoever stops half-way knows how many lines were read."""
    parser = ManifestParser(io.BytesIO(f"\n{MD5}  a\n{MD5}  b\n".encode()))
    next(iter(parser))
    assert (parser.lines, parser.accepted) == (2, 1)


def test_m1_a_last_line_without_newline_counts() -> None:
    """M1: the end of the file ends a line too."""
    assert len(list(ManifestParser(io.BytesIO(f"{MD5}  a\n{MD5}  b".encode())))) == 2


class GeneratedManifest(io.RawIOBase):
    """A manifest of any length that is nowhere in memory."""

    def __init__(self, lines: int) -> None:
        pieces = (self._hundred_lines(number) for number in range(lines // 100))
        self._pieces: Iterator[bytes] = iter(pieces)
        self._rest = b""

    @staticmethod
    def _hundred_lines(number: int) -> bytes:
        station, prefix = f"{number:05d}_twist", f"{number:030x}"
        path = f"{TOP}/devon/{station}/qc-version-1/{PREFIX}_devon_{station}_qcv-1_19"
        return "".join(f"{prefix}{year:02d}  ./{path}{year:02d}.csv\n" for year in range(100)).encode()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = memoryview(buffer)  # type: ignore[arg-type]
        piece = self._rest or next(self._pieces, b"")
        self._rest = piece[len(target) :]
        piece = piece[: len(target)]
        target[: len(piece)] = piece
        return len(piece)


def test_m1_memory_stays_flat() -> None:
    """M1: 100,000 lines need no more memory than a handful."""

    def peak_bytes(lines: int) -> int:
        parser = ManifestParser(io.BufferedReader(GeneratedManifest(lines), 64 * 1024))
        tracemalloc.start()
        try:
            assert sum(1 for _ in parser) == parser.accepted == lines
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few = peak_bytes(1_000)
    assert peak_bytes(100_000) < few + 64 * 1024


class EndlessLine(io.RawIOBase):
    """A line of 64 MiB and a good one after it."""

    def __init__(self) -> None:
        self._left = 64 * 1024 * 1024
        self._tail = f"\n{MD5}  after\n".encode()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = memoryview(buffer)  # type: ignore[arg-type]
        if self._left:
            size = min(len(target), self._left)
            target[:size] = b"x" * size
            self._left -= size
            return size
        piece, self._tail = self._tail[: len(target)], self._tail[len(target) :]
        target[: len(piece)] = piece
        return len(piece)


def test_m1_an_endless_line_is_skipped_in_bounded_memory() -> None:
    """M1, M2: a line without end is one reject, and the next line is read as usual."""
    stream = io.BufferedReader(EndlessLine(), 1024 * 1024)
    tracemalloc.start()
    try:
        entries = list(ManifestParser(stream))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(entries[0], Reject)
    assert "longer than" in entries[0].reason
    assert len(entries[0].text) == MAX_REJECT_CHARACTERS
    assert isinstance(entries[1], FileInfo)
    assert (entries[1].path, entries[1].line_no) == ("after", 2)
    assert peak_bytes < 4 * 1024 * 1024


@pytest.mark.parametrize("excess", range(-2, 4))
def test_m1_the_line_limit_loses_no_neighbour(excess: int) -> None:
    """M2: whatever the length of a long line, the line after it is line 2."""
    long_line = b"x" * (MAX_LINE_BYTES + excess)
    entries = list(ManifestParser(io.BytesIO(long_line + f"\n{MD5}  after\n".encode())))
    assert [type(entry) for entry in entries] == [Reject, FileInfo]
    assert entries[1].line_no == 2


def test_m2_an_endless_comment_is_still_a_comment() -> None:
    """M2: a comment may be as long as it likes."""
    stream = io.BytesIO(b"#" * (3 * MAX_LINE_BYTES) + f"\n{MD5}  after\n".encode())
    parser = ManifestParser(stream)
    assert [entry.line_no for entry in parser] == [2]
    assert (parser.ignored, parser.rejected) == (1, 0)


def test_m2_an_endless_blank_line_may_hide_something_and_is_rejected() -> None:
    """M2: what was skipped unread is never called blank."""
    stream = io.BytesIO(b" " * (MAX_LINE_BYTES + 5) + b"something\n")
    assert [type(entry) for entry in ManifestParser(stream)] == [Reject]


# M2: the spellings


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\r\r\n"], ids=["no-end", "lf", "crlf", "crcrlf"])
def test_m2_every_spelling_means_the_same_file(spelling: str, end: str) -> None:
    """M2: separators, markers and line ends do not matter."""
    usual = accepted(f"{MD5}  ./{DATA}\n")
    assert accepted(spelling.format(md5=MD5, path=DATA) + end) == usual


def test_m2_upper_case_sums_become_lower() -> None:
    """M2: the md5 of an entry has one spelling."""
    assert accepted(f"{MD5.upper()}  {DATA}\n").md5 == MD5


@pytest.mark.parametrize(
    "line",
    ["", "\n", "\r\n", "   \n", "\t\n", "\ufeff\n", "# note\n", "  # note\n", "\ufeff# note\n"],
    ids=["empty", "lf", "crlf", "spaces", "tab", "bom", "comment", "indented", "bom-comment"],
)
def test_m2_blank_lines_and_comments_are_nothing(line: str) -> None:
    """M2: they are neither entries nor rejects."""
    assert parse_line(line.encode(), 1) is None


def test_m2_a_comment_need_not_be_utf8() -> None:
    """M2: nobody reads a comment."""
    assert parse_line(b"# caf\xe9\n", 1) is None


@pytest.mark.parametrize(
    ("rest", "path"),
    [
        ("  name with spaces", "name with spaces"),
        ("  a#b", "a#b"),
        ("  #a", "#a"),
        ("   leading", " leading"),
        ("  trailing ", "trailing "),
        ("  two  spaces", "two  spaces"),
        ("  *star", "*star"),
        (" **star", "*star"),
        (" * leading", " leading"),
        ("\t*star", "*star"),
        ("  été/日本.csv", "été/日本.csv"),
        ("  a\u00a0b", "a\u00a0b"),
        ("  ...", "..."),
        ("  .hidden/..a", ".hidden/..a"),
        ("  -rf", "-rf"),
        ("  ~/x", "~/x"),
        ("  ab:c", "ab:c"),
        ("  %2e%2e/x?y=1", "%2e%2e/x?y=1"),
    ],
)
def test_m2_odd_names_survive(rest: str, path: str) -> None:
    """M2, trap 27: a line is split once; the name is kept to the last character."""
    assert accepted(f"{MD5}{rest}\n").path == path


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param(b"rubbish", "does not begin with an md5 sum", id="rubbish"),
        pytest.param(MD5.encode(), "no path after", id="sum-alone"),
        pytest.param(MD5.encode() + b" ", "path is empty", id="sum-and-space"),
        pytest.param(MD5.encode() + b"  ./", "path is empty", id="dot-slash-alone"),
        pytest.param(MD5[:31].encode() + b"  a", "does not begin with an md5 sum", id="short-sum"),
        pytest.param(b"g" + MD5[1:].encode() + b"  a", "does not begin with an md5 sum", id="not-hex"),
        pytest.param(MD5.encode() * 2 + b"  a", "longer than an md5 sum", id="sha256"),
        pytest.param(MD5.encode() + b"a", "longer than an md5 sum", id="thirty-three-digits"),
        pytest.param(MD5.encode() + b"/a", "does not begin with an md5 sum", id="no-space"),
        pytest.param(b" " + MD5.encode() + b"  a", "does not begin with an md5 sum", id="indented"),
        pytest.param(b"MD5 (a) = " + MD5.encode(), "does not begin with an md5 sum", id="bsd"),
        pytest.param(b"\\" + MD5.encode() + b"  a\\nb", "md5sum has escaped the name", id="escaped"),
        pytest.param(b"<!DOCTYPE html>", "HTML", id="sign-in-page"),
        pytest.param(MD5.encode() + b"  caf\xe9", "not UTF-8", id="latin-1"),
        pytest.param(MD5.encode() + b"  \xed\xa0\x80", "not UTF-8", id="surrogate"),
        pytest.param(MD5.encode() + b"  \xc0\xae\xc0\xae/x", "not UTF-8", id="overlong-dots"),
        pytest.param(f"{MD5}  a".encode("utf-16"), "UTF-16", id="utf-16"),
    ],
)
def test_m2_a_malformed_line_becomes_a_row(line: bytes, reason: str) -> None:
    """M2: line number, text and reason are there."""
    reject = rejected(line + b"\n", 42)
    assert reason in reject.reason
    assert reject.line_no == 42
    assert reject.text


def test_m2_the_text_of_a_reject_is_safe_to_print() -> None:
    """M2: no control character reaches a terminal, and undecodable bytes are replaced."""
    text = rejected(b"\x1b[2J\x07bad\xff\xe2\x80\xae\n").text
    assert text == "\\x1b[2J\\x07bad\ufffd\\u202e"


def test_m2_the_text_of_a_reject_is_bounded_after_escaping() -> None:
    """M2: escapes do not make a long text longer than its bound."""
    text = rejected(b"\x1b" * 2 * MAX_REJECT_CHARACTERS + b"\n").text
    assert text.startswith("\\x1b\\x1b")
    assert len(text) == MAX_REJECT_CHARACTERS


# M4: what a path says


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (DATA, ("uk-daily-rain-obs", "202407", 1, "devon", "01381", "twist", 1992, Kind.DATA)),
        (CAPABILITY, ("uk-daily-rain-obs", "202407", None, "devon", "01381", "twist", None, Kind.CAPABILITY)),
        (METADATA, ("uk-daily-rain-obs", "202407", None, None, None, None, None, Kind.STATION_METADATA)),
        (CHANGE_LOG, ("uk-daily-rain-obs", "202407", None, None, None, None, None, Kind.CHANGE_LOG)),
        (STATION_LOG, ("uk-daily-rain-obs", "202407", 0, "devon", "01381", "twist", 1992, Kind.STATION_LOG)),
    ],
    ids=["data", "capability", "station-metadata", "change-log", "station-log"],
)
def test_m4_each_kind_fills_its_fields(path: str, expected: tuple[object, ...]) -> None:
    """M4: dataset, release, QC version, county, station and year come from the path."""
    info = accepted(f"{MD5}  ./{path}\n", 9)
    assert info[3:11] == expected
    assert (info.md5, info.path, info.line_no) == (MD5, path, 9)
    assert info.file_name == path.rsplit("/", 1)[-1]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("00README_catalogue_and_licence.txt", id="readme"),
        pytest.param(DATA.replace("uk-daily-rain-obs/", "uk-other-obs/", 1), id="other-dataset"),
        pytest.param(DATA.replace("dataset-version-202407", "dataset-version-202507"), id="other-release"),
        pytest.param(DATA.replace("/devon/", "/kent/"), id="other-county"),
        pytest.param(DATA.replace("/01381_twist/", "/01382_twist/"), id="other-station"),
        pytest.param(DATA.replace("qc-version-1", "qc-version-0"), id="other-qc"),
        pytest.param(DATA.replace("1992.csv", "92.csv"), id="short-year"),
        pytest.param(DATA.replace("1992.csv", "1992.txt"), id="other-suffix"),
        pytest.param(DATA.replace("1992", "١٩٩٢"), id="arabic-digits"),
        pytest.param(DATA.replace("devon", "Devon"), id="upper-case"),
        pytest.param(DATA.replace("01381", "1381"), id="short-id"),
        pytest.param(DATA.replace("data/", "", 1), id="without-data"),
        pytest.param(f"extra/{DATA}", id="deeper"),
        pytest.param(CAPABILITY.replace("/midas", "/qc-version-1/midas"), id="capability-in-qc-folder"),
        pytest.param(STATION_LOG.replace("change_log_station_files", "devon"), id="log-elsewhere"),
        pytest.param(METADATA.replace(f"{TOP}/", f"{TOP}/devon/"), id="metadata-elsewhere"),
    ],
)
def test_m4_an_unknown_shape_is_other_and_never_dropped(path: str) -> None:
    """M4: where file name and folders disagree or are strange, no field is guessed."""
    info = accepted(f"{MD5}  {path}\n")
    assert info.path == path
    assert info.kind is Kind.OTHER
    assert info[3:10] == (None,) * 7


# M6: hostile lines


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        pytest.param("/etc/passwd", "absolute", id="absolute"),
        pytest.param(".//etc/passwd", "absolute", id="absolute-behind-dot"),
        pytest.param("//host/share", "absolute", id="network-share"),
        pytest.param("../x", "'..'", id="climbs-at-once"),
        pytest.param("./../x", "'..'", id="climbs-behind-dot"),
        pytest.param("data/../../x", "'..'", id="climbs-later"),
        pytest.param("data/..", "'..'", id="climbs-at-the-end"),
        pytest.param("..", "'..'", id="climbs-only"),
        pytest.param("a\0b", "NUL", id="nul"),
        pytest.param("a\nb", "U+000A", id="newline"),
        pytest.param("a\tb", "U+0009", id="tab"),
        pytest.param("a\rb", "U+000D", id="carriage-return"),
        pytest.param("a\x1b[31mb", "U+001B", id="escape"),
        pytest.param("a\x7fb", "U+007F", id="delete"),
        pytest.param("a\x85b", "U+0085", id="c1"),
        pytest.param("a\u2028b", "U+2028", id="line-separator"),
        pytest.param("a\u2029b", "U+2029", id="paragraph-separator"),
        pytest.param("a\u202evsc.exe", "U+202E", id="right-to-left-override"),
        pytest.param("a\u2066b", "U+2066", id="isolate"),
        pytest.param(".midasd\u200cl/x", "U+200C", id="invisible-joiner"),
        pytest.param("a\ufeffb", "U+FEFF", id="inner-bom"),
        pytest.param("data\\x", "backslash", id="backslash"),
        pytest.param("..\\..\\x", "backslash", id="windows-climb"),
        pytest.param("a/" + "é" * 128, "component", id="component-of-256-bytes"),
        pytest.param(DATA.replace("twist", "t" * 200), "component", id="known-shape-too-long"),
        pytest.param("/".join(["a" * 200] * 16), "longer than 3072", id="long-path"),
        pytest.param("a/", "ends with a slash", id="trailing-slash"),
        pytest.param("a//b", "empty component", id="double-slash"),
        pytest.param("a/./b", "component '.'", id="inner-dot"),
        pytest.param("a/.", "component '.'", id="final-dot"),
        pytest.param(".", "component '.'", id="dot"),
        pytest.param(".midasdl/parts/x", "midasdl's own folder", id="own-folder"),
        pytest.param("./.MidasDL", "midasdl's own folder", id="own-folder-in-capitals"),
        pytest.param("C:/x", "drive letter", id="drive"),
        pytest.param("c:x", "drive letter", id="drive-relative"),
    ],
)
def test_m6_a_hostile_path_is_rejected_with_its_reason(path: str, reason: str) -> None:
    """M6: nothing that could leave the data root or deceive a reader is accepted."""
    assert reason in rejected(f"{MD5}  {path}").reason


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("a/" + "é" * 127 + "b", id="component-of-255-bytes"),
        pytest.param(("a" * 255 + "/") * 11 + "a" * 251 + "/bcde", id="path-of-3072-bytes"),
        pytest.param("a/.midasdl/x", id="own-name-deeper"),
        pytest.param(".midasdl2/x", id="similar-to-own"),
        pytest.param("data/C:/x", id="drive-deeper"),
    ],
)
def test_m6_what_is_merely_unusual_is_accepted(path: str) -> None:
    """M6: the limits themselves are allowed."""
    assert path_of(path) == path


# M6: files that are also folders


@pytest.mark.parametrize(
    ("paths", "conflicts"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param(["a", "b/c"], [], id="none"),
        pytest.param(["a", "a/b"], [("a", "a/b")], id="neighbours"),
        pytest.param(["a", "a-b", "a/b"], [("a", "a/b")], id="dash-between"),
        pytest.param(["a", "a/b", "a/b/c"], [("a", "a/b"), ("a/b", "a/b/c")], id="nested"),
        pytest.param(["a", "a/b", "a/c"], [("a", "a/b")], id="once-each"),
        pytest.param(["a", "a", "a/b"], [("a", "a/b")], id="repeated"),
        pytest.param(["a", "a b", "a b/c", "a-b", "a/b"], [("a b", "a b/c"), ("a", "a/b")], id="interlaced"),
        pytest.param(["a", "a0", "ab/c"], [], id="mere-prefix"),
    ],
)
def test_m6_a_file_that_is_also_a_folder_is_found(paths: list[str], conflicts: list[tuple[str, str]]) -> None:
    """M6: each such file is named once, with the first path beneath it."""
    assert paths == sorted(paths)
    assert list(folder_conflicts(paths)) == conflicts


@given(st.sets(st.text(alphabet="a-0/é", min_size=1, max_size=7)))
def test_m6_folder_conflicts_equal_a_brute_force(names: set[str]) -> None:
    """M6: the one-pass search finds what comparing all pairs finds."""
    paths = sorted(names, key=str.encode)
    beneath = ((path, [other for other in paths if other.startswith(f"{path}/")]) for path in paths)
    expected = {(path, others[0]) for path, others in beneath if others}
    found = list(folder_conflicts(paths))
    assert set(found) == expected
    assert len(found) == len(expected)


def test_m6_folder_conflicts_are_linear_on_hostile_names() -> None:
    """M6: a chain of prefixes, each a candidate, is compared once per path."""
    chain = ["a" + "-" * length for length in range(2_000)]
    paths = [*chain, *(f"{chain[-1]}/{number:05d}" for number in range(50_000))]
    assert list(folder_conflicts(paths)) == [(chain[-1], f"{chain[-1]}/00000")]


# Properties
