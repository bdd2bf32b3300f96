"""S2 S4 S7 I1 I2: full disks, hostile file systems and wrong permissions, as the command meets them."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.conftest import JobOnTrial
from tests.conftest import Archive
from tests.support.command import PATIENCE_S, Ended
from tests.support.shim.failing import PAGES, SHIM, Failing
from tests.support.soaks import in_soaks

STORAGE = 4
NO_FLOOR = {"MIDASDL_STORAGE__MIN_FREE_BYTES": "0"}
MAKE_SPACE = "Make space, then type: midasdl resume"
MOVE_AWAY = "Move it away, then type: midasdl resume"
MODE = "Check the owner and mode"


def data_root(job: JobOnTrial) -> Path:
    return job.folder / "data-root"


def with_environment(job: JobOnTrial, **names: str) -> JobOnTrial:
    return JobOnTrial(job.command.with_environment(**names), job.simulator, job.manifest)


def on_disk(job: JobOnTrial) -> dict[str, str]:
    """The md5 of each file below the folder of the archive's paths, hidden ones too."""
    root = data_root(job)
    files = [
        Path(folder) / name for folder, _, names in os.walk(root / "data", followlinks=True) for name in names
    ]
    return {str(path.relative_to(root)): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


def see_that_it_ended_well(job: JobOnTrial, ended: Ended, *words: str) -> None:
    """One clear message, exit code 4, no task failed or held, nothing wrong under a final name, no litter."""
    told = [line for line in ended.err.splitlines() if line.startswith("midasdl: ")]
    assert ended.code == STORAGE, ended
    assert len(told) == 1, ended.err
    for part in words:
        assert part in ended.err
    see_that_nothing_is_wrong(job)
    assert job.one("SELECT exit_code FROM run ORDER BY id DESC") == STORAGE
    assert job.one("SELECT count(*) FROM task WHERE state IN ('failed', 'in_progress')") == 0
    assert job.one("SELECT count(*) FROM task WHERE state = 'pending'") > 0
    assert job.one("SELECT count(*) FROM task WHERE state = 'pending' AND attempts > 0") == 0
    assert job.rows("SELECT * FROM permit") == []


def see_that_nothing_is_wrong(job: JobOnTrial) -> None:
    """I1 I2: each file is one of the manifest, whole, and each that is done is there."""
    wanted = {path: md5 for md5, path in Archive(job.manifest.parent, job.manifest).lines}
    found = on_disk(job)
    assert found.items() <= wanted.items()
    done = {path for (path,) in job.rows("SELECT path FROM downloads WHERE state = 'done'")}
    assert done <= found.keys()
    parts = data_root(job) / ".midasdl" / "parts"
    assert not parts.exists() or list(parts.iterdir()) == []


def see_that_resume_completes(job: JobOnTrial) -> None:
    """The cure and `midasdl resume` are enough, and hardly anything was asked for twice."""
    job.command("resume")
    assert job.is_complete
    tasks = job.one("SELECT count(*) FROM task WHERE state = 'done'")
    assert job.one("SELECT count(*) FROM task") == tasks
    assert len(job.downloads) <= tasks + 8, "at most what the workers had in hand was fetched again"


# --- calls that fail


@pytest.mark.parametrize(
    ("kinds", "number", "nth", "words"),
    [
        ("write", errno.ENOSPC, 40, ("The disk is full", MAKE_SPACE)),
        in_soaks("open", errno.EDQUOT, 40, ("The disk is full", MAKE_SPACE)),
        in_soaks("fsync", errno.EIO, 60, ("Input/output error", "midasdl resume")),
        ("name", errno.EROFS, 40, ("Read-only file system", MODE)),
        ("mkdir", errno.ENAMETOOLONG, 8, ("File name too long", "midasdl resume")),
    ],
    ids=["full", "quota", "broken", "read-only", "name-too-long"],
)
def test_a_disk_that_fails_in_the_middle_stops_the_run_with_one_message(
    job: JobOnTrial, kinds: str, number: int, nth: int, words: tuple[str, ...]
) -> None:
    """S7: exit code 4, no task failed, nothing wrong under a final name, and resume goes on after the cure."""
    job.init()
    disk = Failing(str(data_root(job)), str(job.folder / "tally"), number, nth, kinds)

    ended = with_environment(job, **disk.environment()).command("run", "--workers", "3", code=None)

    assert disk.has_failed
    see_that_it_ended_well(job, ended, *words)
    assert len(job.downloads) > 0
    see_that_resume_completes(job)


@pytest.mark.parametrize("number", [in_soaks(errno.ENOSPC), errno.EROFS])
def test_a_target_that_takes_nothing_is_found_out_before_the_first_request(
    job: JobOnTrial, number: int
) -> None:
    """S7: not even a token is asked for, and the run is on record, so that resume knows its settings."""
    job.init()
    disk = Failing(str(data_root(job)), str(job.folder / "tally"), number, kinds="open")

    ended = with_environment(job, **disk.environment()).command("run", "--workers", "3", code=None)

    see_that_it_ended_well(job, ended, "cannot be written", "midasdl resume")
    assert job.simulator.requests == []
    see_that_resume_completes(job)
    assert '"count": 3' in job.one("SELECT settings FROM run ORDER BY id DESC")


def test_a_linked_folder_on_another_disk_that_becomes_full_stops_the_run(
    job: JobOnTrial, other_disk: Path
) -> None:
    """S2 S7: the copy beside the target goes, too; resume fills the other disk, and md5sum finds all of it."""
    job.init()
    data_root(job).mkdir()
    (data_root(job) / "data").symlink_to(other_disk)
    job = with_environment(job, **NO_FLOOR)
    disk = Failing(str(data_root(job) / "data"), str(job.folder / "tally"), errno.ENOSPC, 20, "write")

    ended = with_environment(job, **disk.environment()).command("run", "--workers", "2", code=None)

    see_that_it_ended_well(job, ended, "The disk is full", MAKE_SPACE)
    see_that_resume_completes(job)
    see_that_nothing_is_wrong(job)
    assert (data_root(job) / "data").is_symlink()


def test_a_ledger_whose_own_disk_is_full_ends_the_run_with_exit_code_4(job: JobOnTrial) -> None:
    """W6 S7: what was not recorded is found on disk again; nothing is asked for twice that had a name."""
    job.init()
    full = with_environment(job, **SHIM, **{PAGES: "1"})

    ended = full.command("run", "--workers", "3", code=None)

    assert ended.code == STORAGE, ended
    assert sum(line.startswith("midasdl: ") for line in ended.err.splitlines()) == 1, ended.err
    assert "The disk that holds the ledger" in ended.err
    assert MAKE_SPACE in ended.err
    assert job.one("SELECT count(*) FROM task WHERE state = 'failed'") == 0
    published = len(on_disk(job))
    see_that_nothing_is_wrong(job)
    job.command("resume")
    assert job.is_complete
    assert len(job.downloads) <= job.one("SELECT count(*) FROM task") + 3, published


# --- a real small disk

FILL_AND_CURE = """
mount -t tmpfs -o size=200k none data-root || exit 77
"$0" -m midasdl run; echo "run $?"
find data-root -name '*.part'
mount -o remount,size=50m data-root
"$0" -m midasdl resume; echo "resume $?"
cd data-root && md5sum --quiet --strict -c "$1" && echo complete
"""


def test_a_small_disk_is_filled_to_its_last_byte_and_no_further(job: JobOnTrial) -> None:
    """S7 I1: a real one where the system lets us mount it; elsewhere calls that fail stand in for it."""
    job.init()
    data_root(job).mkdir()
    job = with_environment(job, **NO_FLOOR)
    mounting = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    found = subprocess.run(
        [*mounting, "sh", "-c", FILL_AND_CURE, sys.executable, str(job.manifest.resolve())],
        cwd=job.folder,
        env=job.command.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    if job.downloads:
        assert "run 4\n" in found.stdout, found
        assert ".part" not in found.stdout
        assert "The disk is full" in found.stderr
        assert found.stdout.endswith("complete\n"), found
        assert "resume 0\n" in found.stdout
        assert job.one("SELECT count(*) FROM task WHERE state <> 'done'") == 0
        return
    disk = Failing(str(data_root(job)), str(job.folder / "tally"), errno.ENOSPC, 40, "write open")
    ended = with_environment(job, **disk.environment()).command("run", code=None)
    see_that_it_ended_well(job, ended, "The disk is full")
    see_that_resume_completes(job)


# --- permissions and things in the way

PR_CAPBSET_DROP = 24
OVERRIDE, READ_SEARCH = 1, 2
"""The capabilities by which root passes over the modes of files."""


def bound_by_modes() -> None:
    """Before a command starts: let modes bind it, also where root runs the tests."""
    if os.geteuid() == 0:
        library = ctypes.CDLL(None, use_errno=True)
        for capability in (OVERRIDE, READ_SEARCH):
            if library.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "capabilities cannot be dropped")


def run_with(job: JobOnTrial, before: Callable[[], object], *words: str) -> Ended:
    process = job.command.start(*words, preexec_fn=before)
    out, errors = process.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in errors
    return Ended(process.returncode, out, errors)


@pytest.mark.parametrize(
    ("folder", "requests"),
    [("data-root", False), ("data-root/data", True)],
    ids=["data-root", "further-down"],
)
def test_a_folder_that_may_not_be_written_stops_the_run(job: JobOnTrial, folder: str, requests: bool) -> None:
    """S7: the message names it; after chmod resume completes the job."""
    job.init()
    locked = job.folder / folder
    locked.mkdir(parents=True)
    locked.chmod(0o555)

    ended = run_with(job, bound_by_modes, "run", "--workers", "2")

    see_that_it_ended_well(job, ended, f"{locked}/", "cannot be written: Permission denied", MODE)
    assert bool(job.simulator.requests) is requests
    locked.chmod(0o755)
    see_that_resume_completes(job)


def test_a_file_that_may_not_be_read_stops_the_run_and_is_not_replaced(job: JobOnTrial) -> None:
    """S1 S7: nobody knows what it holds."""
    job.init()
    path = data_root(job) / job.lone_path()
    path.parent.mkdir(parents=True)
    path.write_bytes(b"private")
    path.chmod(0)

    ended = run_with(job, bound_by_modes, "run", "--workers", "2")

    assert path.stat().st_size == len(b"private")
    path.chmod(0o600)
    assert path.read_bytes() == b"private"
    path.unlink()
    see_that_it_ended_well(job, ended, str(path), "Permission denied", MODE)
    see_that_resume_completes(job)


@pytest.mark.parametrize("depth", [in_soaks(0), -1], ids=["data", "station"])
def test_a_file_where_a_folder_should_be_stops_the_run_and_is_kept(job: JobOnTrial, depth: int) -> None:
    """S7: the message names the file itself, however deep the folders that it keeps from being made."""
    job.init()
    folders = list(reversed(Path(job.lone_path()).parents))[1:]
    obstacle = data_root(job) / folders[depth]
    obstacle.parent.mkdir(parents=True)
    obstacle.write_bytes(b"notes")

    ended = job.command("run", "--workers", "2", code=None)

    assert obstacle.read_bytes() == b"notes"
    obstacle.unlink()
    see_that_it_ended_well(job, ended, f"{obstacle} is a file where a folder is needed", MOVE_AWAY)
    see_that_resume_completes(job)


def test_a_folder_where_a_file_should_be_stops_the_run_and_is_kept(job: JobOnTrial) -> None:
    """S7: nothing is removed that midasdl has not made."""
    job.init()
    obstacle = data_root(job) / job.lone_path()
    (obstacle / "inside").mkdir(parents=True)

    ended = job.command("run", "--workers", "2", code=None)

    assert (obstacle / "inside").is_dir()
    shutil.rmtree(obstacle)
    see_that_it_ended_well(job, ended, f"{obstacle} is a folder where a file is needed", MOVE_AWAY)
    see_that_resume_completes(job)


@pytest.mark.parametrize("umask", [0o002, 0o027, 0o077], ids=oct)
def test_files_and_folders_have_the_modes_that_the_umask_leaves(job: JobOnTrial, umask: int) -> None:
    """S4: none is more private than the person wanted, none more open, and a shared folder stays shared."""
    job.init()
    root = data_root(job)
    group = 4711 if os.geteuid() == 0 else os.getegid()
    root.mkdir()
    os.chown(root, -1, group)
    root.chmod(0o2770)

    ended = run_with(job, lambda: os.umask(umask), "run")

    assert ended.code == 0
    assert stat.S_IMODE(root.stat().st_mode) == 0o2770
    below = list((root / "data").rglob("*"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in below if path.is_file()} == {0o666 & ~umask}
    assert {stat.S_IMODE(path.stat().st_mode) for path in below if path.is_dir()} == {0o2777 & ~umask}
    assert {path.stat().st_gid for path in below} == {group}


# --- room


@pytest.mark.effect_of("storage.min_free_bytes")
def test_a_run_says_how_much_is_free_and_refuses_to_begin_where_it_is_too_little(job: JobOnTrial) -> None:
    """S7: no request, exit code 4, and what to do; the floor is a setting."""
    job.init()
    greedy = with_environment(job, MIDASDL_STORAGE__MIN_FREE_BYTES=str(10**15))

    ended = greedy.command("run", code=None)

    see_that_it_ended_well(job, ended, "GB are free in", "storage.min_free_bytes", MAKE_SPACE)
    assert job.simulator.requests == []
    assert greedy.command("resume", code=None).code == STORAGE
    ended = with_environment(job, **NO_FLOOR).command("resume")
    assert "Free space: " in ended.err
    assert f"GB in {data_root(job)}" in ended.err
    assert job.is_complete


def test_a_run_stops_before_the_disk_is_full(job: JobOnTrial) -> None:
    """S7: when the room falls below the floor, what is in hand is finished and nothing more is asked for."""
    job.init()
    disk = Failing(str(job.folder), str(job.folder / "tally"), errno.ENOSPC, 60, "room")

    ended = with_environment(job, **disk.environment()).command("run", "--workers", "2", code=None)

    see_that_it_ended_well(job, ended, "Only 0.0 MB are free in", MAKE_SPACE)
    done = job.one("SELECT count(*) FROM task WHERE state = 'done'")
    assert 0 < done == len(job.downloads), "nothing was asked for that could not be kept"
    see_that_resume_completes(job)
