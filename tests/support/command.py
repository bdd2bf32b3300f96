"""The real command in a process of its own, in a world that holds nothing of the tester's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

PATIENCE_S = 240


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    def record(self, kind: str) -> dict[str, Any]:
        return next(record for record in self.records if record["kind"] == kind)


class Command:
    """Runs ``midasdl`` in a folder, with an environment of its own; nothing outside this machine can be reached."""

    def __init__(self, folder: Path, environment: Mapping[str, str] = {}) -> None:
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "LANG": "C.UTF-8",
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": "127.0.0.1,localhost",
            "PYTHONWARNINGS": "error",
            "COLUMNS": "120",
            **environment,
        }

    def with_settings(self, **settings: object) -> Self:
        """The same with settings, written as ``workers__count=8``."""
        names = {f"MIDASDL_PERFORMANCE__{name.upper()}": str(value) for name, value in settings.items()}
        return type(self)(self.folder, {**self.environment, **names})

    def with_environment(self, **names: str) -> Self:
        return type(self)(self.folder, {**self.environment, **names})

    def without(self, *names: str) -> Self:
        kept = {name: value for name, value in self.environment.items() if name not in names}
        command = type(self)(self.folder)
        command.environment = kept
        return command

    @property
    def outside(self) -> Command:
        """The same, in processes of its own in any case."""
        command = Command(self.folder)
        command.environment = dict(self.environment)
        return command

    def __call__(self, *words: str, stdin: bytes = b"", code: int | None = 0) -> Ended:
        """Run to the end; `code` is what it must end with (None: anything)."""
        done = subprocess.run(
            [sys.executable, "-m", "midasdl", *words],
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
        ended = Ended(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert code is None or ended.code == code, f"{words}: {ended}"
        assert "Traceback" not in ended.err, ended.err
        return ended

    def start(self, *words: str, **popen: Any) -> subprocess.Popen[str]:
        """Start in a process group of its own, so that all of it can be killed."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [sys.executable, "-m", "midasdl", *words],
            cwd=self.folder,
            env=self.environment,
            text=True,
            start_new_session=True,
            **(pipes | popen),
        )


def kill_group(process: subprocess.Popen[Any]) -> None:
    """``kill -9`` of a command with everything that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def is_gone(group: int) -> bool:
    """Whether nobody of a process group runs any more; who waits to be buried does not count."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return False
    return True
