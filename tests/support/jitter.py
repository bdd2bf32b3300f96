"""How punctual this machine is at the moment, so that a test can set its lateness aside."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PACER = """
import signal, sys, time
spacing_s, tolerance_s = map(float, sys.argv[1:])
on = [True]
signal.signal(signal.SIGTERM, lambda *_: on.clear())
wakes = late = 0
due = time.monotonic()
while on:
    due += spacing_s
    time.sleep(max(0, due - time.monotonic()))
    wakes += 1
    late += time.monotonic() > due + tolerance_s
print(late / max(1, wakes))
"""


class Lateness:
    """What the block has shown, once it is over."""

    share: float = 0.0
    """Of the moments for which a process had asked to be woken, those at which it was woken late."""


@contextmanager
def lateness(spacing_s: float, tolerance_s: float) -> Iterator[Lateness]:
    """Let a process that does nothing else keep time beside what is measured in the block."""
    found = Lateness()
    pacer = subprocess.Popen(
        [sys.executable, "-c", PACER, str(spacing_s), str(tolerance_s)], stdout=subprocess.PIPE, text=True
    )
    try:
        yield found
    finally:
        pacer.terminate()
        told, _ = pacer.communicate(timeout=30)
        found.share = float(told or 1)
