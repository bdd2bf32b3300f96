"""When a server is down, nobody asks; after a while one asks for all. Pure.

::

    closed ──threshold failures in a row──> open ──timeout──> half-open ──enough successes──> closed
                                              ^                   │
                                              └──one failure──────┘
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, StrEnum


class Answer(Enum):
    """What a request says about the health of the server."""

    GOOD = "it answered, if only to say that there is no such file"
    UNSURE = "it had an error of its own"
    DOWN = "it was unavailable, silent or refused the connection"


class BreakerState(StrEnum):
    """Where a breaker stands, as people read it."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When the breaker opens and closes.

    Attributes
    ----------
    failure_threshold, success_threshold : int
        Failures in a row that open it; successes of probes that close it.
    timeout_us : int
        How long it stays open before a probe, and how long a probe may take.
    patience_us : int
        A run gives up when the server has been away for so long.
    """

    enabled: bool
    failure_threshold: int
    success_threshold: int
    timeout_us: int
    patience_us: int = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Breaker:
    """The state that all processes share; times in microseconds since 1970.

    Attributes
    ----------
    failures : int
        In a row, while closed.
    successes : int
        Of probes, while half-open.
    open_since : int
        When it left the closed state; 0 while closed.
    open_until : int
        Nobody sends before this.
    probe_until : int
        A probe is under way, unless its process has died by then.
    """

    failures: int = 0
    successes: int = 0
    open_since: int = 0
    open_until: int = 0
    probe_until: int = 0

    @property
    def is_closed(self) -> bool:
        """Whether requests pass freely."""
        return self.open_since == 0

    @property
    def state(self) -> BreakerState:
        """Closed; half-open while requests try whether the server is back; else open."""
        if self.is_closed:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if self.probe_until or self.successes else BreakerState.OPEN


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nobody may send before `until_us`; then ask again."""

    until_us: int
    why: str


PROBE_PATIENCE_US = 500_000
"""How soon to ask again while somebody else's probe is under way."""


def admit(breaker: Breaker, now_us: int, rules: BreakerRules) -> tuple[Breaker, Refusal | None]:
    """Let a request pass, as a probe if the breaker is half-open, or refuse it.

    Returns
    -------
    breaker : Breaker
        To be stored if the request starts.
    Refusal or None
    """
    if breaker.is_closed or not rules.enabled:
        return breaker, None
    longest_us = now_us + rules.timeout_us
    if now_us < breaker.open_until <= longest_us:
        return breaker, Refusal(breaker.open_until, "CEDA is not available; one request will try again then")
    if now_us < breaker.probe_until <= longest_us:
        until = min(breaker.probe_until, now_us + PROBE_PATIENCE_US)
        return breaker, Refusal(until, "one request is trying whether CEDA is available again")
    return replace(breaker, probe_until=longest_us), None


def learn(breaker: Breaker, answer: Answer, now_us: int, rules: BreakerRules) -> Breaker:
    """Take in what a request has shown."""
    if not rules.enabled:
        return breaker
    if breaker.is_closed:
        return _learn_closed(breaker, answer, now_us, rules)
    if now_us < breaker.open_until <= now_us + rules.timeout_us:
        return breaker
    return _learn_half_open(replace(breaker, probe_until=0), answer, now_us, rules)


def _learn_closed(breaker: Breaker, answer: Answer, now_us: int, rules: BreakerRules) -> Breaker:
    if answer is Answer.UNSURE:
        return breaker
    if answer is Answer.GOOD:
        return breaker if breaker.failures == 0 else Breaker()
    failures = breaker.failures + 1
    if failures < rules.failure_threshold:
        return replace(breaker, failures=failures)
    return Breaker(failures=failures, open_since=now_us, open_until=now_us + rules.timeout_us)


def _learn_half_open(breaker: Breaker, answer: Answer, now_us: int, rules: BreakerRules) -> Breaker:
    if answer is Answer.DOWN:
        return replace(breaker, successes=0, open_until=now_us + rules.timeout_us)
    if answer is Answer.UNSURE:
        return breaker
    successes = breaker.successes + 1
    return Breaker() if successes >= rules.success_threshold else replace(breaker, successes=successes)
