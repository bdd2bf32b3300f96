"""The manifest of a release as a file: downloaded beside its place, checked, and only then named.

On disk::

    <folder>/
    ├── midas-open-v202407-md5s.txt                          whole and checked
    └── .midas-open-v202407-md5s.txt~<host>~<pid>~<…>.part   on its way, one file an attempt
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from midasdl.ceda.client import Body
from midasdl.ceda.connect import connect
from midasdl.ceda.credentials import Credentials
from midasdl.ceda.listing import Release
from midasdl.ceda.persist import Patience, persist
from midasdl.ceda.verdict import FetchError, Verdict
from midasdl.clock import Clock
from midasdl.config import Settings
from midasdl.disk import storage_errors, sync_folder
from midasdl.errors import StorageError
from midasdl.identity import ProcessIdentity
from midasdl.models import ErrorClass
from midasdl.parts import MODE, NEW_FILE, PartFile
from midasdl.politeness.lone_gate import Passage


def holds(path: Path, release: Release) -> bool:
    """Whether a file is the manifest of a release; without an md5 to compare nobody can tell.

    Raises
    ------
    StorageError
        It is there and cannot be read.
    """
    with _at_its_place(path):
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        except FileNotFoundError:
            return False
    return digest.hexdigest() == release.md5


def download(
    release: Release,
    path: Path,
    settings: Settings,
    credentials: Credentials,
    gate: Passage,
    patience: Patience,
    clock: Clock,
    on_retry: Callable[[Verdict, float], None],
) -> None:
    """Fetch a manifest, check it against the listing, and put it in its place at once.

    Raises
    ------
    FetchError
        With the last verdict.
    AuthenticationError, ServerUnavailableError, StorageError

    Notes
    -----
    Crash safety: the place holds what it held before, or the whole manifest. What a process left behind that is
    gone is removed by the next one.
    """
    access = connect(_streaming(settings), credentials, gate, clock)
    client = access.client

    def once() -> None:
        with _part_beside(path) as part:
            body = client.fetch(release.name, part)
            verdict = difference(body, release)
            if verdict is not None:
                raise FetchError(verdict)
            with _at_its_place(path):
                part.flush_to_disk(body.last_modified_s)
                part.path.replace(path)
                sync_folder(path.parent)

    try:
        persist(once, client.host, patience, gate, clock, on_retry)
    finally:
        access.close()


def difference(body: Body, release: Release) -> Verdict | None:
    """How a body differs from what the listing says of it; None if it does not."""
    size, md5 = body.size_bytes, body.md5
    if release.size_bytes not in {None, size}:
        text = f"{release.name}: the listing says {release.size_bytes} bytes, CEDA sent {size}"
        return Verdict(ErrorClass.INCOMPLETE, text, body.http_status)
    if release.md5 not in {None, md5}:
        text = f"{release.name}: the listing says md5 {release.md5}, CEDA sent {size} bytes with md5 {md5}"
        return Verdict(ErrorClass.CHECKSUM, text, body.http_status)
    return None


def _streaming(settings: Settings) -> Settings:
    """The same settings with nothing held in memory: a manifest has a hundred megabytes and more."""
    memory = settings.performance.memory.model_copy(update={"max_file_size_in_memory": 0})
    performance = settings.performance.model_copy(update={"memory": memory})
    return settings.model_copy(update={"performance": performance})


@contextmanager
def _part_beside(path: Path) -> Iterator[PartFile]:
    """A part file in the folder of its place; removed at the end unless it was renamed."""
    me = ProcessIdentity.current()
    part = path.with_name(f".{path.name}~{me.host}~{me.pid}~{me.started.replace(':', '-')}.part")
    with _at_its_place(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale_parts(path)
        file = _Part(str(part), os.open(part, NEW_FILE, MODE))
    try:
        yield file
    finally:
        file.close()
        part.unlink(missing_ok=True)


class _Part(PartFile):
    """A part file whose troubles are told in the words of this command."""

    def write(self, chunk: bytes | memoryview, /) -> None:
        """Append bytes."""
        with _at_its_place(self.path):
            super().write(chunk)


@contextmanager
def _at_its_place(path: Path) -> Iterator[None]:
    """Turn the system's errors into ours."""
    try:
        with storage_errors(path):
            yield
    except StorageError as error:
        error.hint = "Make space or name another place with --output, then type the same command again."
        raise


def _remove_stale_parts(path: Path) -> None:
    for part in path.parent.glob(f".{escape(path.name)}~*.part"):
        host, pid, started = part.name.removesuffix(".part").rsplit("~", 3)[1:]
        if pid.isdigit() and ProcessIdentity(host, int(pid), started.replace("-", ":", 1)).is_gone():
            with suppress(OSError):
                part.unlink()
