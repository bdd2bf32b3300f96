"""The listing of a folder as ``data.ceda.ac.uk/<dir>?json`` gives it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

Item = dict[str, object]
FILESET = "spot-midas-open"


class Md5Cache:
    """The md5 of files, computed when it is first asked for and again when the file has changed.

    Concurrency: may be called from any thread; two of them may compute the same value at the same time.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, int], str]] = {}

    def of(self, place: Path) -> str:
        """Return 32 lower-case hexadecimal digits."""
        status = place.stat()
        version = (status.st_mtime_ns, status.st_size)
        known = self._known.get(str(place))
        if known is not None and known[0] == version:
            return known[1]
        with place.open("rb") as stream:
            digest = hashlib.file_digest(stream, "md5").hexdigest()
        self._known[str(place)] = (version, digest)
        return digest


class Listing:
    """Describes folders.

    Parameters
    ----------
    download_url : callable
        From an archive path to the URL that downloads it.
    """

    def __init__(self, download_url: Callable[[str], str]) -> None:
        self._download_url = download_url
        self._md5 = Md5Cache()

    def describe(self, folder: Path, path: str) -> dict[str, object]:
        """Return the JSON of a folder whose archive path is `path`: its items, sorted by name."""
        path = "/" + path.strip("/")
        return {
            "path": path,
            "items": [self._item(folder / name, f"{path}/{name}") for name in names_in(folder)],
        }

    def _item(self, place: Path, path: str) -> Item:
        if place.is_symlink():
            return {"path": path, "name": place.name, "location": ["on_disk"], "type": "link"}
        if place.is_dir():
            return {"path": path, "name": place.name, "location": [None], "type": "dir"}
        status = place.stat()
        modified = datetime.fromtimestamp(status.st_mtime, UTC).replace(tzinfo=None).isoformat()
        return {
            "ext": place.suffix,
            "path": path,
            "size": status.st_size,
            "name": place.name,
            "location": ["on_disk"],
            "type": "file",
            "fileset": FILESET,
            "directory": path.rpartition("/")[0],
            "last_modified": modified,
            "last_audit": modified,
            "md5": self._md5.of(place),
            "download": f"{self._download_url(path)}?download=1",
        }


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, sorted."""
    return sorted(os.listdir(folder))  # noqa: PTH208 - names, not paths
