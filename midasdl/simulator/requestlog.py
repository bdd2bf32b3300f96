"""What was asked of the stand-in: a record of each request, and figures over records.

No record holds a secret: a token appears as its ordinal, an ``Authorization`` header never.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import TextIO

from midasdl.errors import StorageError

_SETTLE_S = 1.0
_KEPT_RECORDS = 1_000_000


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request, as the server saw it.

    Attributes
    ----------
    number : int
        Counted from 1 in the order in which request lines were read.
    started : float
        When the request line had been read, in seconds since 1970.
    ended : float
        When the last bytes of the answer were handed to the network, or the request was given up.
    method, path : str
        The path is decoded and without its query.
    route : str
        ``token``, ``download``, ``listing``, ``signin`` or ``other``.
    status : int
        0 if there was no answer.
    connection : int
        Which TCP connection, counted from 1.
    token : str or None
        ``token-<ordinal>`` of the token that came with the request, ``unknown`` for a foreign one.
    sent_bytes : int
        Bytes of body, as framed by a Content-Encoding but not by chunks.
    fault : str or None
        The action of the fault that hit the request, or ``throttle``.
    range, user_agent : str or None
        These headers as they came.
    """

    number: int
    started: float
    ended: float
    method: str
    route: str
    path: str
    status: int
    connection: int
    token: str | None = None
    sent_bytes: int = 0
    fault: str | None = None
    range: str | None = None
    user_agent: str | None = None


@dataclass(slots=True)
class OpenRecord:
    """A request that is being answered; whoever answers it fills it in."""

    number: int
    started: float
    connection: int
    client_has_left: Callable[[], bool]
    method: str = ""
    route: str = "other"
    path: str = ""
    status: int = 0
    token: str | None = None
    sent_bytes: int = 0
    fault: str | None = None
    range: str | None = None
    user_agent: str | None = None
    ended: float | None = None

    def close(self, now_s: float) -> RequestRecord:
        """Return the finished record; a request whose answer was not sent to its end has ended now."""
        return RequestRecord(
            self.number,
            self.started,
            now_s if self.ended is None else self.ended,
            self.method,
            self.route,
            self.path,
            self.status,
            self.connection,
            self.token,
            self.sent_bytes,
            self.fault,
            self.range,
            self.user_agent,
        )


class RequestLog:
    """Every request so far, and optionally a file with one JSON object a line, in the order of their ends.

    A reader who has received an answer to its end, or has given up on it, finds the record of it: `snapshot`
    waits for the moment that lies between.

    Concurrency: every method may be called from any thread.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._numbers = count(1)
        self._changed = threading.Condition()
        self._records: deque[RequestRecord] = deque(maxlen=_KEPT_RECORDS)
        self._open: dict[int, OpenRecord] = {}
        self._ending = 0
        self._path = path
        self._file: TextIO | None = None

    def open(self) -> None:
        """Open the file, if there is to be one; lines are appended.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        if self._path is None or self._file is not None:
            return
        try:
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise StorageError(f"the request log {self._path} cannot be written: {error.strerror}") from error

    def begin(
        self, started: float, connection: int, client_has_left: Callable[[], bool] = lambda: False
    ) -> OpenRecord:
        """Begin the record of a request whose line has just been read.

        `client_has_left` is asked by `snapshot`, from other threads, until the record is committed.
        """
        record = OpenRecord(next(self._numbers), started, connection, client_has_left)
        with self._changed:
            self._open[record.number] = record
        return record

    def ending(self, record: OpenRecord, now_s: float) -> None:
        """Note that the last bytes of the answer are about to leave."""
        with self._changed:
            if record.ended is None:
                self._ending += 1
            record.ended = now_s

    def commit(self, record: OpenRecord, now_s: float) -> None:
        """Keep the record of a request that is over."""
        finished = record.close(now_s)
        with self._changed:
            self._ending -= 0 if record.ended is None else 1
            del self._open[record.number]
            self._records.append(finished)
            if self._file is not None:
                self._file.write(json.dumps(asdict(finished)) + "\n")
                self._file.flush()
            self._changed.notify_all()

    def snapshot(self) -> list[RequestRecord]:
        """Return the finished requests in the order in which they started."""
        with self._changed:
            self._settle()
            return sorted(self._records, key=lambda record: record.number)

    def clear(self) -> None:
        """Forget the finished requests; numbers go on, and the file keeps its lines."""
        with self._changed:
            self._settle()
            self._records.clear()

    def close(self) -> None:
        """Close the file; later records are kept in memory only."""
        with self._changed:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _settle(self) -> None:
        self._changed.wait_for(lambda: not self._is_closing(), timeout=_SETTLE_S)

    def _is_closing(self) -> bool:
        return self._ending > 0 or any(record.client_has_left() for record in self._open.values())


def gaps(records: Iterable[RequestRecord]) -> list[float]:
    """Return the seconds between each start and the next."""
    return [later - earlier for earlier, later in pairwise(_starts(records))]


def busiest_window(records: Iterable[RequestRecord], seconds: float) -> int:
    """Return the greatest number of starts in any window of that length; its end does not belong to it."""
    starts = _starts(records)
    return max(
        (bisect_left(starts, start + seconds) - index for index, start in enumerate(starts)), default=0
    )


def peak_in_flight(records: Iterable[RequestRecord]) -> int:
    """Return the greatest number of requests that were being answered at one moment."""
    steps = sorted(step for record in records for step in _steps(record))
    peak = running = 0
    for _, _, change in steps:
        running += change
        peak = max(peak, running)
    return peak


def _steps(record: RequestRecord) -> tuple[tuple[float, int, int], tuple[float, int, int]]:
    ends_as_it_starts = record.ended <= record.started
    return (record.started, 1, 1), (record.ended, 2 if ends_as_it_starts else 0, -1)


def _starts(records: Iterable[RequestRecord]) -> list[float]:
    return sorted(record.started for record in records)
