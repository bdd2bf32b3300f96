"""M1, M2: where the lines of a manifest come from: files, gzip, standard input, and what is none."""

from __future__ import annotations

import gzip
import io
import os
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from midasdl.errors import ExitCode, ManifestError
from midasdl.manifest import (
    ManifestParser,
    open_manifest,
    parse_line,
    require_plausible,
)
from midasdl.models import FileInfo, Reject

MD5 = "50c9d1c465f3cbff652be1509c2e2a4e"
TOP = "data/uk-daily-rain-obs/dataset-version-202407"
STATION = f"{TOP}/devon/01381_twist"
PREFIX = "midas-open_uk-daily-rain-obs_dv-202407"
DATA = f"{STATION}/qc-version-1/{PREFIX}_devon_01381_twist_qcv-1_1992.csv"
CAPABILITY = f"{STATION}/{PREFIX}_devon_01381_twist_capability.csv"


def accepted(line: str | bytes, line_no: int = 1) -> FileInfo:
    raw = line.encode() if isinstance(line, str) else line
    entry = parse_line(raw, line_no)
    assert isinstance(entry, FileInfo), entry
    return entry


def entries_of(name: str, stdin: bytes = b"") -> list[FileInfo | Reject]:
    with open_manifest(name, io.BytesIO(stdin)) as stream:
        return list(ManifestParser(stream))


LINES = f"{MD5}  ./{DATA}\n{MD5}  ./{CAPABILITY}\n".encode()


@pytest.mark.parametrize("name", ["manifest.txt", "manifest.gz"], ids=["honest", "misleading"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_m1_gzip_is_known_by_its_bytes(tmp_path: Path, name: str, packed: bool) -> None:
    """M1: the first bytes count, not the name."""
    path = tmp_path / name
    path.write_bytes(gzip.compress(LINES) if packed else LINES)
    assert [entry.line_no for entry in entries_of(str(path))] == [1, 2]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_m1_standard_input_is_read_and_left_open(packed: bool) -> None:
    """M1: `-` reads standard input, which belongs to the caller."""
    stdin = io.BytesIO(gzip.compress(LINES) if packed else LINES)
    with open_manifest("-", stdin) as stream:
        assert len(list(ManifestParser(stream))) == 2
    assert not stdin.closed


def test_m1_a_pipe_that_gives_one_byte_is_recognised() -> None:
    """M1: gzip is recognised though the first read of a pipe gives a single byte."""
    packed = gzip.compress(LINES)
    read_end, write_end = os.pipe()
    os.write(write_end, packed[:1])
    with os.fdopen(read_end, "rb") as stdin:
        stdin.peek(1)
        os.write(write_end, packed[1:])
        os.close(write_end)
        with open_manifest("-", stdin) as stream:
            assert len(list(ManifestParser(stream))) == 2


def test_m1_gzip_files_put_one_after_the_other_are_one_manifest(tmp_path: Path) -> None:
    """M1: `cat a.gz b.gz` works as it does with gzip."""
    path = tmp_path / "both.gz"
    path.write_bytes(gzip.compress(LINES) + gzip.compress(LINES))
    assert len(entries_of(str(path))) == 4


@pytest.mark.parametrize("content", [b"", b"\n"], ids=["nothing", "newline"])
def test_m1_an_almost_empty_file_opens(tmp_path: Path, content: bytes) -> None:
    """M1: emptiness is judged at the end, by `require_plausible`."""
    path = tmp_path / "manifest.txt"
    path.write_bytes(content)
    assert entries_of(str(path)) == []


def test_m1_a_missing_file_is_named(tmp_path: Path) -> None:
    """M1: the message names the file and the hint a command."""
    with pytest.raises(ManifestError, match=r"There is no manifest '.*nowhere\.txt'") as caught:
        entries_of(str(tmp_path / "nowhere.txt"))
    assert caught.value.hint is not None
    assert "midas-open-v<YYYYMM>-md5s.txt" in caught.value.hint
    assert caught.value.exit_code == ExitCode.USAGE


def test_m1_a_folder_is_not_a_manifest(tmp_path: Path) -> None:
    """M1: a folder is refused as such."""
    with pytest.raises(ManifestError, match="is a folder"):
        entries_of(str(tmp_path))


def test_m1_a_forbidden_file_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """M1: missing permission is said in words."""

    def forbid(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbid)
    with pytest.raises(ManifestError, match=r"'secret\.txt' cannot be read: Permission denied"):
        entries_of("secret.txt")


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000], ids=["nul", "too-long"])
def test_m1_an_impossible_name_is_unreadable(name: str) -> None:
    """M1: a name that no file can have gives a sentence, not a traceback."""
    with pytest.raises(ManifestError, match="cannot be read"):
        entries_of(name)


class FailingDisk(io.RawIOBase):
    """A disk that gives a line and then fails."""

    def __init__(self) -> None:
        self._content = LINES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        if not self._content:
            raise OSError(5, "Input/output error")
        target = memoryview(buffer)  # type: ignore[arg-type]
        piece, self._content = self._content[: len(target)], self._content[len(target) :]
        target[: len(piece)] = piece
        return len(piece)


def test_m1_a_failing_disk_is_an_error_of_the_manifest() -> None:
    """M1: reading errors half-way are told as such, never as the end of the manifest."""
    with (
        open_manifest("-", io.BufferedReader(FailingDisk(), 16)) as stream,
        pytest.raises(ManifestError, match="Standard input cannot be read: Input/output error"),
    ):
        list(ManifestParser(stream))


def damaged(packed: bytes) -> bytes:
    return packed[:-8] + bytes(byte ^ 0xFF for byte in packed[-8:])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(gzip.compress(LINES)[:-12], "ends in the middle", id="cut"),
        pytest.param(gzip.compress(LINES)[:5], "ends in the middle", id="cut-in-header"),
        pytest.param(damaged(gzip.compress(LINES)), "damaged gzip data", id="wrong-sum"),
        pytest.param(gzip.compress(LINES)[:10] + b"\xff" * 50, "damaged gzip data", id="wrong-bytes"),
        pytest.param(gzip.compress(LINES) + b"tail", "damaged gzip data", id="rubbish-behind"),
    ],
)
def test_m1_damaged_gzip_is_never_a_shorter_manifest(tmp_path: Path, content: bytes, message: str) -> None:
    """M1: a cut or damaged file is an error, though its beginning can be read."""
    path = tmp_path / "manifest.gz"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=message) as caught:
        entries_of(str(path))
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_m1_a_gzip_bomb_stays_small(tmp_path: Path) -> None:
    """M1: 64 MiB of zeros in a small gzip file is one reject in bounded memory."""
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"\0" * 64 * 1024 * 1024, 1))
    tracemalloc.start()
    try:
        entries = entries_of(str(path))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [type(entry) for entry in entries] == [Reject]
    assert peak_bytes < 8 * 1024 * 1024


def zipped() -> bytes:
    blob = io.BytesIO()
    with zipfile.ZipFile(blob, "w") as archive:
        archive.writestr("manifest.txt", LINES)
    return blob.getvalue()


def test_m1_another_packing_is_named(tmp_path: Path) -> None:
    """M1: a zip file is refused by its name, not as thousands of bad lines."""
    path = tmp_path / "manifest.txt"
    path.write_bytes(zipped())
    with pytest.raises(ManifestError, match="packed with zip"):
        entries_of(str(path))


def plausible(content: bytes, name: str = "m.txt") -> None:
    parser = ManifestParser(io.BytesIO(content))
    for _ in parser:
        pass
    reason = parser.first_reject and parser.first_reject.reason
    require_plausible(parser.accepted, parser.rejected, parser.lines, name, reason)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "'m.txt' is empty.", id="empty"),
        pytest.param(b"\n# a\n", "'m.txt' holds only blank lines and comments.", id="comments"),
        pytest.param(
            b"\x7fELF\x01\n\x00\x02\n", "does not look like md5sum output: all 2 entries", id="binary"
        ),
        pytest.param(b"rubbish\n", "its only entry was rejected", id="single"),
        pytest.param(f"{MD5}  a\n".encode("utf-16"), "the first: the text is UTF-16", id="utf-16"),
        pytest.param(b"<!DOCTYPE html>\n<html>\n", "the first: the line is HTML", id="sign-in-page"),
    ],
)
def test_m2_a_manifest_without_entries_is_refused(content: bytes, message: str) -> None:
    """M2: not a single usable line is an error that says what was found."""
    with pytest.raises(ManifestError) as caught:
        plausible(content)
    assert message in caught.value.message
    assert caught.value.hint


def test_m2_the_hint_shows_a_line_that_would_be_accepted() -> None:
    """M2: the example of the hint is itself a good line."""
    with pytest.raises(ManifestError) as caught:
        plausible(b"rubbish\n")
    assert caught.value.hint is not None
    assert accepted(caught.value.hint.removeprefix("A line looks like: ")).path


def test_m2_standard_input_is_called_so() -> None:
    """M2: `-` never appears as a file name."""
    with pytest.raises(ManifestError, match=r"^Standard input is empty\.$"):
        plausible(b"", "-")


def test_m2_one_good_line_is_enough() -> None:
    """M2: rejects never stop a load that has something to load."""
    plausible(b"rubbish\n" * 5 + f"{MD5}  a\n".encode())
