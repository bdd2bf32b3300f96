"""Asking again, for the few requests of a command that no ledger schedules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from midasdl.ceda.verdict import Fate, FetchError, Verdict
from midasdl.clock import Clock
from midasdl.config import Settings
from midasdl.politeness.backoff import Backoff
from midasdl.politeness.lone_gate import Passage

CAUTION = 4.0
"""A server that has errors of its own is left alone this many times longer."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Patience:
    """How often to ask again, and how long to wait before.

    Attributes
    ----------
    max_retries : int
        Retries after the first request.
    uniform : callable
        Source of randomness, such as `random.uniform`.
    """

    max_retries: int
    backoff: Backoff
    uniform: Callable[[float, float], float]

    @classmethod
    def from_settings(cls, settings: Settings, uniform: Callable[[float, float], float]) -> Patience:
        """The patience of ``[performance.ceda_client.backoff]``."""
        waits = settings.performance.ceda_client.backoff
        backoff = Backoff(
            waits.base_backoff_ms / 1000, waits.max_backoff_seconds, waits.multiplier, waits.jitter_factor
        )
        return cls(waits.max_retries, backoff, uniform)

    def wait_s(self, failures: int, verdict: Verdict) -> float | None:
        """Seconds to wait after so many failures in a row, or None where asking again is of no use."""
        if failures > self.max_retries or verdict.fate not in {Fate.RETRY, Fate.RETRY_LATER}:
            return None
        wait_s = self.backoff.wait_s(failures, self.uniform)
        if verdict.fate is Fate.RETRY_LATER:
            wait_s = min(wait_s * CAUTION, self.backoff.longest_s)
        return max(wait_s, verdict.retry_after_s or 0.0)


def persist(
    ask: Callable[[], Answer],
    host: str,
    patience: Patience,
    gate: Passage,
    clock: Clock,
    on_retry: Callable[[Verdict, float], None] = lambda _verdict, _wait_s: None,
) -> Answer:
    """Ask until there is an answer or patience ends; a server that asks to wait is heard by everybody.

    Parameters
    ----------
    ask : callable
        Makes one request, through the gate.
    host : str
        Whom it asks.
    on_retry : callable
        Told what went wrong and how many seconds are waited.

    Raises
    ------
    FetchError
        The last one.
    """
    failures = 0
    while True:
        try:
            return ask()
        except FetchError as error:
            failures += 1
            verdict = error.verdict
            wait_s = patience.wait_s(failures, verdict)
            if verdict.retry_after_s is not None:
                until_us = clock.now_us() + int(verdict.retry_after_s * 1e6)
                gate.pause(host, until_us, f"CEDA answered {verdict.http_status} and asked to wait")
            if wait_s is None:
                raise
        on_retry(verdict, wait_s)
        clock.wait(wait_s)
