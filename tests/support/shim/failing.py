"""A disk that fails at a chosen call: everything that writes below a folder is counted, over all processes.

Stands alone, because `sitecustomize` beside it brings it into every Python process of a command.
"""

from __future__ import annotations

import io
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VARIABLE = "FAILING_DISK"
PAGES = "LEDGER_PAGES"
"""The variable with the number of pages beyond which SQLite finds its disk full."""

SHIM = {"PYTHONPATH": str(Path(__file__).parent)}
WRITING = set("wxa+")
REAL_OPEN, REAL_WRITE = os.open, os.write


@dataclass(frozen=True)
class Failing:
    """Which calls fail.

    Parameters
    ----------
    below : str
        Calls that concern other folders are not counted.
    tally : str
        A file that grows by a byte with each call that is counted.
    number : int
        The system's error.
    nth : int
        The first call that fails, counted from 1.
    kinds : str
        The kinds of calls that count: open, write, fsync, name, link, mkdir, and room, which finds none.
    once : bool
        Whether all is well again afterwards.
    """

    below: str
    tally: str
    number: int
    nth: int = 1
    kinds: str = "open write fsync name link mkdir"
    once: bool = False

    def environment(self) -> dict[str, str]:
        """What a command needs to have this disk."""
        return {VARIABLE: repr(asdict(self)), **SHIM}

    @property
    def calls(self) -> int:
        """How many calls were counted."""
        tally = Path(self.tally)
        return tally.stat().st_size if tally.exists() else 0

    @property
    def has_failed(self) -> bool:
        return self.calls >= self.nth

    def pass_or_fail(self, kind: str, path: Any) -> None:
        """Count a call, and fail it if it is its turn."""
        if kind not in self.kinds.split() or not str(Path(os.fsdecode(path)).absolute()).startswith(
            self.below
        ):
            return
        descriptor = REAL_OPEN(self.tally, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        REAL_WRITE(descriptor, b".")
        calls = os.fstat(descriptor).st_size
        os.close(descriptor)
        if calls == self.nth or (calls > self.nth and not self.once):
            raise OSError(self.number, os.strerror(self.number), os.fsdecode(path))


class FailingFile(io.FileIO):
    """A file whose writes may fail; a disk that becomes full takes the first half."""

    def __init__(self, failing: Failing, path: Any, mode: str) -> None:
        super().__init__(path, mode)
        self._failing = failing
        self._path = path

    def write(self, chunk: Any, /) -> int:
        try:
            self._failing.pass_or_fail("write", self._path)
        except OSError:
            super().write(memoryview(chunk)[: len(chunk) // 2])
            raise
        return super().write(chunk)


def bare_calls_of(failing: Failing) -> list[tuple[Any, str, Any]]:
    """The same of those that know files by their numbers."""

    def opening_bare(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            failing.pass_or_fail("open", path)
        return REAL_OPEN(path, flags, *rest, **options)

    def writing(descriptor: int, chunk: Any) -> int:
        try:
            failing.pass_or_fail("write", Path(f"/proc/self/fd/{descriptor}").readlink())
        except OSError:
            REAL_WRITE(descriptor, memoryview(chunk)[: len(chunk) // 2])
            raise
        return REAL_WRITE(descriptor, chunk)

    return [(os, "open", opening_bare), (os, "write", writing)]


def calls_of(failing: Failing) -> list[tuple[Any, str, Any]]:
    """Module, name and replacement of each function of the system that can fail."""
    real_open, real_fsync, real_statvfs = io.open, os.fsync, os.statvfs

    def opening(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **options: Any) -> Any:
        if not isinstance(file, str | bytes | os.PathLike) or not WRITING & set(mode):
            return real_open(file, mode, buffering, *rest, **options)
        failing.pass_or_fail("open", file)
        if "b" not in mode:
            return real_open(file, mode, buffering, *rest, **options)
        raw = FailingFile(failing, file, mode.replace("b", ""))
        return raw if buffering == 0 else io.BufferedWriter(raw)

    def fsync(descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        failing.pass_or_fail("fsync", Path(f"/proc/self/fd/{number}").readlink())
        real_fsync(descriptor)

    def statvfs(path: Any) -> Any:
        facts = real_statvfs(path)
        try:
            failing.pass_or_fail("room", path)
        except OSError:
            return os.statvfs_result((*facts[:3], 0, 0, *facts[5:]))
        return facts

    def naming(kind: str, real: Any, which: int) -> Any:
        def name(*paths: Any, **options: Any) -> Any:
            failing.pass_or_fail(kind, paths[which])
            return real(*paths, **options)

        return name

    return [
        (io, "open", opening),
        *bare_calls_of(failing),
        (os, "fsync", fsync),
        (os, "statvfs", statvfs),
        (os, "replace", naming("name", os.replace, 1)),
        (os, "link", naming("link", os.link, 1)),
        (os, "mkdir", naming("mkdir", os.mkdir, 0)),
    ]


def bounded(connect: Any, pages: int) -> Any:
    """SQLite's `connect` for databases that cannot grow."""

    def connects(*words: Any, **options: Any) -> Any:
        connection = connect(*words, **options)
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    return connects
