"""Promises about which SQLite is used, and with which journal (L9)."""

from __future__ import annotations

import builtins
import sqlite3
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil
import pytest

from midasdl.ledger import library
from midasdl.ledger.library import (
    NETWORK_FILE_SYSTEMS,
    SqliteLibrary,
    best_library,
    file_system_of,
    is_network,
    journal_for,
)


def sqlite_of(version: str, name: str = "sqlite3.dbapi2") -> Any:
    module = ModuleType(name)
    module.sqlite_version = version  # type: ignore[attr-defined]
    return module


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Say what is mounted where: ``mounted(("/", "ext4"), …)``."""

    def mount(*places: tuple[str, str]) -> None:
        partitions = [SimpleNamespace(mountpoint=place, fstype=kind) for place, kind in places]
        monkeypatch.setattr(psutil, "disk_partitions", lambda **asked: partitions if asked["all"] else [])

    return mount


@pytest.mark.parametrize(
    ("version", "safe"),
    [("3.40.1", False), ("3.51.2", False), ("3.51.3", True), ("3.53.0", True), ("3.100.0", True)],
)
def test_wal_is_safe_only_with_the_fix(version: str, safe: bool) -> None:
    """L9: versions are compared as numbers, 3.51.3 being the first that is safe."""
    assert SqliteLibrary(sqlite_of(version)).wal_is_safe is safe


@pytest.mark.parametrize(
    ("own", "wheel", "chosen"),
    [
        ("3.52.0", "3.53.4", "sqlite3"),
        ("3.40.1", "3.53.4", "pysqlite3"),
        ("3.40.1", "3.45.0", "sqlite3"),
        ("3.40.1", None, "sqlite3"),
    ],
    ids=["own-is-safe", "only-the-wheel-is-safe", "neither-is-safe", "no-wheel"],
)
def test_the_wheel_serves_only_where_pythons_own_sqlite_is_too_old(
    monkeypatch: pytest.MonkeyPatch, own: str, wheel: str | None, chosen: str
) -> None:
    """L9: Python's own SQLite if it has the fix, else the wheel's if that has it."""
    imports = builtins.__import__

    def importing(name: str, *rest: Any) -> Any:
        if name != "pysqlite3":
            return imports(name, *rest)
        if wheel is None:
            raise ImportError(name)
        return SimpleNamespace(dbapi2=sqlite_of(wheel, "pysqlite3.dbapi2"))

    monkeypatch.setattr(library, "sqlite3", sqlite_of(own))
    monkeypatch.setattr(builtins, "__import__", importing)
    assert best_library().name == chosen


def test_this_machine_has_some_sqlite_that_can_return_rows() -> None:
    """L2: the claim needs UPDATE … RETURNING, which SQLite has since 3.35."""
    assert tuple(map(int, best_library().version.split("."))) >= (3, 35)
    assert SqliteLibrary(sqlite3).name == "sqlite3"


@pytest.mark.parametrize("file_system", sorted(NETWORK_FILE_SYSTEMS))
def test_a_network_file_system_never_gets_wal(file_system: str) -> None:
    """L9: whatever the library, and however the system spells the type."""
    assert is_network(file_system)
    assert is_network(file_system.upper())
    assert journal_for(SqliteLibrary(sqlite_of("3.53.4")), file_system) == "delete"


@pytest.mark.parametrize("file_system", ["fuse.sshfs", "fuse.s3fs", "fuse.quobyte", "fuse.vmhgfs-fuse"])
def test_a_file_system_served_by_a_program_never_gets_wal(file_system: str) -> None:
    """L9: nobody can tell what stands behind it."""
    assert is_network(file_system)


@pytest.mark.parametrize(
    "file_system", ["ext4", "xfs", "btrfs", "zfs", "apfs", "NTFS", "tmpfs", "overlay", "fuseblk", "unknown"]
)
def test_a_local_disk_gets_wal_if_the_library_is_safe(file_system: str) -> None:
    """L9: WAL with the fix, the rollback journal without it."""
    assert journal_for(SqliteLibrary(sqlite_of("3.51.3")), file_system) == "wal"
    assert journal_for(SqliteLibrary(sqlite_of("3.51.2")), file_system) == "delete"


def test_the_longest_mount_point_tells(mounted: Any) -> None:
    """L9: the mount nearest to the file holds it, in whatever order they are listed."""
    mounted(("/srv/data/shared", "nfs4"), ("/", "ext4"), ("/srv", "xfs"), ("/srv/data", "btrfs"))
    assert file_system_of(Path("/srv/data/shared/midas/progress.db")) == "nfs4"
    assert file_system_of(Path("/srv/data/progress.db")) == "btrfs"
    assert file_system_of(Path("/elsewhere/progress.db")) == "ext4"


def test_a_mount_point_is_compared_by_components(mounted: Any) -> None:
    """L9: /srv/database does not lie in /srv/data."""
    mounted(("/", "ext4"), ("/srv/data", "nfs4"))
    assert file_system_of(Path("/srv/database/progress.db")) == "ext4"


@pytest.mark.parametrize("under", ["autofs", "ext4"])
def test_of_two_mounts_at_one_place_the_later_counts(mounted: Any, under: str) -> None:
    """L9: a network file system that was mounted on demand lies on its autofs."""
    mounted(("/", "ext4"), ("/home/work", under), ("/home/work", "nfs4"))
    assert file_system_of(Path("/home/work/progress.db")) == "nfs4"


def test_a_link_is_followed_to_where_the_ledger_really_lies(mounted: Any, tmp_path: Path) -> None:
    """L9: a folder on a network file system does not become local by a symbolic link."""
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    mounted(("/", "ext4"), (str(tmp_path / "far"), "cifs"))
    assert file_system_of(tmp_path / "near" / "progress.db") == "cifs"


def test_a_place_that_no_mount_covers_is_unknown(mounted: Any) -> None:
    """L9: and unknown is not taken for a network."""
    mounted()
    assert file_system_of(Path("/anywhere/progress.db")) == "unknown"
    assert not is_network("unknown")
