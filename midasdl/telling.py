"""A sink that tells how much of a large body is here, as it comes."""

from __future__ import annotations

from collections.abc import Callable

from midasdl.ceda.ranges import Held, Sink
from midasdl.clock import Clock
from midasdl.progress.events import DownloadProgress, Event

TELL_EVERY_S = 0.5
"""More often, nobody would see."""


class TellingSink(Sink):
    """Passes a body on, and tells of it now and then.

    Parameters
    ----------
    sink : Sink
        Takes the bytes.
    task_id : int
    send : callable
        Takes progress events; never blocks, never fails.
    """

    def __init__(self, sink: Sink, task_id: int, send: Callable[[Event], None], clock: Clock) -> None:
        self._sink = sink
        self._task_id = task_id
        self._send = send
        self._clock = clock
        self._held_bytes: int | None = None
        self._size_bytes = 0
        self._told_s = 0.0

    @property
    def held(self) -> Held | None:  # type: ignore[override]
        """The beginning that an earlier attempt left."""
        return self._sink.held

    def begin(self, validator: str | None) -> None:
        """The file comes from its first byte."""
        self._begin_after(0)
        self._sink.begin(validator)

    def write(self, chunk: bytes, /) -> None:
        """Pass on, and tell if it is time."""
        if self._held_bytes is None:
            self._begin_after(self.held.size_bytes if self.held else 0)
        self._sink.write(chunk)
        self._size_bytes += len(chunk)
        now_s = self._clock.monotonic()
        if now_s - self._told_s >= TELL_EVERY_S:
            self._told_s = now_s
            self._send(DownloadProgress(self._task_id, self._size_bytes, self._held_bytes or 0))

    def drop(self) -> None:
        """What is held is of no use."""
        self._sink.drop()

    def _begin_after(self, held_bytes: int) -> None:
        self._held_bytes = self._size_bytes = held_bytes
        self._told_s = self._clock.monotonic()
