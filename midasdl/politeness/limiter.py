"""When may the next request to a host start? A pure decision over what everybody knows of the host."""

from __future__ import annotations

from dataclasses import dataclass, replace

from midasdl.config.settings import (
    MOST_REQUESTS_TO_CEDA,
    CedaClientSettings,
    Settings,
    is_ceda,
)
from midasdl.politeness.breaker import BreakerRules, admit
from midasdl.politeness.state import LONGEST_PAUSE_US, HostState, Rules
from midasdl.politeness.throttle import spacing_us

NO_BREAKER = BreakerRules(enabled=False, failure_threshold=1, success_threshold=1, timeout_us=1)

CLOCK_SLACK_US = 60_000_000
"""A clock may be corrected by this much without a pause being taken for impossible."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run allows itself.

    Attributes
    ----------
    spacing_us : int
        Least time between two starts.
    in_flight : int or None
        Most requests at the same time, over all hosts; None is no limit.
    at_host : int or None
        Most requests at the same time to this host alone.
    """

    spacing_us: int
    in_flight: int | None
    at_host: int | None = None

    @property
    def are_none(self) -> bool:
        """Whether nothing is limited."""
        return self.spacing_us == 0 and self.in_flight is None and self.at_host is None

    @property
    def most(self) -> int | None:
        """Most requests that can ever be under way to this host."""
        return min((most for most in (self.in_flight, self.at_host) if most is not None), default=None)

    def are_reached(self, in_flight: int, at_host: int) -> bool:
        """Whether so many requests of others, over all hosts and to this one, leave no room for another."""
        return (self.in_flight is not None and in_flight >= self.in_flight) or (
            self.at_host is not None and at_host >= self.at_host
        )

    @property
    def tolerance_us(self) -> int:
        """How late a request may leave its slot; later ones ask anew, so that starts keep their distance."""
        return max(self.spacing_us // 20, 5_000)


def rules_from(settings: Settings) -> Rules:
    """How a run reacts to answers, from its settings."""
    breaker = settings.performance.circuit_breaker
    backoff = settings.performance.ceda_client.backoff
    return Rules(
        BreakerRules(
            breaker.enabled,
            breaker.failure_threshold,
            breaker.success_threshold,
            timeout_us=int(breaker.timeout_seconds * 1_000_000),
            patience_us=int(settings.run.server_patience_seconds * 1_000_000),
        ),
        base_wait_us=backoff.base_backoff_ms * 1_000,
        longest_wait_us=int(backoff.max_backoff_seconds * 1_000_000),
        multiplier=backoff.multiplier,
        jitter=backoff.jitter_factor,
    )


@dataclass(frozen=True, slots=True)
class Go:
    """The request may start at `at_us`."""

    at_us: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again at `until_us`; None where nobody knows, because all permits are taken."""

    until_us: int | None
    why: str


def give_back(state: HostState, missed_us: int, limits: Limits) -> HostState:
    """Return a slot that was missed; it is of use as long as nobody has been given the one behind it."""
    if state.next_start_at != missed_us + spacing_us(state.throttle, limits.spacing_us):
        return state
    return replace(state, next_start_at=missed_us, requests=state.requests - 1)


def decide(
    state: HostState,
    now_us: int,
    in_flight: int,
    limits: Limits,
    breaker: BreakerRules = NO_BREAKER,
    at_host: int = 0,
    lead_us: int = 0,
) -> tuple[HostState, Go | Wait]:
    """Give out the next slot, or say how long to wait.

    Parameters
    ----------
    state : HostState
    now_us : int
    in_flight : int
        Permits that others hold, for any host.
    limits : Limits
    breaker : BreakerRules
    at_host : int
        Those of them that are for this host.
    lead_us : int
        How much the requester needs before it can start.

    Returns
    -------
    state : HostState
        To be stored in the same transaction.
    Go or Wait
    """
    state = forget_impossible(state, now_us, in_flight, limits)
    if state.paused_until > now_us:
        return state, Wait(state.paused_until, state.pause_reason or "paused")
    if limits.are_reached(in_flight, at_host):
        return state, Wait(None, "all permits are taken")
    passed, refusal = admit(state.breaker, now_us, breaker)
    if refusal is not None:
        return state, Wait(refusal.until_us, refusal.why)
    at = max(now_us + lead_us, state.next_start_at)
    next_start_at = at + spacing_us(state.throttle, limits.spacing_us)
    return replace(state, next_start_at=next_start_at, requests=state.requests + 1, breaker=passed), Go(at)


def forget_impossible(state: HostState, now_us: int, in_flight: int, limits: Limits) -> HostState:
    """Reset instants that lie further ahead than any rule allows: the clock has been set back.

    Slots are handed out with permits only, so no more of them lie ahead than there are holders, and a few of
    workers that died. Those of living holders still hold after a reset: the next slot comes behind them.
    """
    holders = max(limits.most or 0, in_flight) + 1
    slot_us = spacing_us(state.throttle, limits.spacing_us)
    if state.next_start_at > now_us + 2 * holders * max(slot_us, 1_000_000):
        state = replace(state, next_start_at=now_us + holders * slot_us)
    if state.paused_until > now_us + LONGEST_PAUSE_US + CLOCK_SLACK_US:
        state = replace(state, paused_until=0, pause_reason=None)
    return state


def limits_from(settings: CedaClientSettings, host: str) -> Limits:
    """The limits of a run at a host: those of the settings, and never more than a host of CEDA's is to bear."""
    return Limits(
        settings.min_request_spacing_ms * 1000,
        settings.max_concurrent_requests or None,
        MOST_REQUESTS_TO_CEDA if is_ceda(host) else None,
    )
