"""Progress where nobody sits before a terminal: a line now and then, or a record for a program."""

from __future__ import annotations

from collections.abc import Callable

from midasdl.cli.context import number, size
from midasdl.cli.progress_words import eta_words, percent, server_words
from midasdl.clock import Clock
from midasdl.progress.facts import Facts, facts_of
from midasdl.progress.snapshot import Phase, Snapshot

LINE_EVERY_S = 30.0
LINE_LATER_EVERY_S = 180.0
FREQUENT_S = 3_600.0
"""A line each half minute in the first hour, later one each three minutes: a day makes less than 100 kB."""

LINE_EVERY_SHARE = 0.05
SHORTEST_SILENCE_S = 5.0
"""A quick job does not chatter."""

RECORD_EVERY_S = 1.0


class Lines:
    """One plain line now and then, for logs of batch systems and pipes.

    Parameters
    ----------
    say : callable
        Takes a line.
    """

    def __init__(self, say: Callable[[str], None], clock: Clock) -> None:
        self._say = say
        self._clock = clock
        self._began_s = self._said_s = clock.monotonic()
        self._said_share: float | None = None

    def show(self, snapshot: Snapshot) -> None:
        """Say how things stand, if it is time."""
        now_s, share = self._clock.monotonic(), snapshot.files.share_done
        if self._said_share is None:
            self._said_share = share
        if snapshot.phase is Phase.ENDED or not self._is_time(now_s, share):
            return
        self._said_s, self._said_share = now_s, share
        self._say(line_of(snapshot))

    def _is_time(self, now_s: float, share: float) -> bool:
        silent_s = now_s - self._said_s
        every_s = LINE_EVERY_S if now_s - self._began_s <= FREQUENT_S else LINE_LATER_EVERY_S
        progressed = share - (self._said_share or 0.0) >= LINE_EVERY_SHARE
        return silent_s >= every_s or (progressed and silent_s >= SHORTEST_SILENCE_S)


class Records:
    """A record each second, for programs.

    Parameters
    ----------
    record : callable
        Takes the kind of a record and its facts.
    """

    def __init__(self, record: Callable[[str, Facts], None], clock: Clock) -> None:
        self._record = record
        self._clock = clock
        self._due_s = clock.monotonic()

    def show(self, snapshot: Snapshot) -> None:
        """Record how things stand, if it is time; the end always."""
        now_s = self._clock.monotonic()
        if now_s >= self._due_s or snapshot.phase is Phase.ENDED:
            self._due_s = now_s + RECORD_EVERY_S
            self._record("progress", facts_of(snapshot))


def line_of(snapshot: Snapshot) -> str:
    """How things stand, in one line without colours."""
    files = snapshot.files
    parts = [
        f"{number(files.done)} of {number(files.total)} files done ({percent(files.share_done)})",
        f"{number(files.failed)} failed",
        f"{size(snapshot.bytes_per_s)}/s",
        eta_words(snapshot) if snapshot.phase is Phase.WORKING else str(snapshot.phase),
    ]
    held_up = [words for words in map(server_words, snapshot.servers) if words is not None]
    return ", ".join(parts) + "".join(f"; {words}" for words in held_up[:1])
