"""Part files: bytes that are not published yet, whose they are, and what a later attempt may go on with.

On disk::

    <data root>/.midasdl/parts/
    ├── <host>~<pid>~<start>~<n>.part                            one attempt's; worth nothing when its process is gone
    ├── <host>~<pid>~<start>~<n>~<md5>~<path>~<validator>.part   one attempt's; worth going on with
    └── <md5>~<path>~<validator>.part                            a partial: nobody's until somebody goes on with it

Where a linked folder leads to another file system, a whole file is copied there under a hidden name and renamed. While
that lasts, a symbolic link among the part files leads to the copy, so that it is found when its process has died.

All that it takes to go on stands in the name. A name and its bytes come, go and change hands together, whenever a
process dies: there is no note beside them that could be torn or be another file's, and who renames a partial has it.
The bytes are not trusted: the md5 is taken over all of them, those of earlier attempts too.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from midasdl.ceda.ranges import Held, Sink
from midasdl.disk import as_storage_error, copy, sync_folder
from midasdl.errors import StorageError
from midasdl.identity import ProcessIdentity
from midasdl.part_names import (
    SUFFIX,
    Beginning,
    PartName,
    is_stale,
    mark_of,
    may_have_a_beginning,
    read_name,
    whose,
)

OVERLAP_BYTES = 1
"""Asked for again, so that a partial that is whole already is not asked for beyond its end."""

AS_IT_IS = getattr(os, "O_BINARY", 0)
"""Without it, Windows changes what is written."""

NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | AS_IT_IS
MODE = 0o666
CLOSED = -1

NotDone = Callable[[Collection[str]], Collection[str]]
"""Of some md5s, those whose tasks are not done."""


class PartFile(Sink):
    """Bytes on their way.

    Attributes
    ----------
    has_its_name : bool
        Whether they have arrived: under this one nothing is left.
    """

    def __init__(self, place: str, descriptor: int) -> None:
        self.place = place
        self.has_its_name = False
        self._descriptor = descriptor

    @property
    def path(self) -> Path:
        """Where it is."""
        return Path(self.place)

    def write(self, chunk: bytes | memoryview, /) -> None:
        """Append bytes."""
        try:
            written = os.write(self._descriptor, chunk)
            while written < len(chunk):  # a disk that becomes full takes a part of it without complaint
                written += os.write(self._descriptor, memoryview(chunk)[written:])
        except OSError as error:
            raise as_storage_error(error, self.path) from error

    def flush_to_disk(self, modified_s: float | None) -> None:
        """Make the bytes durable, with their time of modification."""
        try:
            if modified_s is not None:
                os.utime(self._descriptor, (modified_s, modified_s))
            os.fsync(self._descriptor)
        except OSError as error:
            raise as_storage_error(error, self.path) from error

    def size_bytes(self) -> int:
        """How much has come."""
        return os.fstat(self._descriptor).st_size

    def hold(self, validator: str) -> Held | None:
        """Take what is there for the beginning of a body; None if it is too little to be worth it."""
        size_bytes = self.size_bytes() - OVERLAP_BYTES
        if size_bytes <= 0:
            return None
        os.ftruncate(self._descriptor, size_bytes)
        with open(self._descriptor, "rb", buffering=0, closefd=False) as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        return Held(size_bytes, validator, digest)

    def close(self) -> None:
        """Write no more."""
        descriptor, self._descriptor = self._descriptor, CLOSED
        if descriptor != CLOSED:
            os.close(descriptor)


class Incoming(Sink):
    """What one attempt brings of one file, added to what an earlier one left.

    Parameters
    ----------
    parts : PartsFolder
    md5, path : str
        Of the file, as the manifest has them.
    """

    def __init__(self, parts: PartsFolder, md5: str, path: str) -> None:
        self.held = None
        self._parts = parts
        self._md5 = md5
        self._path = path
        self._part: PartFile | None = None
        self._left: dict[Path, Beginning] = {}

    def take_over(self, found: Path, beginning: Beginning) -> bool:
        """Go on with a partial if it is of this path and nobody else was quicker; True if it was."""
        if beginning.path_mark != mark_of(self._path):
            return False
        mine = self._parts.new_path(beginning)
        try:
            found.rename(mine)
            self._part = PartFile(str(mine), os.open(mine, os.O_RDWR | AS_IT_IS))
            self.held = self._part.hold(beginning.validator)
        except OSError:  # it is gone, or cannot be read; the file can be had from its first byte
            remove(mine)
        if self.held is None:
            self.drop()
        return self.held is not None

    def __enter__(self) -> Self:
        """Go on with what an earlier attempt left, where there is any."""
        self._left = self._parts.left_of(self._md5)
        for found, beginning in self._left.items():
            if self.take_over(found, beginning):
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """If all went well the file has been published, and every other beginning of it goes.

        If not, what has come is kept where it can be gone on with, but not on a disk that has failed: that may need
        the space.
        """
        if error is not None and not isinstance(error, StorageError):
            self.keep()
            return
        self.drop()
        if error is None:
            for found in self._left:
                remove(found)

    def begin(self, validator: str | None) -> None:
        """Start from the first byte; nothing stays of what was held."""
        self.drop()
        beginning = Beginning(self._md5, mark_of(self._path), validator) if validator else None
        self._part = self._parts.create(beginning)

    def write(self, chunk: bytes, /) -> None:
        """Append to what is held or was begun."""
        self._open().write(chunk)

    def whole(self, content: bytes | memoryview | None) -> PartFile:
        """The part file with the whole body; `content` is given where the body came in memory."""
        if content is not None:
            if self._part is not None:
                self.drop()
            self._part = self._parts.create()
            self._part.write(content)
            return self._part
        return self._open()

    def drop(self) -> None:
        """Remove what is there, unless it was published."""
        part, self._part, self.held = self._part, None, None
        if part is not None:
            part.close()
            if not part.has_its_name:
                remove(part.path)

    def keep(self) -> None:
        """Leave what is there to whoever tries next, if it can be gone on with."""
        part = self._part
        name = None if part is None else read_name(part.path.name)
        if part is None or name is None or name.beginning is None or part.size_bytes() <= OVERLAP_BYTES:
            self.drop()
            return
        self._part = None
        part.close()
        with suppress(OSError):
            part.path.replace(part.path.with_name(PartName(None, 0, name.beginning).text()))

    def _open(self) -> PartFile:
        if self._part is None:
            self._part = self._parts.create()
        return self._part


class PartsFolder:
    """The folder of all part files below one data root.

    Notes
    -----
    Concurrency: any number of processes may use it; each file in it has one owner at most.
    """

    _numbers = count()
    """Of the part files of this process, whoever makes them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = str(path)
        self._mine = ""
        self._seen: list[str] | None = None

    @contextmanager
    def part(self) -> Iterator[PartFile]:
        """A new part file; removed at the end of the block unless it was renamed.

        Its mode is what the umask leaves of 0666, as for any file of the user's.
        """
        part = self.create()
        try:
            yield part
        finally:
            part.close()
            remove(part.path)

    def look_around(self) -> None:
        """See once what others have left, for all attempts until the next call.

        What is left later belongs to tasks that whoever calls this does not hold.
        """
        self._seen = self._beginnings()

    def create(self, beginning: Beginning | None = None) -> PartFile:
        """A new part file; where no name can hold its beginning, one that ends with its attempt."""
        place = self._new_place(beginning)
        try:
            return PartFile(place, os.open(place, NEW_FILE, MODE))
        except OSError as error:
            if beginning is None or error.errno != errno.ENAMETOOLONG:
                raise as_storage_error(error, Path(place)) from error
        return self.create()

    def new_path(self, beginning: Beginning | None = None) -> Path:
        """A name that tells whose it is, so that others can see when its owner is gone."""
        return Path(self._new_place(beginning))

    def _new_place(self, beginning: Beginning | None) -> str:
        if beginning is None and self._mine:
            return f"{self._mine}{next(self._numbers)}{SUFFIX}"
        owner = ProcessIdentity.current()
        self._mine = f"{self._folder}/{whose(owner)}~"
        return f"{self._folder}/{PartName(owner, next(self._numbers), beginning).text()}"

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A name for bytes that somebody else brings; at the end of the block nothing has it any more."""
        path = self.new_path()
        try:
            yield path
        finally:
            remove(path)

    def give_name(self, source: str | Path, target: str | Path) -> None:
        """Replace `target` by a whole part file atomically, also where a linked folder leads elsewhere."""
        try:
            os.replace(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._give_name_elsewhere(Path(source), Path(target))

    def _give_name_elsewhere(self, source: Path, target: Path) -> None:
        with self.draft() as trail:
            nearby = target.with_name(f".{trail.name}")
            with suppress(OSError):  # a file system without links is good enough until somebody dies
                trail.symlink_to(nearby.absolute())
                sync_folder(self.path)
            try:
                copy(source, nearby)
                nearby.replace(target)
            finally:
                remove(nearby)
        remove(source)

    def remove_ended(self) -> int:
        """Remove the part files that ended with their process; returns how many."""
        return sum(remove(path) for path, name in self._names() if name.is_free and name.beginning is None)

    def remove_stale(self, not_done: NotDone, now_s: float) -> int:
        """Remove the partials that nobody will go on with; returns how many.

        Parameters
        ----------
        not_done : callable
            Of some md5s, those whose tasks are not done; asked only if there are partials.
        now_s : float
            Seconds since 1970.
        """
        kept = [(path, name, name.beginning.md5) for path, name in self._names() if name.beginning]
        still_wanted = not_done([md5 for _, _, md5 in kept]) if kept else ()
        return sum(
            remove(path)
            for path, name, md5 in kept
            if is_stale(md5, name.is_free, age_s(path, now_s), still_wanted)
        )

    def left_of(self, md5: str) -> dict[Path, Beginning]:
        """The beginnings of a file that nobody is writing."""
        seen = self._beginnings() if self._seen is None else self._seen
        if not seen:
            return {}
        names = {self.path / text: name for text in seen if md5 in text and (name := read_name(text))}
        return {
            path: name.beginning
            for path, name in names.items()
            if name.beginning and name.beginning.md5 == md5 and name.is_free
        }

    def _beginnings(self) -> list[str]:
        """The names of all part files that may be worth going on with."""
        try:
            return [text for text in os.listdir(self._folder) if may_have_a_beginning(text)]
        except FileNotFoundError:
            return []

    def _names(self) -> Iterator[tuple[Path, PartName]]:
        """The part files that are there."""
        for path in self.path.glob(f"*{SUFFIX}"):
            name = read_name(path.name)
            if name is not None:
                yield path, name


def age_s(path: Path, now_s: float) -> float:
    """How long ago a file was written; 0 for one that is gone."""
    try:
        return now_s - path.stat().st_mtime
    except OSError:
        return 0.0


def remove(path: Path) -> bool:
    """Remove a part file and what it leads to; it may be gone already, or beyond reach. Whether it was removed."""
    try:
        if path.is_symlink() and (elsewhere := path.readlink()).name == f".{path.name}":
            elsewhere.unlink(missing_ok=True)
        path.unlink()
    except OSError:
        return False
    return True
