"""M1, M2, M6: whatever bytes come, a manifest is read to its end and nothing deceives."""

from __future__ import annotations

import hashlib
import io
import itertools
import posixpath
import unicodedata

from hypothesis import example, given, settings
from hypothesis import strategies as st

from midasdl.manifest import (
    MAX_COMPONENT_BYTES,
    MAX_PATH_BYTES,
    MAX_REJECT_CHARACTERS,
    ManifestParser,
    parse_line,
)
from midasdl.models import FileInfo, Kind, Reject

MD5 = "50c9d1c465f3cbff652be1509c2e2a4e"

SLUGS = st.from_regex(r"[a-z0-9-]{1,12}", fullmatch=True)
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


@st.composite
def known_paths(draw: st.DrawFn) -> str:
    dataset, county, name = draw(SLUGS), draw(SLUGS), draw(SLUGS)
    release = f"{draw(st.integers(0, 999_999)):06d}"
    station = f"{draw(st.integers(0, 99_999)):05d}_{name}"
    qc, year = draw(st.sampled_from("01")), f"{draw(st.integers(0, 9999)):04d}"
    top, prefix = f"data/{dataset}/dataset-version-{release}", f"midas-open_{dataset}_dv-{release}"
    return draw(
        st.sampled_from(
            [
                f"{top}/{county}/{station}/qc-version-{qc}/{prefix}_{county}_{station}_qcv-{qc}_{year}.csv",
                f"{top}/{county}/{station}/{prefix}_{county}_{station}_capability.csv",
                f"{top}/{prefix}_station-metadata.csv",
                f"{top}/{prefix}_change_log.txt",
                f"{top}/change_log_station_files/{prefix}_{county}_{station}_qcv-{qc}_{year}.txt",
            ]
        )
    )


# M1: a stream of md5sum lines


def check_entry(entry: FileInfo | Reject | None) -> None:
    if isinstance(entry, Reject):
        assert entry.reason
        assert len(entry.text) <= MAX_REJECT_CHARACTERS
        assert entry.text.isprintable()
    if isinstance(entry, FileInfo):
        check_path(entry)


def check_path(info: FileInfo) -> None:
    components = info.path.split("/")
    assert posixpath.normpath(info.path) == info.path
    assert not posixpath.isabs(info.path)
    assert not {"", ".", ".."} & set(components)
    assert components[0].lower() != ".midasdl"
    assert components[-1] == info.file_name
    assert max(len(component.encode()) for component in components) <= MAX_COMPONENT_BYTES
    assert len(info.path.encode()) <= MAX_PATH_BYTES
    assert "\\" not in info.path
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in info.path)
    assert len(info.md5) == 32
    assert set(info.md5) <= set("0123456789abcdef")
    assert path_of(info.path) == info.path


@given(st.binary(max_size=400))
def test_m2_arbitrary_bytes_never_raise(raw: bytes) -> None:
    """M2, M6: whatever a line holds, the answer is an entry, a reject or nothing."""
    check_entry(parse_line(raw, 1))


NASTY = st.text(
    alphabet=st.one_of(
        st.sampled_from("./\\-: *#~\t\r\n\0aé\u202e\u2028\ufeff\x7f\x85"), st.characters(codec="utf-8")
    ),
    max_size=60,
)


@given(st.sampled_from(["  ", " ", " *", "\t", "  ./", " *././", ""]), NASTY)
@example("  ", "../" * 3 + "etc/passwd")
@settings(max_examples=400)
def test_m6_no_accepted_path_escapes_or_deceives(separator: str, path: str) -> None:
    """M6: behind a good check sum any text gives a canonical path below the root, or a reject."""
    check_entry(parse_line(f"{MD5}{separator}{path}".encode(), 1))


@given(st.binary(min_size=0, max_size=2_000))
def test_m1_arbitrary_streams_are_read_to_their_end(blob: bytes) -> None:
    """M1, M2: every line of any stream is counted once."""
    parser = ManifestParser(io.BytesIO(blob))
    entries = list(parser)
    assert parser.lines == len(io.BytesIO(blob).readlines())
    assert len(entries) == parser.accepted + parser.rejected


@given(st.lists(known_paths(), min_size=1, max_size=5), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_m2_generated_lines_survive_every_spelling(paths: list[str], end: str, upper: bool) -> None:
    """M2, M4: all spellings of a line of the archive give the same entry, of a known kind."""
    for path, spelling in itertools.product(paths, SPELLINGS.values()):
        md5 = hashlib.md5(path.encode()).hexdigest()
        info = accepted(spelling.format(md5=md5.upper() if upper else md5, path=path) + end)
        assert (info.md5, info.path) == (md5, path)
        assert info.kind is not Kind.OTHER
        assert info == accepted(f"{md5}  ./{path}\n")
        check_path(info)


# Opening
