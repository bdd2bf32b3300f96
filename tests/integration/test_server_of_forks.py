"""The process that workers are forked off is a copy of the command, where that is safe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from midasdl import processes
from tests.support.background import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere multiprocessing has its usual way")

COMMAND = """
import json, os, sys, threading, time
from midasdl.processes import process_context, start, warm_up

def look(pipe, path):
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    is_open = path in [os.readlink(link) for link in links if os.path.lexists(link)]
    was_imported = getattr(sys.modules.get("midasdl.version"), "seen_by", None)
    pipe.send([was_imported, is_open, os.getppid()])

if __name__ == "__main__":
    import midasdl.version
    midasdl.version.seen_by = os.getpid()
    path = os.path.realpath(__file__)
    kept_open = open(path)
    if "thread" in sys.argv:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    warm_up("midasdl.version")
    context = process_context("midasdl.version")
    seen = []
    for _ in range(2):
        ours, theirs = context.Pipe()
        process = context.Process(target=look, args=(theirs, path))
        start(process)
        seen.append(ours.recv())
        process.join()
    print(json.dumps([os.getpid(), seen]), flush=True)
    time.sleep(60)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "command.py"
    path.write_text(COMMAND)
    return path


@contextmanager
def begun(script: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(script), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[str]) -> tuple[int, list[tuple[int | None, bool, int]]]:
    assert process.stdout is not None
    pid, seen = json.loads(process.stdout.readline())
    return pid, [tuple(each) for each in seen]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def deaf_to(pid: int) -> set[int]:
    """The signals that a process ignores or holds off."""
    facts = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    held_off = int(facts["SigBlk"], 16) | int(facts["SigIgn"], 16)
    return {number for number in range(1, 64) if held_off >> (number - 1) & 1}


def test_workers_find_imported_what_the_command_has_imported_and_nothing_open(script: Path) -> None:
    with begun(script) as process:
        pid, seen = told(process)
        assert [each[0] for each in seen] == [pid, pid]
        assert not any(is_open for _, is_open, _ in seen)
        assert len({server for _, _, server in seen}) == 1


def test_no_further_process_is_started_to_watch_over_what_midasdl_does_not_have(script: Path) -> None:
    """Multiprocessing has one of its own for shared memory and semaphores, with or without a copy."""
    for words in ((), ("thread",)):
        with begun(script, *words) as process:
            pid, seen = told(process)
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            assert [int(child) for child in children] == [seen[0][2]]


def test_a_command_that_has_threads_already_starts_a_new_interpreter(script: Path) -> None:
    with begun(script, "thread") as process:
        _, seen = told(process)
        assert [each[0] for each in seen] == [None, None]


def test_a_command_that_was_killed_leaves_nothing_in_the_folder_of_temporary_files(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket between the command and its copy goes with the copy, which is the last to know of it."""
    with TemporaryDirectory(dir="/tmp") as temporary:
        monkeypatch.setenv("TMPDIR", temporary)
        with begun(script) as process:
            _, seen = told(process)
            assert list(Path(temporary).iterdir()), "there is a socket"
            process.kill()
            process.wait()
            eventually(lambda: not is_running(seen[0][2]))
        assert list(Path(temporary).iterdir()) == []


def test_the_folder_of_a_command_that_lives_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that has ended by mistake is replaced, in the same folder; one that dies is given its moment."""
    naps: list[float] = []
    monkeypatch.setattr(processes.time, "sleep", naps.append)
    monkeypatch.setattr("multiprocessing.util.get_temp_dir", lambda: str(tmp_path))
    processes._clear_away_what_is_left_of(os.getppid())
    assert tmp_path.exists()
    assert sum(naps) == pytest.approx(2)
    processes._clear_away_what_is_left_of(-1)
    assert not tmp_path.exists()


def test_the_copy_hears_no_signal_of_the_group_and_ends_with_the_command(script: Path) -> None:
    with begun(script) as process:
        _, seen = told(process)
        server = seen[0][2]
        assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} <= deaf_to(server)
        process.kill()
        process.wait()
        eventually(lambda: not is_running(server))
