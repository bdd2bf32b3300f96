"""What has changed for whoever sends to a host, in words that are kept. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from midasdl.clock import iso_utc
from midasdl.politeness.breaker import Breaker, BreakerState
from midasdl.politeness.state import HostState
from midasdl.politeness.throttle import Throttle

LONGER_US = 1_000_000
"""A pause that is prolonged by no more than this is the same pause: requests in flight are refused together."""


@dataclass(frozen=True, slots=True)
class Step:
    """One change: of the throttle's share, of the breaker's state, or a pause begun.

    Attributes
    ----------
    what : str
        ``throttle``, ``breaker`` or ``pause``.
    from_value : str or None
        Share, state or end of the pause before; None where there was no pause.
    to_value : str
        The same from now on.
    reason : str
        In words.
    """

    what: str
    from_value: str | None
    to_value: str
    reason: str


def steps(old: HostState, new: HostState, now_us: int, outcome: str | None = None) -> tuple[Step, ...]:
    """The steps that lead from one state of a host to the next.

    Parameters
    ----------
    outcome : str, optional
        Of the request that has changed it.
    """
    found = (
        _throttle_step(old.throttle, new.throttle),
        _breaker_step(old.breaker, new.breaker, outcome),
        _pause_step(old, new, now_us),
    )
    return tuple(step for step in found if step is not None)


def _throttle_step(old: Throttle, new: Throttle) -> Step | None:
    if old.share == new.share:
        return None
    went_down = new.share < old.share
    reason = new.reason if went_down else "no further trouble"
    return Step("throttle", _percent(old.share), _percent(new.share), reason or "")


def _percent(share: float) -> str:
    return f"{share * 100:.4g}%"


def _breaker_step(old: Breaker, new: Breaker, outcome: str | None) -> Step | None:
    if old.state is new.state:
        return None
    return Step("breaker", old.state, new.state, _breaker_reason(old, new, outcome))


def _breaker_reason(old: Breaker, new: Breaker, outcome: str | None) -> str:
    match new.state:
        case BreakerState.HALF_OPEN:
            return "one request tries whether the server is available again"
        case BreakerState.CLOSED:
            return f"requests that tried were answered, the last with: {outcome}"
        case BreakerState.OPEN if old.is_closed:
            return f"failures in a row: {new.failures}, the last with: {outcome}"
        case _:
            return f"the request that tried ended with: {outcome}"


def _pause_step(old: HostState, new: HostState, now_us: int) -> Step | None:
    is_on = old.paused_until > now_us
    if new.paused_until <= max(now_us, old.paused_until + (LONGER_US if is_on else 0)):
        return None
    from_value = iso_utc(old.paused_until) if is_on else None
    return Step("pause", from_value, iso_utc(new.paused_until), new.pause_reason or "")
