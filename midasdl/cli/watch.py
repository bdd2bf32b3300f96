"""`midasdl status --watch`: the picture of a run from another terminal, until it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from midasdl.cli.context import number
from midasdl.cli.display import Display, Mode
from midasdl.cli.output import Output
from midasdl.cli.progress_words import percent
from midasdl.errors import ExitCode
from midasdl.ledger.watching import LedgerWatch
from midasdl.progress.snapshot import Phase, Snapshot

if TYPE_CHECKING:
    from midasdl.ledger.ledger import Ledger

LOOK_EVERY_S = 1.0
COST = 20
"""Looking takes at most a twentieth of the time, however large the ledger is."""


def watch(ledger: Ledger, output: Output) -> ExitCode:
    """Show the latest run until it ends, or until nobody reads on."""
    looker, clock = LedgerWatch(ledger), ledger.clock
    mode = Mode.JSON if output.json_lines else Mode.AUTO
    wait_s = LOOK_EVERY_S
    with Display(output, mode, clock) as display:
        snapshot = looker.snapshot()
        while snapshot.phase not in {Phase.ENDED, Phase.NOT_STARTED}:
            display.show(snapshot)
            if not output.is_read:
                return ExitCode.DONE
            began_s = clock.monotonic()
            clock.wait(wait_s)
            snapshot = looker.snapshot()
            wait_s = max(LOOK_EVERY_S, COST * (clock.monotonic() - began_s - wait_s))
        display.show(snapshot)
    _say_how_it_stands(output, snapshot)
    return ExitCode.DONE


def _say_how_it_stands(output: Output, snapshot: Snapshot) -> None:
    if snapshot.phase is Phase.NOT_STARTED:
        output.say("No run yet. Start one with: midasdl run")
        return
    files = snapshot.files
    output.say(
        f"The run has ended: {number(files.done)} of {number(files.total)} files done "
        f"({percent(files.share_done)}), {number(files.failed)} failed. See more with: midasdl status"
    )
