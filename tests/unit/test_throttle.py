"""C7: trouble halves the rate, calm brings it back a tenth at a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from midasdl.politeness.throttle import (
    ENOUGH,
    LEAST_SHARE,
    STEP_EVERY_US,
    Throttle,
    observe,
    slow_down,
    spacing_us,
)

SECOND = 1_000_000
NOW = 1_790_000_000 * SECOND
MS = 1_000


def seen(
    throttle: Throttle,
    count: int,
    *,
    latency_ms: int = 100,
    errors: int = 0,
    now: int = NOW,
    every_s: float = 0.1,
) -> tuple[Throttle, int]:
    """Feed answers, the last `errors` of which are errors; returns the time too."""
    for number in range(count):
        now += int(every_s * SECOND)
        is_error = number >= count - errors
        throttle = observe(throttle, now, None if is_error else latency_ms * MS, is_error=is_error)
    return throttle, now


def test_a_healthy_server_is_never_slowed() -> None:
    """C7: latency that varies within reason is no trouble."""
    throttle, now = Throttle(), NOW
    for latency in (100, 120, 90, 150, 110) * 40:
        throttle, now = seen(throttle, 1, latency_ms=latency, now=now)

    assert throttle.share == 1
    assert throttle.reason is None


def test_more_than_a_tenth_of_errors_halves_the_rate() -> None:
    """C7: 2 of 20 are borne, 3 of 22 are not; the reason is kept in words."""
    borne, now = seen(Throttle(), ENOUGH, errors=2)
    halved, _ = seen(borne, 2, errors=1, now=now)

    assert borne.share == 1
    assert halved.share == 0.5
    assert halved.reason == "14% of the answers were errors"


def test_answers_that_take_more_than_twice_as_long_halve_the_rate() -> None:
    """C7: against what was usual, with the factor in the reason."""
    usual, now = seen(Throttle(), 50, latency_ms=100)
    slow, _ = seen(usual, 20, latency_ms=300, now=now)

    assert slow.share == 0.5
    assert "2." in (slow.reason or "")


def test_milliseconds_more_are_no_trouble() -> None:
    """C7: from 2 to 6 ms is three times as long, and nothing."""
    usual, now = seen(Throttle(), 50, latency_ms=2)

    assert seen(usual, 50, latency_ms=6, now=now)[0].share == 1


def test_it_goes_on_slowing_down_while_the_trouble_lasts_but_not_to_a_stand() -> None:
    """C7: one step every few seconds, down to a sixteenth."""
    throttle, now = seen(Throttle(), 50)
    shares = []
    for _ in range(8):
        throttle, now = seen(throttle, 60, latency_ms=1000, now=now, every_s=STEP_EVERY_US / SECOND / 50)
        shares.append(throttle.share)

    assert sorted(shares, reverse=True) == shares
    assert shares[-1] == LEAST_SHARE


def test_calm_brings_the_rate_back_in_small_steps() -> None:
    """C7: a tenth each step, never more than all of it, and then the reason is gone."""
    throttle = slow_down(seen(Throttle(), 50)[0], NOW, "CEDA is asked too much (429)")
    shares, now = [], NOW
    for _ in range(7):
        now += STEP_EVERY_US
        throttle = observe(throttle, now, 100 * MS, is_error=False)
        shares.append(throttle.share)

    assert shares == [0.6, 0.7, 0.8, 0.9, 1.0, 1.0, 1.0]
    assert throttle.reason is None


def test_a_burst_of_refusals_counts_once() -> None:
    """C7: what was in flight together says one thing."""
    throttle = Throttle()
    for _ in range(10):
        throttle = slow_down(throttle, NOW, "429")

    assert throttle.share == 0.5


def test_the_share_stretches_the_spacing_even_where_there_was_none() -> None:
    """C7: half the rate is twice the spacing."""
    assert spacing_us(Throttle(), 100 * MS) == 100 * MS
    assert spacing_us(Throttle(share=0.5), 100 * MS) == 200 * MS
    assert spacing_us(Throttle(), 0) == 0
    assert spacing_us(Throttle(share=0.5), 0) == 20 * MS


@given(
    st.lists(
        st.tuples(st.integers(-3600, 3600), st.none() | st.integers(0, 10**8), st.booleans()), max_size=200
    )
)
def test_the_share_stays_within_its_bounds_whatever_the_clock_does(
    story: list[tuple[int, int | None, bool]],
) -> None:
    """C6 C7: also when the clock jumps an hour either way."""
    throttle, now = Throttle(), NOW
    for seconds, latency, is_error in story:
        now += seconds * SECOND
        throttle = observe(throttle, now, latency, is_error=is_error)
        assert LEAST_SHARE <= throttle.share <= 1
        assert (throttle.reason is None) == (throttle.share == 1)
