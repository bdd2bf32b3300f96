"""`midasdl run`: fetch everything that the ledger holds and the disk does not."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midasdl.cli.context import Subparsers, environment, ledger_path, plural, settings_from, size
from midasdl.cli.limits import add_options as add_limits
from midasdl.cli.limits import limits_from
from midasdl.cli.output import Output
from midasdl.cli.wording import HelpFormatter
from midasdl.errors import ExitCode

if TYPE_CHECKING:
    from midasdl.job import Job, Prepared
    from midasdl.metrics.aside import Aside

EXAMPLES = """examples:
  midasdl run
  midasdl run --workers 8
  midasdl run --profile conservative
  midasdl run --retry-failed
  midasdl run --max-time 3h50m --progress log
  midasdl run --limit 20
  midasdl run --source /badc/ukmo-midas-open
  nohup midasdl run > midasdl.log 2>&1 &

A run may be stopped with Ctrl-C at any time and taken up again with 'midasdl resume'. Two runs on one ledger share
their work and their limits. What --source holds at the archive's own paths is copied and checked without a request,
also where there are no credentials; only the rest is asked for. A run that --max-time or --limit has stopped with work
left ends with exit code 1, and 'midasdl resume' goes on. How fast requests follow each other is a setting, not
an option; 'midasdl config show --origin' lists them all:
  MIDASDL_PERFORMANCE__CEDA_CLIENT__MIN_REQUEST_SPACING_MS=200 midasdl run
"""

READER_PATIENCE_S = 1.0
"""At the end of a run, whoever takes nothing for so long is taken for somebody who hangs."""


def add_to(commands: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "run",
        parents=[shared],
        help="fetch what is not on disk yet",
        description="Fetch every file of the ledger that is not on disk yet, and check it.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    add_options(parser)
    parser.set_defaults(act=act)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that `run` and `resume` share."""
    parser.add_argument("--workers", type=int, metavar="N", help="worker processes (default: 4)")
    parser.add_argument(
        "--profile",
        metavar="NAME",
        help="conservative, balanced (the default), aggressive, development or custom",
    )
    parser.add_argument(
        "--yes", action="store_true", help="do not ask before the profile aggressive is used against CEDA"
    )
    add_limits(parser)
    parser.add_argument("--retry-failed", action="store_true", help="first put every failed file back")
    parser.add_argument(
        "--progress",
        choices=("auto", "bar", "log", "json", "none"),
        default="auto",
        help="a bar on a terminal and a line now and then elsewhere (auto), or as named; json: as --json, with a "
        "record of progress each second",
    )
    parser.add_argument(
        "--source",
        metavar="DIR",
        type=Path,
        help="first copy what an archive mounted here holds, such as /badc/ukmo-midas-open",
    )
    add_watching(parser)


def add_watching(parser: argparse.ArgumentParser) -> None:
    """The options by which others may watch."""
    group = parser.add_argument_group("watching from elsewhere")
    group.add_argument(
        "--metrics-port",
        type=int,
        metavar="N",
        help="serve a status page, /status and /metrics here, for this machine alone",
    )
    group.add_argument(
        "--status-file", metavar="FILE", type=Path, help="write the status here every few seconds, as JSON"
    )
    group.add_argument("--log-file", metavar="FILE", type=Path, help="write a log here, as JSON lines")


def act(options: argparse.Namespace, output: Output) -> ExitCode:
    """Run the job."""
    return run_job(options, output, "run", {})


def run_job(
    options: argparse.Namespace, output: Output, command: str, recorded: Mapping[str, Any]
) -> ExitCode:
    """One run: prepare, work, tell how it went.

    Parameters
    ----------
    recorded : mapping
        Settings of an earlier run; those of the command line and of the environment come before them.
    """
    from midasdl.processes import importing, warm_up

    with importing():
        from midasdl.ceda.credentials import Credentials
        from midasdl.cli.adopt import fill
        from midasdl.cli.consent import require_consent
        from midasdl.cli.display import SHOWN_HELD, Display, Mode
        from midasdl.cli.signals import stopping_on_signals
        from midasdl.cli.summary import tell_result
        from midasdl.coordinator import MADE_READY
        from midasdl.job import Job
        from midasdl.ledger.ledger import Ledger
        from midasdl.ledger.overview import Overview
        from midasdl.ledger.reading import LedgerReader
        from midasdl.metrics.aside import Aside
        from midasdl.metrics.observatory import Observatory
        from midasdl.progress.audience import Audience
        from midasdl.progress.lookout import Lookout
        from midasdl.progress.tracker import Tracker
    if options.source is None and ledger_path(options).exists():
        warm_up(MADE_READY)

    mode = Mode(options.progress)
    output.json_lines = output.json_lines or mode is Mode.JSON
    settings = settings_from(options, recorded=recorded)
    require_consent(settings, command, sure=options.yes)
    with Ledger.open(ledger_path(options), tell=output.note) as ledger:
        limits = limits_from(options, ledger.clock.monotonic())
        job = Job(ledger, settings, command)
        if options.source is not None:
            stopped_by = fill(ledger, settings, output, options.source)
            if stopped_by is not None:
                output.say("Go on with the same command.")
                return ExitCode(stopped_by)
        hand: Aside[Callable[[], object]] = Aside("display", _do, SHOWN_HELD)
        with _waiting_for_readers(hand, job, output), stopping_on_signals(job, ledger.patience):
            prepared = job.prepare(retry_failed=options.retry_failed)
            _tell_prepared(output, prepared)
            display = Display(output, mode, ledger.clock, hand=hand)
            lookout = Lookout(LedgerReader(ledger).read, ledger.clock)
            counts, started_s = prepared.counts, ledger.clock.monotonic()
            tracker = Tracker(counts.tasks, counts.done, counts.failed, started_s, counts.files)
            first = tracker.snapshot(started_s)
            observatory = Observatory(ledger, settings, job.data_root, first, output.note)
            audience = Audience(tracker, [display, observatory], ledger.clock, lookout.take)
            with display, observatory:
                with lookout:
                    audience.tick(0)
                    result = job.run(lambda: Credentials.from_environment(environment()), audience, limits)
                snapshot = audience.end(LedgerReader(ledger, result.run_id).read)
                observatory.ended(result.exit_code, snapshot)
        tell_result(output, result, snapshot, Overview(ledger), job.data_root)
    return result.exit_code


@contextmanager
def _waiting_for_readers(hand: Aside[Callable[[], object]], job: Job, output: Output) -> Iterator[None]:
    """When the run is over, let whoever reads have the rest; whoever was asked to stop waits for nobody.

    Until the reader goes on, nothing else could be said either; a signal ends the waiting.
    """
    try:
        yield
    finally:
        if not hand.close(READER_PATIENCE_S):
            if job.is_asked_to_stop:
                output.fall_silent()
            else:
                hand.wait()


def _do(act: Callable[[], object]) -> None:
    act()


def _tell_prepared(output: Output, prepared: Prepared) -> None:
    """What was taken back, and whether there is room for what is to come."""
    recovered = prepared.recovered
    if recovered.tasks:
        output.note(
            f"Recovered {plural(recovered.tasks, 'claim')} of {plural(recovered.workers, 'process')} that ended "
            "without a word."
        )
    if prepared.counts.unfinished:
        output.note(_room_line(prepared))


def _room_line(prepared: Prepared) -> str:
    """How much the disks have left, and how much is still to come where that can be told."""
    free = " and ".join(f"{size(room.free_bytes)} in {room.place}" for room in prepared.rooms)
    coming = f"; about {size(prepared.expected_bytes)} are still to come" if prepared.expected_bytes else ""
    return f"Free space: {free or 'unknown'}{coming}."
