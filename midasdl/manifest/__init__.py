"""Read a manifest: `md5sum` output, line by line, as a stream.

Every line becomes a `FileInfo`, a `Reject` with a reason, or nothing (blank lines and comments).

::

    source    opening a file, a pipe or standard input; gzip
    line      one line, and which paths are accepted
    plain     lines in the usual spelling, many at a time
    parser    ManifestParser: all lines, counted
    folders   what several lines say together: a path that is also a folder
"""

from midasdl.manifest.folders import folder_conflicts
from midasdl.manifest.line import (
    MAX_COMPONENT_BYTES,
    MAX_LINE_BYTES,
    MAX_PATH_BYTES,
    MAX_REJECT_CHARACTERS,
    OWN_FOLDER,
    parse_line,
)
from midasdl.manifest.parser import ManifestParser, require_plausible
from midasdl.manifest.source import MANIFEST_HELP, open_manifest

__all__ = [
    "MANIFEST_HELP",
    "MAX_COMPONENT_BYTES",
    "MAX_LINE_BYTES",
    "MAX_PATH_BYTES",
    "MAX_REJECT_CHARACTERS",
    "OWN_FOLDER",
    "ManifestParser",
    "folder_conflicts",
    "open_manifest",
    "parse_line",
    "require_plausible",
]
