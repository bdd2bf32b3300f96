"""A run in seven lines, as wide as the terminal is: what a person sees, from a snapshot alone. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from midasdl.cli.context import number, size
from midasdl.cli.progress_words import eta_words, percent, server_words, span
from midasdl.manifest.line import parse_path
from midasdl.progress.snapshot import Phase, Server, Snapshot

LABEL_CELLS = 8
NARROWEST = 20
PERCENT_CELLS = 8

DONE_STYLE = "green"
FAILED_STYLE = "red"
TROUBLE_STYLE = "bold"
QUIET_STYLE = "dim"
"""Colours of the terminal's own palette, which people choose to be readable on their background."""


IDLE = {
    Phase.WARMING_UP: "workers are starting",
    Phase.WORKING: "no file on its way",
    Phase.PAUSED: "nobody works meanwhile",
    Phase.STOPPING: "what is in flight is finished first",
}
"""What goes on while no worker is busy with a file."""


@dataclass(frozen=True, slots=True)
class Symbols:
    """What a terminal can show."""

    dot: str
    ellipsis: str
    done: str
    failed: str
    left: str


UNICODE = Symbols(" · ", "…", "█", "▒", "░")
ASCII = Symbols(" - ", "...", "#", "x", ".")


def symbols_for(encoding: str) -> Symbols:
    """Plain characters where the terminal's encoding has no others."""
    return UNICODE if encoding.lower().replace("-", "").startswith("utf") else ASCII


def picture(snapshot: Snapshot, width: int, symbols: Symbols) -> list[Text]:
    """Seven lines, whatever is known; what matters less is left out where it is narrow.

    None reaches the last cell of `width`: terminals differ in what they do there.
    """
    width = max(width - 1, NARROWEST)
    labelled = {
        "files": fitting(_files(snapshot), width - LABEL_CELLS, symbols),
        "speed": fitting(_speed(snapshot), width - LABEL_CELLS, symbols),
        "time": fitting(_time(snapshot), width - LABEL_CELLS, symbols),
        "now": _now(snapshot, width - LABEL_CELLS, symbols),
        "server": _server(snapshot, width - LABEL_CELLS, symbols),
    }
    rows = {
        name: Text.assemble((name.ljust(LABEL_CELLS), QUIET_STYLE), text) for name, text in labelled.items()
    }
    return [
        _title(snapshot, width, symbols),
        rows["files"],
        bar(snapshot, width, symbols),
        *(rows[name] for name in ("speed", "time", "now", "server")),
    ]


def bar(snapshot: Snapshot, width: int, symbols: Symbols) -> Text:
    """What is done and what has failed, as a part of all files, and the share done, never rounded up to 100 %."""
    cells = width - PERCENT_CELLS
    files = snapshot.files
    done = math.floor(cells * files.share_done)
    failed = min(cells - done, math.ceil(cells * files.failed / files.total)) if files.total else 0
    return Text.assemble(
        (symbols.done * done, DONE_STYLE),
        (symbols.failed * failed, FAILED_STYLE),
        (symbols.left * (cells - done - failed), QUIET_STYLE),
        percent(files.share_done).rjust(PERCENT_CELLS),
    )


def fitting(parts: Sequence[tuple[str, str]], width: int, symbols: Symbols) -> Text:
    """As many of the parts as have room, the first ones first; each with its style."""
    text = Text()
    for words, style in parts:
        before = symbols.dot if text.cell_len else ""
        if text.cell_len + cell_len(before) + cell_len(words) > width:
            break
        text.append(before, QUIET_STYLE).append(words, style)
    if not text.cell_len and parts:
        text.append(shortened(parts[0][0], width, symbols), parts[0][1])
    return text


def one_line(words: str) -> str:
    """With a blank for whatever would move the cursor."""
    return words if words.isprintable() else "".join(c if c.isprintable() else " " for c in words)


def shortened(words: str, width: int, symbols: Symbols) -> str:
    """On one line, and without its end where it is too long."""
    words = one_line(words)
    if cell_len(words) <= width:
        return words
    while words and cell_len(words) + cell_len(symbols.ellipsis) > width:
        words = words[:-1]
    return words + symbols.ellipsis


def shortened_path(path: str, width: int, symbols: Symbols) -> str:
    """Without its beginning where it is too long: station and year stand at the end, and matter most."""
    path = one_line(path)
    if cell_len(path) <= width:
        return path
    room = max(0, width - cell_len(symbols.ellipsis))
    while path and cell_len(path) > room:
        path = path[1:]
    return symbols.ellipsis + path


def _title(snapshot: Snapshot, width: int, symbols: Symbols) -> Text:
    """Dataset and release of the file that was turned to last, and what the run is busy with as a whole."""
    info = parse_path(snapshot.latest_path) if snapshot.latest_path else None
    what = f"{info.dataset}{symbols.dot}release {info.release}" if info and info.dataset else "MIDAS Open"
    phase = _phase(snapshot)
    what = shortened(what, width - len(phase) - 1, symbols)
    gap = " " * max(1, width - cell_len(what) - len(phase))
    return Text.assemble((what, "bold"), gap, (phase, QUIET_STYLE))


def _phase(snapshot: Snapshot) -> str:
    """What the run does; while a server gives nobody anything, it waits."""
    is_held_up = any(
        server.paused_until_s is not None or server.breaker == "open" for server in snapshot.servers
    )
    return "waiting" if is_held_up and snapshot.phase is Phase.WORKING else str(snapshot.phase)


def _files(snapshot: Snapshot) -> list[tuple[str, str]]:
    files = snapshot.files
    at_work = f"{number(len(snapshot.active))} at work"
    parts = [
        (f"{number(files.done)} of {number(files.total)} done", ""),
        (f"{number(files.failed)} failed", FAILED_STYLE if files.failed else QUIET_STYLE),
        (at_work, "" if snapshot.active else QUIET_STYLE),
    ]
    if snapshot.cached:
        parts.append((f"{number(snapshot.cached)} were on disk", ""))
    if snapshot.retrying:
        parts.append((f"{number(snapshot.retrying)} tried again", ""))
    return parts


def _speed(snapshot: Snapshot) -> list[tuple[str, str]]:
    here = size(snapshot.bytes_done)
    if snapshot.bytes_expected is not None and snapshot.tasks.left > 0:
        here += f" of about {size(snapshot.bytes_expected)}"
    return [
        (f"{size(snapshot.bytes_per_s)}/s", ""),
        (here, ""),
        (f"{snapshot.files_per_s:.1f} files/s", ""),
    ]


def _time(snapshot: Snapshot) -> list[tuple[str, str]]:
    return [(f"{span(snapshot.elapsed_s)} gone", ""), (eta_words(snapshot), "")]


def _now(snapshot: Snapshot, width: int, symbols: Symbols) -> Text:
    if not snapshot.active:
        return Text(shortened(IDLE.get(snapshot.phase, ""), width, symbols), QUIET_STYLE)
    file = snapshot.active[-1]
    more = f" ({size(file.size_bytes)})" if file.size_bytes and width > 2 * NARROWEST else ""
    return Text(shortened_path(file.path, width - len(more), symbols) + more)


def _server(snapshot: Snapshot, width: int, symbols: Symbols) -> Text:
    for server in sorted(snapshot.servers, key=_how_bad, reverse=True):
        words = server_words(server)
        if words is not None:
            return Text(shortened(words, width, symbols), TROUBLE_STYLE)
    if snapshot.notice is not None and snapshot.phase is not Phase.ENDED:
        return Text(shortened(snapshot.notice, width, symbols), TROUBLE_STYLE)
    return Text(shortened("nothing holds it up", width, symbols), QUIET_STYLE)


def _how_bad(server: Server) -> tuple[bool, bool, float]:
    return server.paused_until_s is not None, server.breaker != "closed", -server.throttle_share
