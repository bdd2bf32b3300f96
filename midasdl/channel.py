"""The pipe between a worker and its coordinator.

Progress may be dropped, greetings and farewells may not; sending never makes a worker wait.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

from midasdl.errors import MidasdlError
from midasdl.progress.events import DownloadCompleted, DownloadStarted, Event

SEND_EVERY_S = 0.4
"""As often as a picture is drawn: what is told of a small file is one message then, and not one for its start and one
for its end. All workers send at the same moments, so that who listens wakes once for all of them."""

FAREWELL_S = 2.0
"""What is still being sent at the end gets so long."""

PULSE_EVERY_S = 1.0
"""A worker that runs sends something at least this often."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The worker has started and entered itself in the ledger."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class News:
    """What happened since the last message; also a sign of life."""

    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Bye:
    """The worker ends: because nothing is left or it was asked to (None), or because of `error`.

    `quota_is_spent`: there may be more to do, but not for this worker. `is_at_rest`: there may be more to do, also for
    this worker, when it is called again.
    """

    error: MidasdlError | None
    quota_is_spent: bool = False
    is_at_rest: bool = False


Message = Hello | News | Bye


class Channel:
    """A worker's end of the pipe.

    Parameters
    ----------
    pipe : Connection
    buffer_size : int
        Events held; when more come, the oldest are dropped.

    Notes
    -----
    Concurrency: a thread of its own sends, so that a slow reader never slows a download.
    """

    def __init__(self, pipe: Connection, buffer_size: int) -> None:
        self._pipe = pipe
        self._events: deque[Event] = deque(maxlen=buffer_size)
        self._has_news = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._send_on_and_on, daemon=True, name="channel")

    def greet(self, worker_id: int) -> None:
        """Say who we are, and begin to send."""
        with suppress(OSError):
            self._pipe.send(Hello(worker_id))
        self._thread.start()

    def post(self, event: Event) -> None:
        """Tell of progress; never waits, never fails.

        That a file was begun need not be told where the same message tells that it has come.
        """
        if type(event) is not DownloadCompleted or not self._replaces_its_start(event):
            self._events.append(event)
        if not self._has_news.is_set():
            self._has_news.set()

    def _replaces_its_start(self, event: DownloadCompleted) -> bool:
        """Nobody else appends: what is last stays so, or it is sent meanwhile and nothing is there any more."""
        events = self._events
        try:
            last = events[-1]
            if type(last) is DownloadStarted and last.task_id == event.task_id:
                events[-1] = event
                return True
        except IndexError:
            pass
        return False

    def close(self, bye: Bye) -> None:
        """Send what is left and say goodbye; the pipe ends with the process, since another thread listens to it."""
        self._closing.set()
        self._has_news.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=FAREWELL_S)
        with suppress(OSError):
            self._send_events()
            self._pipe.send(bye)

    def _send_on_and_on(self) -> None:
        """Sleep until there is news, then until it is time to send: who has nothing to tell wakes nobody."""
        with suppress(OSError):
            while True:
                self._has_news.wait(PULSE_EVERY_S)
                if self._closing.wait(SEND_EVERY_S - time.monotonic() % SEND_EVERY_S):
                    return
                self._has_news.clear()
                if self._closing.is_set():  # what was cleared may have been its news
                    return
                self._send_events()

    def _send_events(self) -> None:
        events: list[Event] = []
        with suppress(IndexError):
            while True:
                events.append(self._events.popleft())
        self._pipe.send(News(tuple(events)))
