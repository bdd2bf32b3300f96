"""The local archive: what is there already, and how bytes get there so that a wrong file is never seen.

On disk::

    <data root>/
    ├── data/uk-daily-rain-obs/…        the archive's own paths, whole files only
    └── .midasdl/parts/*.part           bytes that are not published yet; see `midasdl.parts`

A file is written as a part file, flushed to disk, renamed to its final name, and its folder is flushed. Only then
may its task be recorded as done. Whenever a process dies, each final name holds either what it held before or the
whole new file.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import NamedTuple

from midasdl.disk import (
    as_storage_error,
    copy,
    hard_link,
    reflink,
    storage_errors,
    sync_file,
    sync_folder,
)
from midasdl.errors import ConfigurationError
from midasdl.manifest import OWN_FOLDER
from midasdl.parts import Incoming, NotDone, PartFile, PartsFolder
from midasdl.space import Need, free_bytes, lack_of_room, refuse_if, rooms_at

MORE_THAN_A_ROUND = 4 * 1024**3
"""All workers together bring less than this in a round: where so much more is free, nobody needs to look again."""


class Checked(NamedTuple):
    """What is on disk of a task's destinations.

    Attributes
    ----------
    good, missing : tuple of str
        Paths that hold the right bytes, and those that hold none or wrong ones.
    size_bytes : int or None
        None where `good` is empty.
    """

    good: tuple[str, ...]
    missing: tuple[str, ...]
    size_bytes: int | None


class CacheStore:
    """The files below the data root.

    Parameters
    ----------
    root : Path
    duplicates : {"hardlink", "reflink", "copy"}
        How a file comes to its second path and further ones.
    min_free_bytes : int
        What a disk must have left for a file to be begun; 0 demands nothing.
    parts : Path, optional
        Another place for part files, on the same file system.
    folders_at_once : int
        Folders that are made at the same time by `make_folders_of`; 1 leaves each to its first file.

    Notes
    -----
    Concurrency: any number of processes may publish, even to the same path: each rename is atomic and brings the
    same bytes. One `CacheStore` belongs to one thread.
    """

    def __init__(
        self,
        root: Path,
        duplicates: str = "hardlink",
        min_free_bytes: int = 0,
        parts: Path | None = None,
        folders_at_once: int = 1,
    ) -> None:
        self.root = root
        self._root = str(root)
        self._min_free_bytes = min_free_bytes
        self._usual_parts = PartsFolder(root / OWN_FOLDER / "parts")
        self._parts = self._usual_parts if parts is None else PartsFolder(parts / name_for(root))
        self._folders_at_once = folders_at_once
        self._duplicate = {"hardlink": hard_link, "reflink": reflink, "copy": copy}[duplicates]
        self._made: set[str] = set()
        self._made_ahead: set[str] = set()
        self._to_sync: set[str] = set()
        self._roomy: set[str] | None = None
        self._seen_folders: dict[str, bool] = {}

    def prepare(self) -> None:
        """Make the data root and see that it can be written.

        Raises
        ------
        StorageError
        ConfigurationError
            Part files would have another file system than the archive: they could not be published at once.
        """
        self._make_folder(str(self._usual_parts.path))
        self._make_folder(str(self._parts.path))
        if device_of(self._parts.path) != device_of(self._usual_parts.path):
            with suppress(OSError):
                self._parts.path.rmdir()
            raise ConfigurationError(
                f"{self._parts.path.parent} is on another file system than {self.root}: what is whole there could not "
                "be given its name in the archive at once.",
                "Name a folder on the same one in performance.cache.temp_file_directory, or leave it unset.",
            )
        with self.part():
            pass
        self.sync_folders()

    def check(self, paths: Sequence[str], md5: str, trusted_size: int | None = None) -> Checked:
        """Which of a task's destinations hold its bytes already.

        Parameters
        ----------
        trusted_size : int, optional
            A file of this size at the first path is believed unread; those at other paths are read.
        """
        is_trusted = trusted_size is not None and self._has_size(self.root / paths[0], trusted_size)
        first = trusted_size if is_trusted else self._size_if_right(f"{self._root}/{paths[0]}", md5)
        if len(paths) == 1:
            return Checked((), (paths[0],), None) if first is None else Checked((paths[0],), (), first)
        sizes = {paths[0]: first}
        sizes |= {path: self._size_if_right(f"{self._root}/{path}", md5) for path in paths[1:]}
        good = tuple(path for path in paths if sizes[path] is not None)
        missing = tuple(path for path in paths if sizes[path] is None)
        return Checked(good, missing, sizes[good[0]] if good else None)

    def has_no_folder_of(self, paths: Sequence[str]) -> bool:
        """Whether not even the folders of some files are there: a look at each of them can be spared.

        What has been seen of a folder holds until `look_around` is called again.
        """
        return not any(self._has_folder(folder_of(f"{self._root}/{path}")) for path in paths)

    def require_room(self, path: str) -> None:
        """See that the disks that a file comes to are not nearly full, before it is asked for.

        Raises
        ------
        StorageError
        """
        if self._min_free_bytes:
            folder = folder_of(f"{self._root}/{path}")
            if self._roomy is None or folder not in self._roomy:
                self._require_room_at(folder)

    def look_around(self) -> None:
        """See once, for all files until the next call, what earlier attempts have left and where room is plentiful.

        Call it for every round of work, of about a second, and after the claims for it are held.
        """
        self._roomy = set()
        self._seen_folders.clear()
        self._parts.look_around()

    def _has_folder(self, place: str) -> bool:
        there = self._seen_folders.get(place)
        if there is None:
            there = self._seen_folders[place] = may_be_there(place)
        return there

    def _require_room_at(self, folder: str) -> None:
        least = self._min_free_bytes
        free = min(free_bytes(self._parts.path), free_bytes(folder))
        if free >= least + MORE_THAN_A_ROUND and self._roomy is not None:
            self._roomy.add(folder)
        elif free < least:  # or nobody can tell, as of a folder that is still to be made
            refuse_if(lack_of_room(rooms_at([self._parts.path, Path(folder)]), Need(least)))

    def part(self) -> AbstractContextManager[PartFile]:
        """A new part file; removed at the end of the block unless it was renamed by `publish`."""
        return self._parts.part()

    def incoming(self, md5: str, path: str) -> Incoming:
        """The part file of one attempt at one file, with what an earlier attempt left."""
        return Incoming(self._parts, md5, path)

    def publish(self, part: PartFile, paths: Sequence[str], modified_s: float | None = None) -> None:
        """Give the bytes of a whole, checked part file their final names.

        Call `sync_folders` before recording the task as done.

        Raises
        ------
        StorageError

        Notes
        -----
        Crash safety: the bytes are durable before the first name appears; each name appears at once.
        """
        part.flush_to_disk(modified_s)
        first = f"{self._root}/{paths[0]}"
        folder = folder_of(first)
        self._make_folder(folder)
        try:
            self._parts.give_name(part.place, first)
        except OSError as error:
            raise as_storage_error(error, Path(first)) from error
        part.has_its_name = True
        self._to_sync.add(folder)
        if paths[1:]:
            self.place(paths[0], paths[1:])

    def take_in(
        self, source: Path, paths: Sequence[str], md5: str, bring: Callable[[Path, Path], None]
    ) -> int | None:
        """Give a file from elsewhere its final names here, if its bytes are the right ones.

        Call `sync_folders` before recording the task as done.

        Parameters
        ----------
        bring : callable
            Makes the second file from the first: `copy`, `reflink` or `hard_link`.

        Returns
        -------
        int or None
            The size; None where the bytes are others, and nothing has changed.

        Raises
        ------
        StorageError

        Notes
        -----
        Crash safety: it is what was brought that is checked and made durable, before the first name appears.
        """
        first = self.root / paths[0]
        self._make_folder(str(first.parent))
        with storage_errors(first), self._parts.draft() as draft:
            bring(source, draft)
            size = self._size_if_right(str(draft), md5)
            if size is None:
                return None
            sync_file(draft)
            self._parts.give_name(draft, first)
        self._to_sync.add(str(first.parent))
        self.place(paths[0], paths[1:])
        return size

    def complete(self, checked: Checked) -> None:
        """Fill the destinations of a task that lack its bytes from those that have them.

        Whoever put the good ones there may have died before their bytes and names were durable, or never have
        cared: they are seen to as well.
        """
        for path in checked.good:
            folder = folder_of(f"{self._root}/{path}")
            with storage_errors(self.root / path):
                sync_file(self.root / path)
            self._make_folder(folder)
            self._to_sync.add(folder)
        self.place(checked.good[0], checked.missing)

    def place(self, source: str, paths: Sequence[str]) -> None:
        """Put the bytes of a published file at further paths, each atomically."""
        for path in paths:
            target = self.root / path
            self._make_folder(str(target.parent))
            with storage_errors(target), self._parts.draft() as draft:
                self._duplicate(self.root / source, draft)
                self._parts.give_name(draft, target)
            self._to_sync.add(str(target.parent))

    def sync_folders(self) -> None:
        """Make every name that was given since the last call durable."""
        for folder in sorted(self._to_sync):
            try:
                sync_folder(folder)
            except OSError as error:
                raise as_storage_error(error, Path(folder)) from error
        self._to_sync.clear()

    def remove_stale_parts(self) -> int:
        """Remove part files that ended with their process, also from where they are usually; returns how many."""
        return sum(parts.remove_ended() for parts in {self._parts, self._usual_parts})

    def remove_stale_partials(self, not_done: NotDone, now_s: float) -> int:
        """Remove what was kept of bodies that nobody will go on with; returns how many."""
        return sum(parts.remove_stale(not_done, now_s) for parts in {self._parts, self._usual_parts})

    def make_folders_of(self, paths: Sequence[str]) -> None:
        """Make the folders of some files ahead, several at the same time: some disks are slow to answer.

        What cannot be made is left to the file that needs it, which says so.
        """
        if self._folders_at_once <= 1:
            return
        new = {folder_of(f"{self._root}/{path}") for path in paths} - self._made - self._made_ahead
        if len(new) > 1:
            self._made_ahead |= new
            with ThreadPoolExecutor(self._folders_at_once, "folders") as pool:
                list(pool.map(_make_quietly, new))

    def _has_size(self, path: Path, size_bytes: int | None) -> bool:
        """Whether a regular file of a known size stands at a path."""
        if size_bytes is None:
            return False
        try:
            facts = path.stat()
        except OSError:
            return False
        return stat.S_ISREG(facts.st_mode) and facts.st_size == size_bytes

    def _size_if_right(self, place: str, md5: str) -> int | None:
        try:
            with open(place, "rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
                return file.tell() if digest.hexdigest() == md5 else None
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise as_storage_error(error, Path(place)) from error

    def _make_folder(self, place: str) -> None:
        """Make a folder once, and remember that its name and those of its ancestors have to be made durable.

        Inside the root that holds for folders that are there as well: another process may just have made them.
        """
        if place in self._made:
            return
        folder = Path(place)
        with storage_errors(folder):
            names: list[Path] = []
            for ancestor in [folder, *folder.parents]:
                inside = self.root in ancestor.parents
                if str(ancestor) in self._made or (not inside and ancestor.is_dir()):
                    break
                names.append(ancestor)
            folder.mkdir(parents=True, exist_ok=True)
        self._made.update(map(str, names))
        self._to_sync.update(str(name.parent) for name in names)


def name_for(root: Path) -> str:
    """The folder of one archive's part files where several archives may share a place."""
    return "midasdl-" + hashlib.md5(os.fsencode(root.absolute()), usedforsecurity=False).hexdigest()[:12]


def device_of(folder: Path) -> int:
    """The file system of a folder that is there.

    Raises
    ------
    StorageError
    """
    with storage_errors(folder):
        return folder.stat().st_dev


def may_be_there(place: str) -> bool:
    """Whether something stands at a place, or nobody can tell."""
    try:
        os.lstat(place)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _make_quietly(folder: str) -> None:
    with suppress(OSError):
        Path(folder).mkdir(parents=True, exist_ok=True)


def folder_of(place: str) -> str:
    """The folder of a file."""
    return place.rpartition("/")[0]
