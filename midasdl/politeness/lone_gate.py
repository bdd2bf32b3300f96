"""What a request passes: the gate of a ledger, or a stand-in where there is no ledger yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from midasdl.clock import Clock
from midasdl.politeness.state import Ticket


class Passage(Protocol):
    """As much of the gate as whoever makes requests needs to know."""

    def request(self, host: str, /) -> AbstractContextManager[Ticket]:
        """Wait until a request to `host` may start; it is over at the end of the block."""

    def pause(self, host: str, until_us: int, why: str, /) -> None:
        """Let nobody send to `host` before `until_us`."""


class LoneGate:
    """Stands in for the gate of a ledger before the first `midasdl init`, when there is no ledger to share.

    A command then makes one or two requests, from one process, one after the other: there is nobody to share limits
    with, so that spacing and pauses need only be kept in memory.

    Parameters
    ----------
    spacing_us : int
        Least time between the starts of two requests to a host.
    clock : Clock
    """

    def __init__(self, spacing_us: int, clock: Clock) -> None:
        self._spacing_us = spacing_us
        self._clock = clock
        self._next_start_at: dict[str, int] = {}

    @contextmanager
    def request(self, host: str, /) -> Iterator[Ticket]:
        """Wait for the next slot."""
        now = self._clock.now_us()
        self._clock.wait((self._next_start_at.get(host, now) - now) / 1e6)
        self._next_start_at[host] = self._clock.now_us() + self._spacing_us
        yield Ticket()

    def pause(self, host: str, until_us: int, _: str, /) -> None:
        """Put the next slot off."""
        self._next_start_at[host] = max(until_us, self._next_start_at.get(host, 0))
