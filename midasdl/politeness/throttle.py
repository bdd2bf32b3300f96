"""Slowing down before the server has to ask for it, and speeding up again gently. Pure.

The rate is a share of what the settings allow. Trouble halves it, calm adds a tenth at a time: multiplicative
decrease, additive increase, as TCP does it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

ERROR_RATE = 0.10
LATENCY_FACTOR = 2.0
LEAST_SLOWDOWN_US = 20_000
"""A doubling from 2 to 4 ms says nothing about a server."""

ENOUGH = 20
"""Answers before a rate of errors or a latency means anything."""

WINDOW = 100
"""Answers after which the count of errors begins anew."""

DOWN = 0.5
UP = 0.1
LEAST_SHARE = 1 / 16
STEP_EVERY_US = 5_000_000
"""A step shows its effect before the next one is taken."""

RECENT = 1 / 10
LONG_TERM = 1 / 2000
"""How much one answer moves the present latency, and what is held for usual."""


@dataclass(frozen=True, slots=True)
class Throttle:
    """The state that all processes share; times in microseconds since 1970, latencies in microseconds.

    Attributes
    ----------
    share : float
        Of the rate that the settings allow; 1 is all of it.
    reason : str or None
        Why the share is less than 1.
    changed_at : int
    window_answers, window_errors : int
        Since the last step.
    latency_us, usual_us : float
        Moving averages, short and long.
    samples : int
        Answers that `usual_us` rests on.
    """

    share: float = 1.0
    reason: str | None = None
    changed_at: int = 0
    window_answers: int = 0
    window_errors: int = 0
    latency_us: float = 0.0
    usual_us: float = 0.0
    samples: int = 0


def slow_down(throttle: Throttle, now_us: int, reason: str) -> Throttle:
    """Halve the rate, unless that was done just now."""
    if throttle.share < 1 and 0 <= now_us - throttle.changed_at < STEP_EVERY_US:
        return throttle
    share = max(throttle.share * DOWN, LEAST_SHARE)
    return replace(throttle, share=share, reason=reason, changed_at=now_us, window_answers=0, window_errors=0)


def observe(throttle: Throttle, now_us: int, latency_us: int | None, *, is_error: bool) -> Throttle:
    """Take in one answer, and take a step if one is due.

    Parameters
    ----------
    latency_us : int or None
        From the start of the request to its first byte; None if there was none.
    """
    throttle = replace(
        throttle,
        window_answers=throttle.window_answers + 1,
        window_errors=throttle.window_errors + int(is_error),
    )
    if latency_us is not None:
        throttle = _with_latency(throttle, latency_us)
    if trouble := trouble_of(throttle):
        return slow_down(throttle, now_us, trouble)
    return _recover(throttle, now_us)


def trouble_of(throttle: Throttle) -> str | None:
    """What is wrong with the server's answers, in words, or None."""
    if throttle.window_answers >= ENOUGH:
        rate = throttle.window_errors / throttle.window_answers
        if rate > ERROR_RATE:
            return f"{rate:.0%} of the answers were errors"
    slowdown = throttle.latency_us - throttle.usual_us
    if throttle.samples >= ENOUGH and slowdown > LEAST_SLOWDOWN_US:
        factor = throttle.latency_us / throttle.usual_us
        if factor > LATENCY_FACTOR:
            return f"answers take {factor:.1f} times as long as usual ({throttle.latency_us / 1000:.0f} ms)"
    return None


def spacing_us(throttle: Throttle, plain_us: int, floor_us: int = 10_000) -> int:
    """The spacing that the share stretches; an unlimited rate is taken for one request each `floor_us`."""
    return plain_us if throttle.share >= 1 else int(max(plain_us, floor_us) / throttle.share)


def _with_latency(throttle: Throttle, latency_us: int) -> Throttle:
    if throttle.samples < ENOUGH:
        mean = (throttle.usual_us * throttle.samples + latency_us) / (throttle.samples + 1)
        return replace(throttle, usual_us=mean, latency_us=mean, samples=throttle.samples + 1)
    return replace(
        throttle,
        latency_us=throttle.latency_us + (latency_us - throttle.latency_us) * RECENT,
        usual_us=throttle.usual_us + (latency_us - throttle.usual_us) * LONG_TERM,
        samples=throttle.samples + 1,
    )


def _recover(throttle: Throttle, now_us: int) -> Throttle:
    """Take a step up if it is time for one; begin the count of errors anew when it is full."""
    if throttle.share < 1 and not 0 <= now_us - throttle.changed_at < STEP_EVERY_US:
        share = min(1.0, round(throttle.share + UP, 3))
        reason = throttle.reason if share < 1 else None
        return replace(
            throttle, share=share, reason=reason, changed_at=now_us, window_answers=0, window_errors=0
        )
    if throttle.window_answers >= WINDOW:
        return replace(throttle, window_answers=0, window_errors=0)
    return throttle
