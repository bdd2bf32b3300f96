"""P1, I8: the ledger is read beside a run, and what it says reaches whoever shows the run."""

from __future__ import annotations

import threading
from dataclasses import replace

from midasdl.clock import SystemClock
from midasdl.progress.lookout import Lookout
from midasdl.progress.sizes import Group
from midasdl.progress.snapshot import Reading, Tally

PART = Reading(Tally(3, 1, 0), Tally(3, 1, 0), 10, 0)
WHOLE = replace(PART, groups=(Group("uk-daily-rain-obs", "data", 1, 10, 2),))


def test_what_is_known_of_sizes_is_not_lost_to_a_later_reading_without() -> None:
    """P3: whoever takes a reading late, as while workers start on a busy machine, has the sizes all the same."""
    readings = iter([WHOLE, PART, PART])
    through = threading.Event()

    def read() -> Reading:
        reading = next(readings, None)
        if reading is None:
            through.set()
            raise LookupError
        return reading

    with Lookout(read, SystemClock(), every_s=0.0) as lookout:
        assert through.wait(30)
        assert lookout.take() == WHOLE
        assert lookout.take() is None
