"""S1 to S4, I1, I2: how bytes come to their final names, and what is there when something breaks."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from midasdl import cache
from midasdl.cache import CacheStore
from midasdl.errors import ExitCode, StorageError

CONTENTS = b"Conventions,G,BADC-CSV,1\n" + b"9" * 5_000
MD5 = hashlib.md5(CONTENTS).hexdigest()
GIBIBYTE = 1024**3
PATH = "data/devon/01234_exeter/a.csv"
FURTHER = ("data/devon/01234_exeter/b.csv", "data/kent/05678_dover/a.csv")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "midas-open"


@pytest.fixture
def store(root: Path) -> CacheStore:
    prepared = CacheStore(root)
    prepared.prepare()
    return prepared


def publish(
    store: CacheStore, *paths: str, contents: bytes = CONTENTS, modified_s: float | None = None
) -> None:
    with store.part() as part:
        part.write(contents)
        store.publish(part, paths or (PATH,), modified_s)


def parts(root: Path) -> list[str]:
    return sorted(path.name for path in (root / ".midasdl/parts").iterdir())


# --- S1: what is there already


def test_s1_the_right_bytes_are_found_and_missing_or_wrong_ones_are_named(
    store: CacheStore, root: Path
) -> None:
    publish(store)
    (root / FURTHER[0]).write_bytes(CONTENTS[:-1] + b"8")
    checked = store.check((PATH, *FURTHER), MD5)
    assert (checked.good, checked.missing, checked.size_bytes) == ((PATH,), FURTHER, len(CONTENTS))
    assert store.check(FURTHER, MD5).size_bytes is None


def test_s1_only_folders_that_are_surely_missing_spare_the_look_at_their_files(store: CacheStore) -> None:
    """S1: what the disk has not answered, such as a name that is too long for it, is not taken for no."""
    assert store.has_no_folder_of(["data/devon/a.csv", "data/kent/a.csv"])
    assert not store.has_no_folder_of([f"{'n' * 300}/a.csv"])
    publish(store, "data/kent/a.csv")
    store.look_around()
    assert not store.has_no_folder_of(["data/devon/a.csv", "data/kent/a.csv"])


def test_s1_an_empty_file_is_found_too(store: CacheStore) -> None:
    publish(store, contents=b"")
    assert store.check((PATH,), hashlib.md5(b"").hexdigest()).size_bytes == 0


def test_s1_a_file_in_the_way_of_a_folder_counts_as_missing_and_stops_publishing(
    store: CacheStore, root: Path
) -> None:
    (root / "data").write_bytes(b"not a folder")
    assert store.check((PATH,), MD5).missing == (PATH,)
    with pytest.raises(StorageError, match=r"midas-open/data is a file where a folder is needed"):
        publish(store)
    assert (root / "data").read_bytes() == b"not a folder"


def test_s1_a_wrong_file_is_replaced_at_once_and_readers_of_the_old_one_keep_it(
    store: CacheStore, root: Path
) -> None:
    publish(store, contents=b"wrong")
    with (root / PATH).open("rb") as reader:
        publish(store)
        assert reader.read() == b"wrong", "the old bytes were never touched"
    assert (root / PATH).read_bytes() == CONTENTS


def test_s1_md5_is_used_as_a_checksum_only(store: CacheStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine in FIPS mode refuses md5 for security."""
    real = hashlib.md5

    def fips(*data: bytes, usedforsecurity: bool = True) -> Any:
        assert not usedforsecurity
        return real(*data, usedforsecurity=False)

    publish(store)
    monkeypatch.setattr(hashlib, "md5", fips)
    assert store.check((PATH,), MD5).good == (PATH,)


# --- S2: the order of steps


class Recorder:
    """Writes down what is made durable and what is named, in order; paths are relative to a folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple[str, str]] = []
        self._folder = folder
        fsync, replace, write = os.fsync, os.replace, cache.PartFile.write

        def recording_fsync(descriptor: int) -> None:
            self._note("sync", Path(f"/proc/self/fd/{descriptor}").readlink())
            fsync(descriptor)

        def recording_replace(source: str | Path, target: str | Path) -> None:
            self._note("name", Path(target))
            replace(source, target)

        def recording_write(part: cache.PartFile, chunk: bytes) -> None:
            self._note("write", part.path)
            write(part, chunk)

        monkeypatch.setattr(os, "fsync", recording_fsync)
        monkeypatch.setattr(os, "replace", recording_replace)
        monkeypatch.setattr(cache.PartFile, "write", recording_write)

    def _note(self, step: str, path: Path) -> None:
        shown = path.relative_to(self._folder).as_posix()
        self.steps.append((step, "part" if shown.endswith(".part") else shown))


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(tmp_path, monkeypatch)


def test_s2_bytes_are_durable_before_their_name_and_the_name_before_the_task_is_done(
    store: CacheStore, recorder: Recorder
) -> None:
    publish(store)
    assert recorder.steps == [("write", "part"), ("sync", "part"), ("name", f"midas-open/{PATH}")]
    recorder.steps.clear()
    store.sync_folders()
    station = "midas-open/data/devon/01234_exeter"
    assert [path for _, path in recorder.steps] == [
        "midas-open",
        "midas-open/data",
        "midas-open/data/devon",
        station,
    ]
    recorder.steps.clear()
    publish(store, FURTHER[0])
    store.sync_folders()
    assert recorder.steps[-1] == ("sync", station)
    assert len(recorder.steps) == 4, "folders whose names are durable already are not synced again"


def test_s2_folders_that_another_process_has_just_made_are_made_durable_too(
    store: CacheStore, root: Path, recorder: Recorder
) -> None:
    """The other one may die before it does so."""
    (root / PATH).parent.mkdir(parents=True)
    publish(store)
    store.sync_folders()
    assert ("sync", "midas-open") in recorder.steps
    assert ("sync", "midas-open/data/devon") in recorder.steps


def test_s2_a_new_data_root_is_durable_itself(tmp_path: Path, recorder: Recorder) -> None:
    CacheStore(tmp_path / "new" / "midas-open").prepare()
    assert {path for step, path in recorder.steps if step == "sync"} == {
        ".",
        "new",
        "new/midas-open",
        "new/midas-open/.midasdl",
    }


def test_i2_files_found_on_disk_get_durable_names_before_their_task_is_done(
    store: CacheStore, recorder: Recorder
) -> None:
    """Whoever published them may have been killed before the folder was synced."""
    publish(store, PATH, FURTHER[1])
    resumed = CacheStore(store.root)
    recorder.steps.clear()
    resumed.complete(resumed.check((PATH, *FURTHER), MD5))
    resumed.sync_folders()
    synced = {path for step, path in recorder.steps if step == "sync"}
    assert {"midas-open/data/devon/01234_exeter", "midas-open/data/kent/05678_dover"} <= synced
    assert resumed.check(FURTHER, MD5).missing == ()


def test_s2_a_file_system_without_fsync_of_folders_is_good_enough(
    store: CacheStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store)
    monkeypatch.setattr(os, "fsync", raising(errno.EINVAL))
    store.sync_folders()


def raising(
    number: int, only: Callable[..., bool] = lambda *_: True, instead: Any = None
) -> Callable[..., Any]:
    """A system call that fails."""

    def fails(*arguments: Any, **options: Any) -> Any:
        if not only(*arguments):
            return instead(*arguments, **options)
        raise OSError(number, os.strerror(number), *(str(part) for part in arguments[:1]))

    return fails


# --- S3: further destinations


@pytest.mark.parametrize(("how", "same_inode"), [("hardlink", True), ("reflink", False), ("copy", False)])
def test_s3_duplicates_come_as_asked_and_hold_the_same_bytes(root: Path, how: str, same_inode: bool) -> None:
    store = CacheStore(root, how)
    store.prepare()
    publish(store, PATH, *FURTHER, modified_s=1_500_000_000.0)
    for path in FURTHER:
        assert (root / path).read_bytes() == CONTENTS
        assert (root / path).samefile(root / PATH) is same_inode
        assert (root / path).stat().st_mtime == 1_500_000_000
    assert parts(root) == []


@pytest.mark.parametrize(
    ("how", "target", "number"),
    [
        ("hardlink", "hardlink_to", errno.EPERM),
        ("hardlink", "hardlink_to", errno.EMLINK),
        ("hardlink", "hardlink_to", errno.ENOTSUP),
        ("reflink", "ioctl", errno.EOPNOTSUPP),
        ("reflink", "ioctl", errno.EXDEV),
    ],
)
def test_s3_where_the_file_system_cannot_share_the_duplicate_is_a_copy(
    root: Path, monkeypatch: pytest.MonkeyPatch, how: str, target: str, number: int
) -> None:
    monkeypatch.setattr(Path if target == "hardlink_to" else fcntl, target, raising(number))
    store = CacheStore(root, how)
    store.prepare()
    publish(store, PATH, *FURTHER)
    assert store.check((PATH, *FURTHER), MD5).missing == ()
    assert not (root / FURTHER[0]).samefile(root / PATH)
    assert parts(root) == []


def test_s3_replacing_one_name_of_a_hard_link_leaves_the_others(store: CacheStore, root: Path) -> None:
    publish(store, PATH, *FURTHER)
    publish(store, FURTHER[0], contents=b"new release")
    assert (root / PATH).read_bytes() == CONTENTS
    assert (root / FURTHER[0]).read_bytes() == b"new release"


# --- S4: modes and times


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o027, 0o077], ids=oct)
@pytest.mark.parametrize("how", ["hardlink", "reflink", "copy"])
def test_s4_modes_are_what_the_umask_leaves(root: Path, umask: int, how: str) -> None:
    before = os.umask(umask)
    try:
        store = CacheStore(root, how)
        store.prepare()
        publish(store, PATH, *FURTHER)
    finally:
        os.umask(before)
    for path in (PATH, *FURTHER):
        assert stat.S_IMODE((root / path).stat().st_mode) == 0o666 & ~umask
        assert stat.S_IMODE((root / path).parent.stat().st_mode) == 0o777 & ~umask


def test_s4_a_shared_folder_hands_on_its_group(tmp_path: Path) -> None:
    root = tmp_path / "shared"
    root.mkdir()
    group = 4711 if os.geteuid() == 0 else os.getegid()
    os.chown(root, -1, group)
    root.chmod(0o2775)
    store = CacheStore(root)
    store.prepare()
    publish(store)
    assert (root / PATH).stat().st_gid == group
    assert (root / PATH).parent.stat().st_mode & stat.S_ISGID
    assert stat.S_IMODE(root.stat().st_mode) == 0o2775, "the shared folder itself is left as it was"


def test_s4_the_time_of_modification_is_the_archives_or_now(store: CacheStore, root: Path) -> None:
    publish(store, modified_s=1_600_000_000.0)
    assert (root / PATH).stat().st_mtime == 1_600_000_000
    publish(store, modified_s=None)
    assert (root / PATH).stat().st_mtime > 1_700_000_000


@pytest.mark.parametrize("how", ["hardlink", "reflink", "copy"])
def test_s2_a_linked_folder_on_another_file_system_is_published_to_as_atomically(
    root: Path, other_disk: Path, how: str
) -> None:
    """Trap: rename across file systems falls back to a plain copy under the final name."""
    (root / "data").mkdir(parents=True)
    (root / "data/devon").symlink_to(other_disk)
    store = CacheStore(root, how)
    store.prepare()
    publish(store, contents=b"wrong")
    with (root / PATH).open("rb") as reader:
        publish(store, PATH, *FURTHER, modified_s=1_600_000_000.0)
        assert reader.read() == b"wrong", "the new file came by rename"
    store.sync_folders()
    assert store.check((PATH, *FURTHER), MD5).missing == ()
    assert (root / PATH).stat().st_mtime == 1_600_000_000
    assert [path for path in other_disk.rglob("*") if path.name.startswith(".")] == []
    assert parts(root) == []


# --- a disk that breaks

BREAKS = [
    (errno.ENOSPC, "The disk is full", "Make space, then type: midasdl resume"),
    (errno.EDQUOT, "The disk is full", "Make space, then type: midasdl resume"),
    (errno.EACCES, "cannot be written: Permission denied", "Check the owner and mode"),
    (errno.EROFS, "cannot be written: Read-only file system", "Check the owner and mode"),
    (errno.ENOTDIR, "is a file where a folder is needed", "Move it away, then type: midasdl resume"),
    (errno.EISDIR, "is a folder where a file is needed", "Move it away, then type: midasdl resume"),
    (errno.ENAMETOOLONG, "cannot be used: File name too long", "midasdl resume"),
    (errno.EIO, "cannot be used: Input/output error", "midasdl resume"),
]
PLACES: dict[str, tuple[Any, str]] = {
    "fsync": (os, "fsync"),
    "rename": (os, "replace"),
    "mkdir": (Path, "mkdir"),
}


@pytest.mark.parametrize(("number", "words", "hint"), BREAKS, ids=[errno.errorcode[row[0]] for row in BREAKS])
@pytest.mark.parametrize("place", PLACES)
def test_s7_a_disk_that_fails_is_a_storage_error_and_leaves_all_as_it_was(
    store: CacheStore,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    words: str,
    hint: str,
    place: str,
) -> None:
    publish(store, contents=b"an older release")
    resumed = CacheStore(root)
    with monkeypatch.context() as broken:
        broken.setattr(*PLACES[place], raising(number))
        with pytest.raises(StorageError) as raised:
            publish(resumed)
    assert words in raised.value.message
    assert hint in str(raised.value.hint)
    assert raised.value.exit_code is ExitCode.STORAGE
    assert (root / PATH).read_bytes() == b"an older release"
    assert parts(root) == []
    publish(resumed)
    assert (root / PATH).read_bytes() == CONTENTS


@pytest.mark.parametrize(("free_bytes", "looks"), [(10 * GIBIBYTE, 2), (3 * GIBIBYTE, 6)])
def test_s7_room_is_looked_at_for_each_file_unless_a_round_cannot_use_it_up(
    root: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int, looks: int
) -> None:
    """Of the part files' disk and of the folder's, for three files of one folder in one round."""
    store = CacheStore(root, min_free_bytes=GIBIBYTE)
    store.prepare()
    (root / PATH).parent.mkdir(parents=True)
    seen: list[Any] = []

    def statvfs(place: Any) -> os.statvfs_result:
        seen.append(place)
        return os.statvfs_result((4096, 4096, 10**9, 0, free_bytes // 4096, 10**9, 0, 10**9, 0, 255))

    monkeypatch.setattr(os, "statvfs", statvfs)
    store.look_around()
    for path in (PATH, FURTHER[0], PATH):
        store.require_room(path)
    assert len(seen) == looks

    free_bytes = GIBIBYTE // 2
    store.look_around()
    with pytest.raises(StorageError):
        store.require_room(PATH)
