"""What everybody who shares a ledger knows of a host, and how an answer changes it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from midasdl.politeness.breaker import Answer, Breaker, BreakerRules, learn
from midasdl.politeness.throttle import Throttle, observe, slow_down

LONGEST_PAUSE_US = 3_600_000_000
"""No pause is longer; a stored instant further ahead means that the clock was set back."""

FIRST_PAUSE = 20
"""A server that asks for patience without saying how much gets this many times the base backoff."""


UNTROUBLED = Breaker()


@dataclass(frozen=True, slots=True)
class HostState:
    """The row of a host; times in microseconds since 1970.

    Attributes
    ----------
    next_start_at : int
        The earliest moment for the next request.
    paused_until : int
        Nobody sends before this.
    consecutive_errors : int
        Over all workers; any answer with a file sets it back.
    strikes : int
        Times in a row that the server asked for patience without saying how much.
    requests, successes : int
        Slots handed out, and files that came, so far.
    """

    next_start_at: int = 0
    paused_until: int = 0
    pause_reason: str | None = None
    consecutive_errors: int = 0
    strikes: int = 0
    requests: int = 0
    successes: int = 0
    breaker: Breaker = field(default_factory=Breaker)
    throttle: Throttle = field(default_factory=Throttle)

    def is_well(self, now_us: int) -> bool:
        """Whether nothing keeps anybody from sending at the full rate."""
        return self.paused_until <= now_us and self.breaker.is_closed and self.throttle.share >= 1

    @property
    def is_calm(self) -> bool:
        """Whether no trouble is remembered that a good answer would put in the past."""
        return (
            self.consecutive_errors == 0
            and self.strikes == 0
            and self.breaker == UNTROUBLED
            and self.throttle.share >= 1
            and self.throttle.window_errors == 0
        )


class Report(NamedTuple):
    """What came of one request.

    Attributes
    ----------
    outcome : str
        ``ok`` or the word of the error class.
    answer : Answer
        What it says about the server's health.
    is_error : bool
        Whether it counts as an error of the server or of the way to it.
    latency_us : int or None
        Until the first byte.
    asks_to_wait : bool
        The server said that it is asked too much (429, 503).
    retry_after_us : int or None
        For how long it asked to be left alone.
    is_only_counted : bool
        It changes nothing of what everybody knows of the host.
    """

    outcome: str
    answer: Answer
    is_error: bool
    latency_us: int | None = None
    asks_to_wait: bool = False
    retry_after_us: int | None = None
    http_status: int | None = None
    is_only_counted: bool = False


@dataclass(slots=True)
class Ticket:
    """One request's way through the gate; whoever made the request says what came of it."""

    report: Report | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """How a run reacts to answers.

    Attributes
    ----------
    base_wait_us, longest_wait_us : int
        Of the backoff.
    multiplier, jitter : float
    """

    breaker: BreakerRules
    base_wait_us: int
    longest_wait_us: int
    multiplier: float
    jitter: float


def fold(
    state: HostState, report: Report, now_us: int, rules: Rules, uniform: Callable[[float, float], float]
) -> HostState:
    """Take in what came of one request."""
    throttle = observe(state.throttle, now_us, report.latency_us, is_error=report.is_error)
    state = replace(
        state,
        breaker=learn(state.breaker, report.answer, now_us, rules.breaker),
        throttle=throttle,
        consecutive_errors=state.consecutive_errors + 1 if report.is_error else 0,
        successes=state.successes + int(report.outcome == "ok"),
        strikes=0 if report.outcome == "ok" and now_us >= state.paused_until else state.strikes,
    )
    return _pause_as_asked(state, report, now_us, rules, uniform) if report.asks_to_wait else state


def pause(state: HostState, until_us: int, why: str) -> HostState:
    """Nobody sends before `until_us`; a longer pause that is on already stays."""
    if until_us <= state.paused_until:
        return state
    return replace(state, paused_until=until_us, pause_reason=why)


def _pause_as_asked(
    state: HostState, report: Report, now_us: int, rules: Rules, uniform: Callable[[float, float], float]
) -> HostState:
    """Leave the server alone for as long as it says, or ever longer; then begin again at a lower rate.

    Requests that were in flight together and are all refused count once.
    """
    calmer = replace(
        state,
        throttle=slow_down(
            state.throttle, now_us, f"CEDA answered {report.http_status}: it is asked too much"
        ),
    )
    if report.retry_after_us is not None:
        wait_us = min(report.retry_after_us, LONGEST_PAUSE_US)
        return pause(
            calmer,
            now_us + wait_us,
            f"CEDA answered {report.http_status} and asked to wait for {wait_us / 1e6:.0f} s",
        )
    if state.paused_until > now_us:
        return calmer
    plain_us = rules.base_wait_us * FIRST_PAUSE * rules.multiplier**state.strikes
    wait_us = int(min(plain_us, rules.longest_wait_us) * uniform(1 - rules.jitter, 1 + rules.jitter))
    calmer = replace(calmer, strikes=min(state.strikes + 1, 30))
    return pause(
        calmer,
        now_us + wait_us,
        f"CEDA answered {report.http_status}; it is left alone for {wait_us / 1e6:.0f} s",
    )
