"""A disk that keeps only what was flushed to it, for tests of what a power cut leaves."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest


class FlushedDisk:
    """Watches this process's calls to the file system below a folder.

    Parameters
    ----------
    root : Path
        What is directly in it when the watch begins is on disk.
    final : Path
        Below it no name may be given to bytes that are not on disk.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, final: Path) -> None:
        self._root = root
        self._final = final
        self._bytes: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self.names_given = 0
        self._keep_folder(root)
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self._flush)
        for name in ("replace", "rename", "link"):
            monkeypatch.setattr(os, name, self._naming(getattr(os, name)))

    def contents(self, path: Path) -> bytes | None:
        """What a file would hold after a power cut; None where its name or a folder's would be gone."""
        inode = self._root.stat().st_ino
        for name in path.relative_to(self._root).parts:
            inode = self._names.get(inode, {}).get(name, -1)
        return self._bytes.get(inode)

    def _flush(self, descriptor: int) -> None:
        self._fsync(descriptor)
        facts = os.fstat(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}")
        if stat.S_ISDIR(facts.st_mode):
            self._keep_folder(path)
        else:
            self._bytes[facts.st_ino] = path.read_bytes()

    def _keep_folder(self, folder: Path) -> None:
        self._names[folder.stat().st_ino] = {
            entry.name: entry.stat(follow_symlinks=False).st_ino for entry in os.scandir(folder)
        }

    def _naming(self, real):  # type: ignore[no-untyped-def]
        def name(source, target, **options):  # type: ignore[no-untyped-def]
            if self._final in Path(target).parents:
                facts = Path(source).stat()
                assert self._bytes.get(facts.st_ino) == Path(source).read_bytes(), (
                    f"{target} before its bytes"
                )
                self.names_given += 1
            return real(source, target, **options)

        return name
