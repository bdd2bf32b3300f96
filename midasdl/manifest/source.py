"""Where a manifest comes from: a file, a pipe or standard input, as it is or packed with gzip."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from midasdl.errors import ManifestError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MANIFEST_HELP = (
    "A manifest is the file midas-open-v<YYYYMM>-md5s.txt of a release. Get one with: midasdl manifest fetch; or get "
    "and load the newest with: midasdl init latest"
)
"""Where to find what is missing."""

_BUFFER_BYTES = 256 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_OTHER_PACKERS = {b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd"}
_HEAD_BYTES = max(map(len, _OTHER_PACKERS))


@contextmanager
def open_manifest(name: str, stdin: BinaryIO | None) -> Iterator[BinaryIO]:
    """Open a manifest for reading; gzip is recognised by its first bytes and unpacked on the way.

    Parameters
    ----------
    name : str
        A file, or ``-`` for `stdin`, which is left open at the end.
    stdin : BinaryIO or None
        The binary standard input; None where the process has none.

    Raises
    ------
    ManifestError
        The file is missing, a folder, unreadable, packed in another way, or its gzip data are damaged. Damage
        shows only when it is reached: the read raises then, after earlier lines were handed out.
    """
    if name == "-" and stdin is None:
        raise ManifestError("Standard input is closed.", "Name a file, or pipe one in: midasdl init - < FILE")
    if name == "-" and stdin is not None:
        yield _unpacked(stdin, label_of(name))
        return
    with _open_file(name) as file:
        yield _unpacked(file, label_of(name))


class _Source(io.RawIOBase):
    """Bytes read earlier followed by the rest of a stream, with every failure told as a `ManifestError`."""

    def __init__(self, label: str, head: bytes, rest: BinaryIO | gzip.GzipFile) -> None:
        self._label = label
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        target = memoryview(buffer)
        piece = self._head[: len(target)] or self._read(len(target))
        self._head = self._head[len(target) :]
        target[: len(piece)] = piece
        return len(piece)

    def _read(self, size: int) -> bytes:
        hint = "Copy or download it again, or look at it with: gzip -t"
        try:
            piece: bytes | None = self._rest.read(size)
        except EOFError as error:
            raise ManifestError(f"{self._label} ends in the middle of its gzip data.", hint) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise ManifestError(f"{self._label} holds damaged gzip data ({error}).", hint) from error
        except (OSError, ValueError) as error:
            raise _unreadable(self._label, error) from error
        if piece is None:
            raise ManifestError(f"{self._label} does not wait for its data.", "Pipe it through: cat")
        return piece


def _unpacked(stream: BinaryIO, label: str) -> BinaryIO:
    """Wrap a stream so that reads give plain text, whether it is packed with gzip or not."""
    head = _Source(label, b"", stream).read(_HEAD_BYTES) or b""
    for magic, packer in _OTHER_PACKERS.items():
        if head.startswith(magic):
            raise ManifestError(
                f"{label} is packed with {packer}; midasdl reads plain text and gzip.", "Unpack it first."
            )
    plain = io.BufferedReader(_Source(label, head, stream), _BUFFER_BYTES)
    if not head.startswith(_GZIP_MAGIC):
        return plain
    unpacker = gzip.GzipFile(fileobj=plain, mode="rb")
    return io.BufferedReader(_Source(label, b"", unpacker), _BUFFER_BYTES)


def _open_file(name: str) -> BinaryIO:
    label = label_of(name)
    try:
        return Path(name).open("rb")
    except FileNotFoundError as error:
        raise ManifestError(f"There is no manifest {label}.", MANIFEST_HELP) from error
    except IsADirectoryError as error:
        raise ManifestError(f"{label} is a folder, not a manifest.", "Name a file inside it.") from error
    except (OSError, ValueError) as error:
        raise _unreadable(label, error) from error


def _unreadable(label: str, error: Exception) -> ManifestError:
    reason = getattr(error, "strerror", None) or str(error)
    return ManifestError(f"{label} cannot be read: {reason}.", "Check the path and its permissions.")


def label_of(name: str) -> str:
    """What messages call a manifest."""
    return "Standard input" if name == "-" else f"'{name}'"
