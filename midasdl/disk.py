"""What the system is asked to do with files, and its errors in our words."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from midasdl.errors import StorageError

FICLONE = 0x40049409
"""Linux's request to share the blocks of a file (ioctl_ficlone(2))."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
MAKE_SPACE = "Make space, then type: midasdl resume"
MOVE_AWAY = "Move it away, then type: midasdl resume"

NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF})
"""How file systems say that they have no fsync of folders; they see to names by themselves."""


def hard_link(source: Path, target: Path) -> None:
    """Give a file a further name; copy it where the file system has no hard links."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno in FULL:
            raise
        copy(source, target)


def reflink(source: Path, target: Path) -> None:
    """Copy a file by sharing its blocks; copy it whole where the file system cannot."""
    if sys.platform == "linux":
        import fcntl  # noqa: PLC0415 - not on every system

        with source.open("rb") as old, target.open("xb") as new, suppress(OSError):
            fcntl.ioctl(new.fileno(), FICLONE, old.fileno())
            keep_time(source, target)
            os.fsync(new.fileno())
            return
        target.unlink()
    copy(source, target)


def copy(source: Path, target: Path) -> None:
    """Copy a file and make the copy durable."""
    with source.open("rb") as old, target.open("xb") as new:
        shutil.copyfileobj(old, new, 1 << 20)
        new.flush()
        keep_time(source, target)
        os.fsync(new.fileno())


def keep_time(source: Path, target: Path) -> None:
    """Give `target` the time of modification of `source`."""
    times = source.stat()
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))


def sync_file(path: Path) -> None:
    """Make the bytes of a file durable that others may have written."""
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: str | Path) -> None:
    """Make the names in a folder durable; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes) -> None:
    """Replace what a file holds, so that it is whole at every moment; a pipe or a device is written to as it stands.

    A link stays, and what it leads to is replaced.

    Raises
    ------
    OSError
        It cannot be written; what stood there stays.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        beside.write_bytes(data)
        beside.replace(target)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the system's errors into ours, once."""
    try:
        yield
    except OSError as error:
        raise as_storage_error(error, path) from error


def as_storage_error(error: OSError, path: Path) -> StorageError:
    """Say what is wrong with the disk, and what helps."""
    named = Path(error.filename) if isinstance(error.filename, str) and not error.filename2 else path
    if error.errno in FULL:
        return StorageError(f"The disk is full: {named} cannot be written.", MAKE_SPACE)
    if error.errno in FORBIDDEN:
        return StorageError(
            f"{named} cannot be written: {error.strerror}.",
            "Check the owner and mode of the data root, then type: midasdl resume",
        )
    if error.errno in {errno.EEXIST, errno.ENOTDIR}:
        return StorageError(f"{in_the_way(named)} is a file where a folder is needed.", MOVE_AWAY)
    if error.errno == errno.EISDIR:
        return StorageError(f"{named} is a folder where a file is needed.", MOVE_AWAY)
    return StorageError(
        f"{named} cannot be used: {error.strerror or error}.", "Repair it, then type: midasdl resume"
    )


def in_the_way(folder: Path) -> Path:
    """What keeps a folder from being made: the first of its ancestors that is no folder."""
    ways = [*reversed(folder.parents), folder]
    return next((way for way in ways if os.path.lexists(way) and not way.is_dir()), folder)
