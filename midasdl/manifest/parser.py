"""A manifest as a stream: line after line, counted, with never more than some hundreds of them in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from midasdl.errors import ManifestError
from midasdl.manifest.line import MAX_LINE_BYTES, parse_line
from midasdl.manifest.plain import entries_of
from midasdl.manifest.source import MANIFEST_HELP, label_of
from midasdl.models import FileInfo, Reject

HOPELESS_LINES = 100_000
"""Whoever names a film or a disk image instead of a manifest is told so after this many lines."""

PIECE_BYTES = 64 * 1024
"""Read at a time: some hundreds of lines."""

_EXAMPLE = (
    "A line looks like: 50c9d1c465f3cbff652be1509c2e2a4e  ./data/<dataset>/dataset-version-202407/<file>"
)


class ManifestParser:
    """Iterate over the entries of a manifest, once.

    What is hopeless is not read to its end; `require_plausible` then says what it is.

    Parameters
    ----------
    stream : iterable of bytes
        A binary stream, or any iterable of lines. A stream is read in bounded pieces, however long a line is.

    Attributes
    ----------
    lines : int
        Lines read so far, blank ones and comments included.
    rejected, ignored : int
        Those that became a `Reject`, and those that are blank or comments.
    first_reject : Reject or None
        The earliest of the rejects; its reason helps when nothing is usable.
    """

    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = stream
        self.lines = 0
        self.rejected = 0
        self.ignored = 0
        self.first_reject: Reject | None = None
        self._digest = hashlib.md5(usedforsecurity=False)

    @property
    def md5(self) -> str:
        """The md5 of what was read so far; at the end, of the whole manifest (unpacked)."""
        return self._digest.hexdigest()

    @property
    def accepted(self) -> int:
        """Lines that became a `FileInfo` so far."""
        return self.lines - self.rejected - self.ignored

    @property
    def is_hopeless(self) -> bool:
        """Whether so much was read without a single entry that this is something else than a manifest."""
        return self.lines >= HOPELESS_LINES and not self.accepted

    def __iter__(self) -> Iterator[FileInfo | Reject]:
        for piece in _pieces(self._stream, self._digest.update):
            for entry in entries_of(piece, self.lines + 1, parse_line):
                self.lines += 1
                if type(entry) is FileInfo:
                    yield entry
                    continue
                if isinstance(entry, Reject):
                    self.rejected += 1
                    self.first_reject = self.first_reject or entry
                    yield entry
                else:
                    self.ignored += 1
                if self.is_hopeless:
                    return


def require_plausible(
    accepted: int, rejected: int, lines: int, name: str, first_reason: str | None = None
) -> None:
    """Refuse a manifest without a single usable line.

    Parameters
    ----------
    accepted, rejected, lines : int
        The counters of a finished `ManifestParser`.
    name : str
        As it was given to `open_manifest`.
    first_reason : str, optional
        The reason of the first reject.

    Raises
    ------
    ManifestError
        Nothing was accepted.
    """
    if accepted:
        return
    label = label_of(name)
    if not lines:
        raise ManifestError(f"{label} is empty.", MANIFEST_HELP)
    if not rejected:
        raise ManifestError(f"{label} holds only blank lines and comments.", _EXAMPLE)
    what = "its only entry was" if rejected == 1 else f"all {rejected:,} entries were"
    because = f"; the first: {first_reason}" if first_reason else ""
    raise ManifestError(f"{label} does not look like md5sum output: {what} rejected{because}.", _EXAMPLE)


def _pieces(stream: Iterable[bytes], watch: Callable[[bytes], object]) -> Iterator[bytes]:
    """Yield whole lines, some at a time; of one that is too long only the beginning, just enough to be seen as such.

    `watch` sees every byte.
    """
    read: Callable[[int], bytes] | None = getattr(stream, "read", None)
    readline: Callable[[int], bytes] | None = getattr(stream, "readline", None)
    if read is None or readline is None:
        for line in stream:
            watch(line)
            yield line
        return
    for piece in iter(partial(read, PIECE_BYTES), b""):
        whole = piece if piece.endswith(b"\n") else piece + readline(MAX_LINE_BYTES + 1)
        watch(whole)
        yield whole
        if not whole.endswith(b"\n"):
            _skip_the_rest(readline, watch)


def _skip_the_rest(readline: Callable[[int], bytes], watch: Callable[[bytes], object]) -> None:
    """Go to the end of a line that is too long, without keeping it."""
    for rest in iter(partial(readline, MAX_LINE_BYTES + 1), b""):
        watch(rest)
        if rest.endswith(b"\n"):
            return
