"""C6 C8: what one answer means for everybody."""

from __future__ import annotations

from dataclasses import replace

from midasdl.politeness.breaker import Answer, BreakerRules
from midasdl.politeness.state import HostState, Report, Rules, fold, pause

SECOND = 1_000_000
NOW = 1_790_000_000 * SECOND
RULES = Rules(BreakerRules(True, 5, 2, 60 * SECOND), SECOND, 300 * SECOND, 2.0, 0.1)
OK = Report("ok", Answer.GOOD, is_error=False, latency_us=50_000)
TIMEOUT = Report("timeout", Answer.DOWN, is_error=True)
OVERLOADED = Report("unavailable", Answer.DOWN, is_error=True, asks_to_wait=True, http_status=503)


def middle(low: float, high: float) -> float:
    return (low + high) / 2


def told(state: HostState, *reports: Report, now: int = NOW) -> HostState:
    for report in reports:
        state = fold(state, report, now, RULES, middle)
    return state


def test_errors_are_counted_over_all_workers_and_a_file_sets_them_back() -> None:
    """C8."""
    assert told(HostState(), TIMEOUT, TIMEOUT, TIMEOUT).consecutive_errors == 3
    assert told(HostState(), TIMEOUT, TIMEOUT, OK).consecutive_errors == 0


def test_retry_after_pauses_everybody_for_just_so_long() -> None:
    """C6: what the server asks for is what it gets."""
    state = told(HostState(), OVERLOADED._replace(retry_after_us=7 * SECOND))

    assert state.paused_until == NOW + 7 * SECOND
    assert state.pause_reason == "CEDA answered 503 and asked to wait for 7 s"
    assert state.strikes == 0


def test_without_retry_after_the_pauses_double_up_to_the_longest_backoff() -> None:
    """C6: 20, 40, 80, 160, 300, 300 s."""
    state, now, pauses = HostState(), NOW, []
    for _ in range(6):
        state = told(state, OVERLOADED, now=now)
        pauses.append((state.paused_until - now) / SECOND)
        now = state.paused_until

    assert pauses == [20, 40, 80, 160, 300, 300]


def test_a_file_that_comes_begins_the_doubling_anew() -> None:
    """C8: reset on success, but only on one that came after the pause."""
    paused = told(HostState(), OVERLOADED)

    assert told(paused, OK, now=NOW + SECOND).strikes == 1
    assert told(paused, OK, now=paused.paused_until).strikes == 0


def test_requests_that_were_refused_together_make_one_pause() -> None:
    """C6: eight refusals at once are one strike."""
    assert told(HostState(), *[OVERLOADED] * 8) == replace(
        told(HostState(), *[OVERLOADED] * 8), paused_until=NOW + 20 * SECOND, strikes=1
    )


def test_being_told_to_wait_lowers_the_rate_that_follows() -> None:
    """C7: after the pause the start is gentle."""
    assert told(HostState(), OVERLOADED._replace(retry_after_us=SECOND)).throttle.share == 0.5


def test_a_shorter_pause_never_ends_a_longer_one() -> None:
    """C6."""
    state = pause(HostState(), NOW + 60 * SECOND, "long")

    assert pause(state, NOW + SECOND, "short") == state


def test_no_pause_is_longer_than_an_hour() -> None:
    """C6: a server that asks for a day is asked again after an hour."""
    state = told(HostState(), OVERLOADED._replace(retry_after_us=86_400 * SECOND))

    assert state.paused_until == NOW + 3600 * SECOND
