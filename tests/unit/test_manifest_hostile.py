"""Promises about manifests that mean harm, or were harmed on the way (M1, M2, M6).

The files in `tests/corpus/manifest` are kept: every trap that is known, and whatever fuzzing has found.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import os
import posixpath
import sys
import threading
import tracemalloc
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from midasdl.cli.main import main
from midasdl.errors import ExitCode, ManifestError
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.load import ManifestLoader
from midasdl.ledger.overview import Overview
from midasdl.manifest import OWN_FOLDER, ManifestParser, open_manifest, parse_line
from midasdl.manifest.parser import HOPELESS_LINES
from midasdl.models import FileInfo, Reject
from midasdl.selection import Selection

MD5 = "50c9d1c465f3cbff652be1509c2e2a4e"
GOOD_LINE = f"{MD5}  ./data/good.csv\n".encode()
MEBIBYTE = 1024 * 1024

CORPUS = Path(__file__).resolve().parents[1] / "corpus" / "manifest"
EXPECTED = {
    "binary": (1, 6, 1),
    "climbing": (0, 20, 0),
    "contradictions": (7, 0, 0),
    "controls": (1, 15, 0),
    "encodings": (2, 7, 1),
    "long": (3, 5, 0),
    "lookalikes": (3, 5, 0),
    "names": (21, 0, 0),
    "no-end": (2, 0, 0),
    "nothing": (0, 0, 0),
    "old-mac": (0, 1, 0),
    "own-folder": (2, 9, 0),
    "sign-in-page": (0, 7, 1),
    "spellings": (7, 0, 5),
    "sums": (1, 17, 0),
    "twins": (11, 0, 0),
    "utf-16-be": (0, 3, 0),
    "utf-16-le": (0, 3, 0),
}
"""Lines that are accepted, rejected, and blank or comments."""

CONTENTS = {name: (CORPUS / f"{name}.txt").read_bytes() for name in EXPECTED}
EVERY_FILE = pytest.mark.parametrize("name", EXPECTED)

PIECES = st.sampled_from(
    [
        *(line + b"\n" for content in CONTENTS.values() for line in content.split(b"\n")),
        *(GOOD_LINE, b"\n", b"\r\n", b"\0", b"\xef\xbb\xbf", b"\x1f\x8b", b"#", MD5.encode(), b"  ", b"../"),
    ]
)
BLOBS = st.lists(PIECES | st.binary(max_size=8), max_size=12).map(b"".join)
"""Lines of the corpus and scraps of lines, put together anyhow."""

LOOKALIKES = (
    "\u2024",
    "\u2025",
    "\uff0e",
    "\uff0f",
    "\u2215",
    "\u017f",
    "\u212a",
    "\u037e",
    "\u0338",
    "\u1e9e",
)
HOSTILE_PATHS = st.lists(
    st.sampled_from(
        [*"./ ~:aA\\", "..", OWN_FOLDER, "midasdl", "e\u0301", "\u00e9", "\u200d", "C:", *LOOKALIKES]
    ),
    min_size=1,
    max_size=7,
).map("".join)


class InPieces(io.RawIOBase):
    """A pipe that gives its bytes in pieces of given sizes, again and again; nothing is kept in memory."""

    def __init__(self, content: Iterable[bytes], sizes: Sequence[int]) -> None:
        self._content = iter(content)
        self._sizes = itertools.cycle(sizes)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = memoryview(buffer)  # type: ignore[arg-type]
        self._rest = self._rest or next((each for each in self._content if each), b"")
        size = min(len(target), next(self._sizes))
        piece, self._rest = self._rest[:size], self._rest[size:]
        target[: len(piece)] = piece
        return len(piece)


def parsed(content: bytes) -> tuple[ManifestParser, list[FileInfo | Reject]]:
    parser = ManifestParser(io.BytesIO(content))
    return parser, list(parser)


def read_from(stdin: io.RawIOBase, buffer_bytes: int = 8192) -> tuple[str, list[FileInfo | Reject]]:
    with open_manifest("-", io.BufferedReader(stdin, buffer_bytes)) as stream:
        parser = ManifestParser(stream)
        entries = list(parser)
        return parser.md5, entries


def peak_of(entries: Iterator[FileInfo | Reject]) -> tuple[list[FileInfo | Reject], int]:
    """What comes out, and the most memory that it took, in bytes."""
    tracemalloc.start()
    try:
        return list(entries), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def as_other_systems_see_it(path: str) -> set[str]:
    """A path on file systems that fold case, compose, decompose, or drop dots and blanks at the end of names."""
    spellings = {path, path.casefold(), path.upper()}
    spellings |= {unicodedata.normalize(form, each) for form in ("NFC", "NFD", "NFKC") for each in spellings}
    trimmed = {"/".join(part.rstrip(". ") or part for part in each.split("/")) for each in spellings}
    return spellings | trimmed


def check_stays_inside(path: str) -> None:
    """Whatever the system, the file lies below the data root and outside midasdl's own folder there."""
    for seen in as_other_systems_see_it(path):
        joined = posixpath.normpath(posixpath.join("/data/root", seen))
        assert joined.startswith("/data/root/"), (path, seen)
        assert joined.casefold().split("/")[3].rstrip(". ") != OWN_FOLDER, (path, seen)
        assert ".." not in [part.strip() for part in seen.split("/")], (path, seen)


# --- the corpus


def test_m6_every_file_of_the_corpus_is_looked_at() -> None:
    """M6: whoever adds a file says what is to become of its lines."""
    assert {file.stem for file in CORPUS.iterdir()} == set(EXPECTED)


@EVERY_FILE
def test_m6_each_line_is_accepted_rejected_or_nothing(name: str) -> None:
    """M2 M6: once each, in order, with a reason where it is rejected."""
    parser, entries = parsed(CONTENTS[name])
    assert (parser.accepted, parser.rejected, parser.ignored) == EXPECTED[name]
    numbers = [entry.line_no for entry in entries]
    assert numbers == sorted(set(numbers))
    assert all(entry.reason and entry.text.isprintable() for entry in entries if isinstance(entry, Reject))


@EVERY_FILE
def test_m6_what_is_accepted_can_be_put_on_disk_and_stays_below_the_root(name: str, tmp_path: Path) -> None:
    """I1 M6: each accepted path is one that this system can make, resolved below the data root."""
    root = tmp_path / "root"
    for entry in parsed(CONTENTS[name])[1]:
        if not isinstance(entry, FileInfo) or len(str(root / entry.path)) > 4_000:
            continue
        check_stays_inside(entry.path)
        place = tmp_path / str(entry.line_no) / "root" / entry.path
        os.makedirs(place.parent)  # noqa: PTH103 - pathlib goes deeper by recursion
        place.write_bytes(b"x")
        assert Path(os.path.realpath(place)).is_relative_to(tmp_path.resolve() / str(entry.line_no) / "root")


@EVERY_FILE
def test_m6_each_line_is_counted_once_in_the_ledger_too(name: str, tmp_path: Path) -> None:
    """I4 M5 M6: a destination, a row of reject, a repetition, or nothing; the good line shows that all were read."""
    content = CONTENTS[name].removesuffix(b"\n") + b"\n" + GOOD_LINE
    ignored = parsed(content)[0].ignored
    with Ledger.create(tmp_path / "progress.db") as ledger:
        with ledger.write() as connection:
            parser = ManifestParser(io.BytesIO(content))
            summary = ManifestLoader(ledger, name, Selection()).load(connection, parser)
        with ledger.read() as connection:
            lines = "SELECT line_no FROM destination UNION ALL SELECT line_no FROM reject"
            numbers = connection.exec_driver_sql(lines).scalars().all()
            kept = connection.exec_driver_sql("SELECT count(*) FROM reject").scalar_one()
        Overview(ledger).require_that_all_adds_up()
    assert summary.lines == summary.added + summary.rejected + summary.repeated + ignored
    assert kept == summary.rejected
    assert len(numbers) == len(set(numbers)) == summary.added + summary.rejected


# --- any bytes, any pieces


@settings(max_examples=150)
@given(
    content=BLOBS,
    sizes=st.lists(st.sampled_from([1, 2, 3, 7, 100, 70_000]), min_size=1, max_size=5),
    packed=st.booleans(),
    buffer_bytes=st.sampled_from([1, 16, 8192]),
)
def test_m1_it_does_not_matter_how_the_bytes_arrive(
    content: bytes, sizes: list[int], packed: bool, buffer_bytes: int
) -> None:
    """M1 M2: a pipe may cut lines, line ends, characters and gzip headers anywhere."""
    if not packed and content.startswith((b"\x1f\x8b", b"BZh", b"PK\x03\x04", b"\xfd7zXZ", b"\x28\xb5\x2f")):
        content = b"\n" + content
    arriving = gzip.compress(content, mtime=0) if packed else content
    md5, entries = read_from(InPieces([arriving], sizes), buffer_bytes)
    parser, expected = parsed(content)
    assert entries == expected
    assert md5 == parser.md5 == hashlib.md5(content).hexdigest()
    assert (
        parser.lines
        == parser.accepted + parser.rejected + parser.ignored
        == content.count(b"\n") + (not content.endswith(b"\n") and content != b"")
    )


@settings(max_examples=300)
@given(path=HOSTILE_PATHS)
@example(".. /x")
@example(".mida\u017fdl./x")
@example("\u2024\u2024/x")
def test_m6_no_accepted_path_leaves_the_data_root_on_any_system(path: str) -> None:
    """I1 M6: not where case, composition, or dots and blanks at the end do not count, either."""
    entry = parse_line(f"{MD5}  {path}\n".encode(), 1)
    if isinstance(entry, FileInfo):
        check_stays_inside(entry.path)


PACKED = gzip.compress(b"".join(f"{n:032x}  data/{n}.csv\n".encode() for n in range(60)), mtime=0)


@settings(max_examples=300)
@given(
    harm=st.lists(st.tuples(st.integers(2, len(PACKED) - 1), st.integers(1, 255)), max_size=3),
    length=st.integers(2, len(PACKED)),
    tail=st.sampled_from([b"", b"", b"\0" * 9, b"tail", PACKED[:20]]),
)
def test_m1_harmed_gzip_gives_the_whole_manifest_or_an_error(
    harm: list[tuple[int, int]], length: int, tail: bytes
) -> None:
    """M1: never another manifest, never a part of it without a word, and no error but ours."""
    blob = bytearray(PACKED)
    for place, flip in harm:
        blob[place] ^= flip
    with suppress(ManifestError):
        md5, _ = read_from(InPieces([bytes(blob[:length]) + tail], [4096]))
        assert md5 == hashlib.md5(gzip.decompress(PACKED)).hexdigest()


# --- too much


def test_m1_a_gigabyte_of_zeros_in_a_small_gzip_file_is_one_reject(tmp_path: Path) -> None:
    """M1 M6: in flat memory; what comes after it is read as usual."""
    bomb = tmp_path / "bomb.gz"
    zeros = gzip.compress(bytes(64 * MEBIBYTE), 1)
    bomb.write_bytes(zeros * 16 + gzip.compress(b"\n" + GOOD_LINE))
    with open_manifest(str(bomb), None) as stream:
        entries, peak = peak_of(iter(ManifestParser(stream)))
    assert [type(entry) for entry in entries] == [Reject, FileInfo]
    assert entries[1].line_no == 2
    assert peak < 4 * MEBIBYTE


def test_m6_a_line_of_100_mb_is_one_reject_in_flat_memory() -> None:
    """M6: though it begins like a good one."""
    pieces = itertools.chain([GOOD_LINE[:-1]], itertools.repeat(b"x" * 4096, 25_600), [b"\n", GOOD_LINE])
    with open_manifest("-", io.BufferedReader(InPieces(pieces, [4096]))) as stream:
        entries, peak = peak_of(iter(ManifestParser(stream)))
    assert [type(entry) for entry in entries] == [Reject, FileInfo]
    assert peak < 6 * MEBIBYTE


@pytest.mark.parametrize("line", [b"x\n", b"\n", b"# note\n"], ids=["rubbish", "blank", "comments"])
def test_m2_what_is_no_manifest_at_all_is_not_read_to_its_end(tmp_path: Path, line: bytes) -> None:
    """M2: who names a film by mistake, or a bomb of empty lines, is told so before it fills the disk."""
    content = io.BytesIO(line * (HOPELESS_LINES + 50_000))
    with Ledger.create(tmp_path / "progress.db") as ledger:
        parser = ManifestParser(content)
        with (
            pytest.raises(ManifestError, match=r"md5sum output|only blank lines"),
            ledger.write() as connection,
        ):
            ManifestLoader(ledger, "film.mkv", Selection()).load(connection, parser)
    assert parser.lines == HOPELESS_LINES


def test_m2_one_good_line_is_reason_enough_to_read_on() -> None:
    """M2: rejects never stop a load that has something to load."""
    parser, _ = parsed(GOOD_LINE + b"x\n" * (HOPELESS_LINES + 1))
    assert parser.lines == HOPELESS_LINES + 2
    assert not parser.is_hopeless


# --- where it comes from


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_m1_a_named_pipe_is_read_like_a_file(tmp_path: Path, packed: bool) -> None:
    """M1: as of a shell's process substitution."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = gzip.compress(GOOD_LINE) if packed else GOOD_LINE
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    with open_manifest(str(pipe), None) as stream:
        assert [entry.line_no for entry in ManifestParser(stream)] == [1]
    writer.join()


def test_m1_standard_input_that_does_not_wait_is_an_error_in_words() -> None:
    """M1: a descriptor that another program has set so gives nothing at once, which is not the end."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    try:
        with (
            os.fdopen(read_end, "rb") as stdin,
            pytest.raises(ManifestError, match="does not wait") as caught,
            open_manifest("-", stdin) as stream,
        ):
            list(ManifestParser(stream))
    finally:
        os.close(write_end)
    assert caught.value.hint


def test_m1_standard_input_that_was_closed_is_an_error_in_words() -> None:
    """M1: whether the process has none, or it was closed later."""
    closed = io.BytesIO()
    closed.close()
    for stdin in (None, closed):
        with pytest.raises(ManifestError, match=r"^Standard input"), open_manifest("-", stdin) as stream:
            list(ManifestParser(stream))


def test_m1_a_file_can_be_loaded_without_any_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M1: as from a service, whose standard input is closed."""
    (tmp_path / "manifest.txt").write_bytes(GOOD_LINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["init", "manifest.txt"]) == ExitCode.DONE
    assert main(["--ledger", "other.db", "init", "-"]) == ExitCode.USAGE
