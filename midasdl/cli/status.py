"""`midasdl status`: where a job stands, during a run or after it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from midasdl.cli.context import Subparsers, duration, ledger_path, number, plural, size
from midasdl.cli.damage import damage_lines
from midasdl.cli.output import Output, columns_of
from midasdl.cli.wording import HelpFormatter
from midasdl.errors import ExitCode

if TYPE_CHECKING:
    from midasdl.progress.snapshot import Snapshot

EXAMPLES = """examples:
  midasdl status
  midasdl status --watch
  midasdl --ledger other.db status --json

--watch shows the same picture as the run itself, from any terminal, until the run ends or you press Ctrl-C; with --json
a record each second. It reads the ledger alone and slows nothing.
"""

STATES = ("done", "in_progress", "pending", "failed")


def add_to(commands: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "status",
        parents=[shared],
        help="where the job stands",
        description="Show where a job stands; any terminal may ask while a run is on.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--watch", action="store_true", help="go on showing it until the run ends")
    parser.set_defaults(act=act)


def act(options: argparse.Namespace, output: Output) -> ExitCode:
    """Show the state of the ledger."""
    from midasdl.ledger.ledger import Ledger, data_root_of
    from midasdl.ledger.library import may_be_written
    from midasdl.ledger.overview import Overview
    from midasdl.ledger.watching import LedgerWatch
    from midasdl.progress.facts import facts_of

    path = ledger_path(options)
    with Ledger.open(path, read_only=not may_be_written(path), tell=output.note) as ledger:
        if options.watch:
            from midasdl.cli.watch import watch

            return watch(ledger, output)
        overview, ledger_watch = Overview(ledger), LedgerWatch(ledger)
        is_on = ledger_watch.run_is_on()
        facts: dict[str, Any] = {
            "ledger": ledger.path,
            "data_root": data_root_of(ledger),
            "counts": asdict(overview.counts()),
            "datasets": overview.progress(),
            "workers": overview.workers_now(),
            "pace": overview.pace() if is_on else [],
            "servers": overview.servers(),
            "health": overview.health(),
            "last_run": overview.last_run(),
            "failures": [asdict(group) for group in overview.failures()],
            "damaged": overview.damaged(),
        }
        snapshot = ledger_watch.snapshot() if output.json_lines or facts["workers"] else None
    if output.json_lines and snapshot is not None:
        output.record("status", {**facts, "progress": facts_of(snapshot)})
    else:
        pace = [] if snapshot is None else _pace_line(snapshot)
        _print(facts, [*_run_lines(facts, is_on=is_on), *pace], output.say)
    return ExitCode.DONE


def _pace_line(snapshot: Snapshot) -> list[str]:
    """How fast a run goes that is on, and when it will end."""
    from midasdl.cli.progress_words import eta_words, span
    from midasdl.progress.snapshot import Phase

    if snapshot.phase in {Phase.NOT_STARTED, Phase.ENDED}:
        return []
    return [
        f"{span(snapshot.elapsed_s)} gone; {size(snapshot.bytes_per_s)}/s, {snapshot.files_per_s:.1f} files/s over the "
        f"last minute; {eta_words(snapshot)}. Watch it with: midasdl status --watch"
    ]


def _print(facts: dict[str, Any], run: list[str], say: Callable[[str], None]) -> None:
    from midasdl.cli.table import table_lines

    counts = facts["counts"]
    tasks = sum(counts[state] for state in STATES)
    share = counts["done"] / tasks if tasks else 1.0
    say(
        f"{number(counts['done'])} of {plural(tasks, 'distinct content')} fetched ({share:.1%}, "
        f"{size(counts['bytes_done'])}), for {plural(counts['files'], 'file')} below {facts['data_root']}."
    )
    names = ["dataset", *(state.replace("_", " ") for state in STATES)]
    for line in table_lines(names, _table(facts["datasets"]), columns_of(sys.stdout), number):
        say(line)
    trouble = [*_server_lines(facts["servers"]), *_failure_lines(facts), *damage_lines(facts["damaged"])]
    for line in [*run, *_health_lines(facts["health"]), *trouble]:
        say(line)


def _table(datasets: list[dict[str, Any]]) -> list[list[Any]]:
    """How many files of each dataset are in each state."""
    files = {(row["dataset"], row["state"]): row["files"] for row in datasets}
    return [
        [name, *(files.get((name, state), 0) for state in STATES)]
        for name in sorted({name for name, _ in files})
    ]


def _run_lines(facts: dict[str, Any], *, is_on: bool) -> list[str]:
    workers = facts["workers"]
    if workers:
        held = sum(row["claimed"] for row in workers)
        return [f"At work: {plural(len(workers), 'worker')}, holding {plural(held, 'task')}.", *facts["pace"]]
    if is_on:
        return ["A run is on; none of its workers is at work now.", *facts["pace"]]
    run = facts["last_run"]
    if run is None:
        return ["No run yet. Start one with: midasdl run"]
    if run["ended_at"] is None:
        return [f"The last run, of {run['started_at']}, ended without a word. Go on with: midasdl resume"]
    return [
        f"The last run began {run['started_at']}, took {duration(run['seconds'])} and ended with exit code "
        f"{run['exit_code']}."
    ]


def _health_lines(servers: list[dict[str, Any]]) -> list[str]:
    """How each server has answered in the last run."""
    return [_health_line(server) for server in servers if server["requests"]]


def _health_line(server: dict[str, Any]) -> str:
    errors = f" ({server['errors']})" if server["errors"] else ""
    line = f"{server['host']}: {plural(server['requests'], 'request')}, {server['success_rate']:.1%} good{errors}"
    if server["p50_ms"] is not None:
        p50, p95, p99 = (f"{number(round(server[f'p{share}_ms']))} ms" for share in (50, 95, 99))
        line += f"; answers began after {p50} (P50), {p95} (P95), {p99} (P99)"
    return f"{line}; {number(server['active_requests'])} in flight."


def _server_lines(servers: list[dict[str, Any]]) -> list[str]:
    """What keeps workers from sending at the full rate, and why."""
    from midasdl.clock import SystemClock, iso_utc

    now = SystemClock().now_us()
    lines: list[str] = []
    for server in servers:
        host = server["host"]
        if server["breaker_open_since"]:
            lines.append(
                f"{host} has not been available since {iso_utc(server['breaker_open_since'])}; one request tries "
                f"again at {iso_utc(server['breaker_open_until'])}."
            )
        if server["paused_until"] > now:
            lines.append(
                f"{host} is left alone until {iso_utc(server['paused_until'])}: {server['pause_reason']}."
            )
        if server["throttle_share"] < 1:
            share = f"{server['throttle_share']:.0%}"
            lines.append(f"{host} is asked at {share} of the usual rate: {server['throttle_reason']}.")
    return lines


def _failure_lines(facts: dict[str, Any]) -> list[str]:
    lines = [f"Failed: {number(group['tasks'])} x {group['error_class']}" for group in facts["failures"]]
    return [*lines, 'See why: midasdl sql "SELECT * FROM failures"'] if lines else []
