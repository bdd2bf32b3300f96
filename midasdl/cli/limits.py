"""`--max-time` and `--limit`: when a run stops though there is more to do."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from midasdl.berth import RunLimits

UNITS_S = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
SPAN = re.compile(r"(?:\d+[dhms]\s*)+")
PIECE = re.compile(r"(\d+)([dhms])")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of a run that may end early."""
    parser.add_argument(
        "--max-time",
        type=seconds_of,
        metavar="3h50m",
        help="stop after so long (d, h, m, s), as in a job with a time limit; 'midasdl resume' goes on",
    )
    parser.add_argument(
        "--limit",
        type=at_least_one,
        metavar="N",
        help="stop after N distinct contents were fetched, found on disk or given up",
    )


def limits_from(options: argparse.Namespace, began_s: float) -> RunLimits:
    """What the options say, for a run that began at `began_s` of the monotonic clock."""
    from midasdl.berth import RunLimits

    deadline_s = None if options.max_time is None else began_s + options.max_time
    return RunLimits(deadline_s, options.limit)


def seconds_of(text: str) -> int:
    """``3h50m`` as seconds.

    Raises
    ------
    argparse.ArgumentTypeError
    """
    if not SPAN.fullmatch(text.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} is no span of time; write 3h50m, 90m or 2d")
    seconds = sum(int(count) * UNITS_S[unit] for count, unit in PIECE.findall(text))
    if not seconds:
        raise argparse.ArgumentTypeError("a run of no length fetches nothing")
    return seconds


def at_least_one(text: str) -> int:
    """A number of files.

    Raises
    ------
    argparse.ArgumentTypeError
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)
