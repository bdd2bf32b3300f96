"""A command that runs while a test looks at what it does."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.command import Command, kill_group


@contextmanager
def started(command: Command, *words: str, **popen: Any) -> Iterator[subprocess.Popen[str]]:
    """A command in the background; nothing of it outlives the block."""
    process = command.start(*words, **popen)
    try:
        yield process
    finally:
        kill_group(process)


def eventually(is_so: Callable[[], Any], within_s: float = 60.0) -> Any:
    """Wait until something is so, and say what it was."""
    until_s = time.monotonic() + within_s
    while not (found := is_so()):
        assert time.monotonic() < until_s, "it never came to be so"
        time.sleep(0.02)
    return found
