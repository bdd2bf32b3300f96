"""Real programs that judge midasdl from outside."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def require_program(name: str) -> str:
    """The path of a program; without it the test skips here, and fails in CI."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} must be installed in CI")
        pytest.skip(f"{name} is not installed")
    return found


def md5sum_agrees(data_root: Path, manifest: Path) -> bool:
    """Whether ``md5sum -c`` finds every file of the manifest whole and right."""
    command = [require_program("md5sum"), "--quiet", "--strict", "-c", str(manifest.resolve())]
    return subprocess.run(command, cwd=data_root, capture_output=True, check=False).returncode == 0
