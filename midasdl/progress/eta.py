"""When a run will end: a pure function of what is left and how fast it goes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from midasdl.progress.pace import Window
from midasdl.progress.snapshot import Confidence

WEIGHT_OF_BYTES = 0.7
WEIGHT_OF_FILES = 0.3

FEWEST_FILES = 10
SHORTEST_S = 5.0
"""Before so many files have come, and so much time has passed, nobody can tell."""

GUESS_ERROR = 0.5
"""By how much sizes may be wrong that rest on what is usual, as a share."""

HIGH_ERROR = 0.1
MEDIUM_ERROR = 0.25


@dataclass(frozen=True, slots=True)
class Left:
    """What is still to be done.

    Attributes
    ----------
    tasks : float
        That will be asked for; those expected on disk are left out.
    size_bytes : float
        Expected to come; what is expected to fail is left out.
    guessed_share : float
        Of `size_bytes`, how much rests on what is usual rather than on what has come.
    not_before_s : float
        Nothing can have ended earlier than this many seconds from now: a retry falls due, a pause ends.
    """

    tasks: float
    size_bytes: float
    guessed_share: float = 0.0
    not_before_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast it goes.

    Attributes
    ----------
    window : Window
        The last minute, or longer where little has come.
    file_s : float
        How long one file takes one worker, on average.
    workers : int
        That share the work.
    """

    window: Window
    file_s: float
    workers: int


@dataclass(frozen=True, slots=True)
class Eta:
    """Seconds until the end, and how far to trust them."""

    seconds: float
    confidence: Confidence


def eta_of(left: Left, pace: Pace) -> Eta | None:
    """Predict the end; None while not enough is known.

    Notes
    -----
    Both terms are times of the run as a whole: bytes by the speed of all workers together, files by the time that
    one takes one worker, divided by the workers. Near the end, when fewer files are left than there are workers,
    neither the speed of all nor the division by all can be counted on.
    """
    if left.tasks <= 0:
        return Eta(0.0, Confidence.HIGH)
    window, workers = pace.window, max(1, pace.workers)
    if window.files < FEWEST_FILES or window.seconds < SHORTEST_S or window.bytes_per_s <= 0:
        return None
    busy_share = min(1.0, max(1.0, left.tasks) / workers)
    by_bytes = left.size_bytes / (window.bytes_per_s * busy_share)
    by_files = pace.file_s * max(1.0, left.tasks / workers)
    seconds = WEIGHT_OF_BYTES * by_bytes + WEIGHT_OF_FILES * by_files
    return Eta(max(seconds, left.not_before_s, 1.0), confidence_of(window, left))


def confidence_of(window: Window, left: Left) -> Confidence:
    """What the spread of the speed, and sizes that are only guessed, leave of certainty."""
    error = math.hypot(window.error, GUESS_ERROR * left.guessed_share)
    if error <= HIGH_ERROR:
        return Confidence.HIGH
    return Confidence.MEDIUM if error <= MEDIUM_ERROR else Confidence.LOW
