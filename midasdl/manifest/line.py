"""One line of a manifest: what it says, or why it cannot be used.

No line raises an error. An accepted path is canonical: relative, ``/`` between components, a single spelling, free
of control and invisible characters, and short enough for the usual file systems.
"""

from __future__ import annotations

import re
import unicodedata

from midasdl.models import FileInfo, Kind, Reject

MAX_LINE_BYTES = 64 * 1024
"""Longer lines are rejected; their rest is skipped without being kept."""
MAX_PATH_BYTES = 3072
"""Leaves a quarter of Linux's 4096 bytes to the data root, in front of which every path will stand."""
MAX_COMPONENT_BYTES = 255
MAX_REJECT_CHARACTERS = 500
OWN_FOLDER = ".midasdl"
"""midasdl keeps part files there, in the data root; no file of the archive may lie inside."""

_BOM = b"\xef\xbb\xbf"
_SLUG = "[a-z0-9-]+"
# The file name says what a file is and `_recognise` asks the folders to agree. Only slugs, digits and fixed
# words pass both, so that such a line needs none of the checks for hostile paths.
_KNOWN_LINE = re.compile(
    r"([0-9a-f]{32})  (?:\./)?(.*/)"
    rf"(midas-open_({_SLUG})_dv-([0-9]{{6}})_"
    rf"(?:({_SLUG})_([0-9]{{5}})_({_SLUG})_(?:qcv-([01])_([0-9]{{4}})\.(csv|txt)|capability\.csv)"
    r"|(station-metadata\.csv|change_log\.txt)))\r?\n?"
)
_ANY_LINE = re.compile(rb"([0-9A-Fa-f]{32})(?:  | \*| |\t)(?:\./)*(.*)", re.DOTALL)
_TOO_LONG = f"the line is longer than {MAX_LINE_BYTES} bytes"
_LINE_FAULTS = {
    re.compile(rb"\xff\xfe|\xfe\xff"): "the text is UTF-16, not UTF-8",
    re.compile(rb"\\"): "md5sum has escaped the name: it holds a newline, a carriage return or a backslash",
    re.compile(rb"\s*<"): "the line is HTML, as of a sign-in page",
    re.compile(rb"[0-9A-Fa-f]{32}\Z"): "there is no path after the md5 sum",
    re.compile(rb"[0-9A-Fa-f]{33,}(?:\s|\Z)"): "the check sum is longer than an md5 sum (32 digits)",
    re.compile(rb""): "the line does not begin with an md5 sum (32 hexadecimal digits) and a space",
}
_DRIVE_LETTER = re.compile(r"[A-Za-z]:")
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Zl", "Zp"})
_FORBIDDEN_COMPONENTS = {
    "..": "the path climbs out of its folder with '..'",
    "": "the path has an empty component ('//') or one of blanks",
    ".": "the path has a component '.'",
}


def parse_line(raw: bytes, line_no: int) -> FileInfo | Reject | None:
    """Understand one line of a manifest.

    Parameters
    ----------
    raw : bytes
        The line, with or without its line end.
    line_no : int
        Where it stands, counted from 1.

    Returns
    -------
    FileInfo or Reject or None
        None for a blank line or a comment. Never raises, whatever `raw` is.
    """
    try:
        known = _KNOWN_LINE.fullmatch(raw.decode())
    except UnicodeDecodeError:
        known = None
    info = None if known is None else _recognise(known, line_no)
    return info or _parse_unusual(raw, line_no)


def parse_path(path: str) -> FileInfo | None:
    """What a path of the ledger says of its file; None where it is no path that a manifest could have."""
    info = parse_line(f"{'0' * 32}  {path}".encode(errors="replace"), 0)
    return info if isinstance(info, FileInfo) else None


def _recognise(line: re.Match[str], line_no: int) -> FileInfo | None:
    """Fill the fields from the file name, if the folders say the same and the name is not too long."""
    md5, folder, file_name, dataset, release, county, station_id, name, qc, year, form, top = line.groups()
    root = f"data/{dataset}/dataset-version-{release}/"
    if form == "csv":
        kind, expected = Kind.DATA, f"{root}{county}/{station_id}_{name}/qc-version-{qc}/"
    elif form == "txt":
        kind, expected = Kind.STATION_LOG, f"{root}change_log_station_files/"
    elif top is None:
        kind, expected = Kind.CAPABILITY, f"{root}{county}/{station_id}_{name}/"
    else:
        kind, expected = (Kind.STATION_METADATA if top.endswith("csv") else Kind.CHANGE_LOG), root
    if folder != expected or len(file_name) > MAX_COMPONENT_BYTES:
        return None
    path = folder + file_name
    qc_no = None if qc is None else int(qc)
    year_no = None if year is None else int(year)
    return FileInfo(
        md5, path, file_name, dataset, release, qc_no, county, station_id, name, year_no, kind, line_no
    )


def _parse_unusual(raw: bytes, line_no: int) -> FileInfo | Reject | None:
    """Understand a line in one of the rarer spellings, or say why it cannot be used."""
    line = raw.removeprefix(_BOM).rstrip(b"\r\n")
    too_long = len(raw) > MAX_LINE_BYTES
    if line.lstrip().startswith(b"#") or not (too_long or line.strip()):
        return None
    parts = None if too_long else _ANY_LINE.fullmatch(line)
    if parts is None:
        fault = next(fault for shape, fault in _LINE_FAULTS.items() if shape.match(line))
        return _reject(line, line_no, _TOO_LONG if too_long else fault)
    try:
        path = parts[2].decode()
    except UnicodeDecodeError:
        return _reject(line, line_no, "the path is not UTF-8 text")
    path_fault = _place_fault(path) or _character_fault(path) or _component_fault(path)
    if path_fault is not None:
        return _reject(line, line_no, path_fault)
    md5 = parts[1].decode().lower()
    known = _KNOWN_LINE.fullmatch(f"{md5}  {path}")
    info = None if known is None else _recognise(known, line_no)
    unknown = (None,) * 7
    return info or FileInfo(md5, path, path.rpartition("/")[2], *unknown, Kind.OTHER, line_no)


def _place_fault(path: str) -> str | None:
    """Say why a path as a whole cannot lie below the data root."""
    if not path:
        return "the path is empty"
    if path.startswith("/"):
        return "the path is absolute"
    if path.endswith("/"):
        return "the path ends with a slash: a folder, not a file"
    if _DRIVE_LETTER.match(path):
        return "the path begins with a drive letter"
    if len(path.encode()) > MAX_PATH_BYTES:
        return f"the path is longer than {MAX_PATH_BYTES} bytes"
    return None


def _character_fault(path: str) -> str | None:
    """Say which character of a path is forbidden."""
    if "\0" in path:
        return "the path contains a NUL"
    if "\\" in path:
        return "the path contains a backslash"
    if path.isprintable():
        return None
    for character in path:
        if unicodedata.category(character) in _FORBIDDEN_CATEGORIES:
            return f"the path contains the control or invisible character U+{ord(character):04X}"
    return None


def _component_fault(path: str) -> str | None:
    """Say which component of a path is forbidden or too long.

    Names are looked at as systems and people see them that mind neither case, nor how a character is composed, nor
    blanks at the ends: ``.. `` climbs on Windows, and dots may be written with other characters than dots.
    """
    looks_like = unicodedata.normalize("NFKC", path).split("/")
    if looks_like[0].casefold().rstrip(". ") == OWN_FOLDER:
        return f"the path lies in {OWN_FOLDER}, midasdl's own folder"
    for component in looks_like:
        fault = _FORBIDDEN_COMPONENTS.get(component.strip(" "))
        if fault is not None:
            return fault
    if max(len(component.encode()) for component in path.split("/")) > MAX_COMPONENT_BYTES:
        return f"a component of the path is longer than {MAX_COMPONENT_BYTES} bytes"
    return None


def _reject(line: bytes, line_no: int, reason: str) -> Reject:
    """Keep a bounded part of a line in a form that any terminal can show."""
    text = line[: 4 * MAX_REJECT_CHARACTERS].decode(errors="replace")[:MAX_REJECT_CHARACTERS]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return Reject(line_no, text[:MAX_REJECT_CHARACTERS], reason)
