"""S2, S7, I1, I7: processes that die, and disks that become full, at any moment."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from midasdl.cache import CacheStore
from midasdl.identity import ProcessIdentity

PATHS = ("data/a/x.csv", "data/b/x.csv", "data/a/y.csv")


def run(program: str, *words: str) -> subprocess.Popen[bytes]:
    """A process that runs a few lines over a store."""
    code = "import sys\nfrom pathlib import Path\nfrom midasdl.cache import CacheStore\n" + textwrap.dedent(
        program
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


PUBLISH_ON_AND_ON = """
store = CacheStore(Path(sys.argv[1]), sys.argv[2])
store.prepare()
print("ready", flush=True)
number = 0
while True:
    number += 1
    with store.part() as part:
        for _ in range(8):
            part.write(str(number % 10).encode() * 20_000)
        store.publish(part, sys.argv[3:])
    store.sync_folders()
"""


@pytest.mark.parametrize("how", ["hardlink", "copy"])
def test_s2_a_process_killed_at_any_moment_leaves_no_wrong_file_under_a_final_name(
    tmp_path: Path, how: str
) -> None:
    """Each publication has other bytes, 160,000 times the same digit; a mixture would be a half-written file."""
    chance = random.Random(how)
    for _ in range(12):
        process = run(PUBLISH_ON_AND_ON, str(tmp_path), how, *PATHS)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for path in PATHS:
            contents = (tmp_path / path).read_bytes() if (tmp_path / path).exists() else b"0" * 160_000
            assert len(contents) == 160_000
            assert len(set(contents)) == 1
    store = CacheStore(tmp_path)
    store.remove_stale_parts()
    assert list((tmp_path / ".midasdl/parts").iterdir()) == [], "what the dead left behind is gone"


HALFWAY_TO_ANOTHER_DISK = """
import os, signal, shutil
from midasdl import disk
def halfway(old, new, size):
    new.write(old.read(1_000))
    new.flush()
    os.kill(os.getpid(), signal.SIGKILL)
shutil.copyfileobj = halfway
store = CacheStore(Path(sys.argv[1]))
store.prepare()
with store.part() as part:
    part.write(b"x" * 5_000)
    store.publish(part, ["data/linked/a.csv"])
"""


def test_s7_what_a_killed_process_left_on_another_disk_is_found_and_removed(
    tmp_path: Path, other_disk: Path
) -> None:
    """S2 S7: a copy beside its target is no part file, but a part file leads to it; nothing else is touched."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/linked").symlink_to(other_disk)
    (other_disk / ".hidden").write_bytes(b"somebody else's")
    killed = run(HALFWAY_TO_ANOTHER_DISK, str(tmp_path))
    _, errors = killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL, errors
    assert len(list(other_disk.iterdir())) == 2
    (trail,) = (path for path in (tmp_path / ".midasdl/parts").iterdir() if path.is_symlink())
    stranger = trail.with_name(trail.name.replace(".part", "0.part"))
    stranger.symlink_to(other_disk / ".hidden")

    store = CacheStore(tmp_path)
    assert store.remove_stale_parts() == 3, "the part file, what led to the copy, and what led astray"

    assert [path.name for path in other_disk.iterdir()] == [".hidden"]
    assert list((tmp_path / ".midasdl/parts").iterdir()) == []


SHORT_OF_SPACE = """
import resource
store = CacheStore(Path(sys.argv[1]))
store.prepare()
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))
from midasdl.errors import StorageError
try:
    with store.part() as part:
        part.write(b"x" * 5_000)
        store.publish(part, ["data/a.csv"])
except StorageError as error:
    print(error.message)
"""


def test_i1_a_disk_that_takes_only_a_part_of_a_body_publishes_nothing(tmp_path: Path) -> None:
    """The system then reports the bytes that fitted, and no error until the next write."""
    told, errors = run(SHORT_OF_SPACE, str(tmp_path)).communicate(timeout=60)
    assert b"File too large" in told, errors
    assert not (tmp_path / "data/a.csv").exists()
    assert list((tmp_path / ".midasdl/parts").iterdir()) == []


HOLD_A_PART = """
store = CacheStore(Path(sys.argv[1]))
store.prepare()
with store.part() as part:
    part.write(b"half")
    print(part.path.name, flush=True)
    import time
    time.sleep(120)
"""


def test_s7_part_files_of_the_dead_are_removed_and_those_of_the_living_kept(tmp_path: Path) -> None:
    dead, living = (run(HOLD_A_PART, str(tmp_path)) for _ in range(2))
    names = []
    for process in (dead, living):
        assert process.stdout is not None
        names.append(process.stdout.readline().decode().strip())
    try:
        store = CacheStore(tmp_path)
        assert store.remove_stale_parts() == 0
        dead.kill()
        dead.communicate()
        assert store.remove_stale_parts() == 1
        assert [path.name for path in (tmp_path / ".midasdl/parts").iterdir()] == [names[1]]
    finally:
        living.kill()
        living.communicate()


@pytest.mark.parametrize(
    ("change", "stays"),
    [({"host": "another-host"}, True), ({"started": "0-1"}, False), ({"pid": "x"}, True), ({}, True)],
    ids=["other-host", "number-taken-again", "not-ours", "our-own"],
)
def test_s7_a_part_file_is_stale_only_if_its_process_is_known_to_be_gone(
    tmp_path: Path, change: dict[str, str], stays: bool
) -> None:
    store = CacheStore(tmp_path)
    store.prepare()
    me = ProcessIdentity.current()
    owner = {"host": me.host, "pid": str(me.pid), "started": me.started.replace(":", "-"), **change}
    part = tmp_path / ".midasdl/parts" / f"{'~'.join(owner.values())}~0.part"
    part.write_bytes(b"half")
    store.remove_stale_parts()
    assert part.exists() is stays


def test_s2_two_stores_may_publish_the_same_path_at_the_same_time(tmp_path: Path) -> None:
    """In one process too. Trap: one part file for two attempts has the right name and the wrong bytes."""
    first, second = CacheStore(tmp_path), CacheStore(tmp_path)
    first.prepare()
    second.prepare()
    with first.part() as ours, second.part() as theirs:
        assert ours.path != theirs.path
        ours.write(b"same")
        theirs.write(b"same")
        first.publish(ours, PATHS)
        second.publish(theirs, PATHS)
    assert first.check(PATHS, hashlib.md5(b"same").hexdigest()).missing == ()
