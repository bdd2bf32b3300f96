"""Who takes part, what each of them does, and how it is called at its best."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.archives import Archive

CONNECTIONS = 8
TOKEN = "a-token-of-the-users-own"  # noqa: S105 - nobody checks it here
LONGEST_RUN_S = 900

DOES = {
    "curl": "writes; no check, no flush, no record",
    "curl, then md5sum": "writes, then reads all again to verify; no flush; a failure is a line of text",
    "wget2": "writes; no check, no flush, no record",
    "aria2c": "verifies md5 (reads each file again); no flush; a session file",
    "rclone": "writes through a temporary name; asks for each file's size first; no check, no flush",
    "midasdl": "verifies md5, flushes file and folder, publishes atomically, records every file in SQLite",
}
PROGRAMS = {
    "curl": ("curl",),
    "curl, then md5sum": ("curl", "md5sum"),
    "wget2": ("wget2",),
    "aria2c": ("aria2c",),
    "rclone": ("rclone",),
}
PACKAGES = {
    "aria2c": "aria2",
    "wget2": "wget2",
    "curl": "curl",
    "rclone": "rclone",
    "nginx": "nginx-light",
    "sqlite3": "sqlite3",
    "md5sum": "coreutils",
}


@dataclass(frozen=True)
class Course:
    """What is to be fetched, from where, and a folder for everything that a contender writes."""

    archive: Archive
    url: str
    folder: Path
    connections: int = CONNECTIONS


def missing_programs() -> list[str]:
    """Programs that are not installed here."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    return [name for name in PACKAGES if shutil.which(name, path=path) is None]


def runners(course: Course) -> dict[str, Callable[[], float]]:
    """Everybody who can run here; each call fetches everything into an empty folder and gives files a second."""
    inputs = _write_inputs(course)
    peers = {
        "curl": [_curl(course, inputs)],
        "curl, then md5sum": [_curl(course, inputs), _md5sum(course)],
        "wget2": [_wget2(course, inputs)],
        "aria2c": [_aria2c(course, inputs)],
        "rclone": [_rclone(course, inputs)],
    }
    able = {
        name: commands for name, commands in peers.items() if not set(PROGRAMS[name]) & {*missing_programs()}
    }
    return {
        "midasdl": Midasdl(course),
        **{name: _peer(course, commands) for name, commands in able.items()},
    }


def _peer(course: Course, commands: list[list[str]]) -> Callable[[], float]:
    def run() -> float:
        out = _empty(course.folder / "out")
        started_s = time.monotonic()
        for command in commands:
            _run(command, out)
        elapsed_s = time.monotonic() - started_s
        require_whole(course.archive, out)
        shutil.rmtree(out)
        return len(course.archive.sums) / elapsed_s

    return run


class Midasdl:
    """midasdl, with its ledger loaded beforehand, as the peers have their lists written beforehand."""

    def __init__(self, course: Course, settings: Mapping[str, object] | None = None) -> None:
        self._course = course
        self._folder = course.folder / "midasdl"
        self.ledger = self._folder / "progress.db"
        self.data_root = self._folder / "out"
        self.environment = environment(course, settings or UNLIMITED)
        self._loaded = self._folder / "loaded.db"
        if not self._loaded.exists():
            _empty(self._folder)
            _run(
                [*MIDASDL, "init", str(course.archive.manifest), "--dest", "out"],
                self._folder,
                self.environment,
            )
            shutil.copy(self.ledger, self._loaded)

    def prepare(self) -> list[str]:
        """Forget what earlier rounds have fetched; the command that fetches it anew."""
        shutil.rmtree(self.data_root, ignore_errors=True)
        for path in self._folder.glob("progress.db*"):
            path.unlink()
        shutil.copy(self._loaded, self.ledger)
        return [*MIDASDL, "run"]

    def __call__(self) -> float:
        """Fetch everything; files a second."""
        command = self.prepare()
        started_s = time.monotonic()
        _run(command, self._folder, self.environment)
        elapsed_s = time.monotonic() - started_s
        require_whole(self._course.archive, self.data_root)
        shutil.rmtree(self.data_root)
        return len(self._course.archive.sums) / elapsed_s

    @property
    def folder(self) -> Path:
        """Where it is started."""
        return self._folder


MIDASDL = (sys.executable, "-m", "midasdl")
UNLIMITED = {
    "ceda_client__max_concurrent_requests": 0,
    "ceda_client__min_request_spacing_ms": 0,
    "tuning__enabled": "false",  # the server and the peers are no strain from which workers should rest
}


def environment(course: Course, settings: Mapping[str, object]) -> dict[str, str]:
    """What midasdl is told: a token of the user's own, plain http to loopback, and some settings."""
    chosen = {"workers__count": course.connections, **settings}
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(course.folder),
        "LANG": "C.UTF-8",
        "CEDA_TOKEN": TOKEN,
        "MIDASDL_CEDA__ARCHIVE_URL": course.url,
        **{f"MIDASDL_PERFORMANCE__{name.upper()}": str(value) for name, value in chosen.items()},
    }


def require_whole(archive: Archive, out: Path) -> None:
    """See that a contender has fetched everything; whoever leaves files out is not fast.

    Raises
    ------
    RuntimeError
    """
    size = sum(
        entry.stat().st_size
        for folder, _, names in os.walk(out)
        if ".midasdl" not in folder
        for entry in (Path(folder) / name for name in names)
    )
    if size != archive.size_bytes:
        raise RuntimeError(f"{out} holds {size} bytes of {archive.size_bytes}")


def _run(command: list[str], folder: Path, variables: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LONGEST_RUN_S,
        check=False,
    )
    if done.returncode:
        told = done.stdout.decode(errors="replace")[-2_000:]
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {told}")


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


# --- how the peers are called


def _write_inputs(course: Course) -> Path:
    """The lists from which the peers work, in the form of each."""
    inputs = course.folder / "inputs"
    inputs.mkdir(exist_ok=True)
    pairs = [(md5, path, f"{course.url}/{path}") for md5, path in course.archive.sums]
    texts = {
        "urls": "".join(f"{url}\n" for _, _, url in pairs),
        "paths": "".join(f"{path}\n" for _, path, _ in pairs),
        "curl": "".join(f'url = "{url}"\noutput = "{path}"\n' for _, path, url in pairs),
        "aria2": "".join(f"{url}\n out={path}\n checksum=md5={md5}\n" for md5, path, url in pairs),
    }
    for name, text in texts.items():
        (inputs / name).write_text(text)
    return inputs


def _curl(course: Course, inputs: Path) -> list[str]:
    options = ["--silent", "--show-error", "--fail", "--create-dirs"]
    parallel = ["--parallel", "--parallel-immediate", "--parallel-max", str(course.connections)]
    return ["curl", *options, *parallel, "--config", str(inputs / "curl")]


def _md5sum(course: Course) -> list[str]:
    return ["md5sum", "--quiet", "--check", str(course.archive.manifest)]


def _wget2(course: Course, inputs: Path) -> list[str]:
    options = ["--quiet", "--force-directories", "--no-host-directories", "--no-robots"]
    return ["wget2", *options, f"--max-threads={course.connections}", "--input-file", str(inputs / "urls")]


def _aria2c(course: Course, inputs: Path) -> list[str]:
    quiet = ["--quiet=true", "--summary-interval=0", "--download-result=hide", "--no-conf=true"]
    parallel = [f"--max-concurrent-downloads={course.connections}", "--split=1"]
    files = ["--file-allocation=none", "--check-integrity=true", "--disable-ipv6=true"]
    return ["aria2c", *quiet, *parallel, *files, "--input-file", str(inputs / "aria2")]


def _rclone(course: Course, inputs: Path) -> list[str]:
    parallel = ["--transfers", str(course.connections), "--checkers", str(course.connections)]
    files = ["--files-from-raw", str(inputs / "paths"), "--no-traverse", "--config", ""]
    return ["rclone", "copy", ":http:", ".", "--http-url", course.url, *parallel, *files]
