"""C5, C6, C15: when the next request may start, as a pure decision."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midasdl.config.settings import CedaClientSettings
from midasdl.politeness.limiter import CLOCK_SLACK_US, Go, Limits, Wait, decide, limits_from
from midasdl.politeness.state import LONGEST_PAUSE_US, HostState, pause

NOW = 1_790_000_000_000_000
SPACED = Limits(100_000, 3)
HOUR = 3_600_000_000


def slot(answer: Go | Wait) -> int:
    assert isinstance(answer, Go)
    return answer.at_us


def test_c5_the_first_request_starts_at_once() -> None:
    state, answer = decide(HostState(), NOW, 0, SPACED)
    assert answer == Go(NOW)
    assert (state.next_start_at, state.requests) == (NOW + 100_000, 1)


def test_c5_the_next_slot_comes_one_spacing_later() -> None:
    state, _ = decide(HostState(), NOW, 0, SPACED)
    state, answer = decide(state, NOW + 1, 1, SPACED)
    assert answer == Go(NOW + 100_000)
    _, answer = decide(state, NOW + 2, 2, SPACED)
    assert answer == Go(NOW + 200_000)


def test_c5_idle_time_is_not_saved_up_for_a_burst() -> None:
    state, _ = decide(HostState(), NOW, 0, SPACED)
    state, first = decide(state, NOW + HOUR, 0, SPACED)
    _, second = decide(state, NOW + HOUR, 1, SPACED)
    assert slot(second) - slot(first) == 100_000


@pytest.mark.parametrize(("others", "goes"), [(0, True), (2, True), (3, False), (30, False)])
def test_c5_nobody_goes_beyond_the_permits(others: int, goes: bool) -> None:
    state, answer = decide(HostState(), NOW, others, SPACED)
    assert isinstance(answer, Go) is goes
    if not goes:
        assert answer == Wait(None, "all permits are taken")
        assert state == HostState(), "who has to wait uses up no slot"


def test_c6_a_paused_host_gets_no_request_and_says_why() -> None:
    state = pause(HostState(), NOW + 5_000_000, "CEDA asked to wait")
    unchanged, answer = decide(state, NOW, 0, SPACED)
    assert answer == Wait(NOW + 5_000_000, "CEDA asked to wait")
    assert unchanged == state


def test_c6_the_first_request_after_a_pause_starts_when_it_ends() -> None:
    state = pause(HostState(), NOW + 5_000_000, "")
    assert slot(decide(state, NOW + 5_000_000, 0, SPACED)[1]) == NOW + 5_000_000


@pytest.mark.parametrize(("until", "stays"), [(NOW + 1, "long"), (NOW + 9_000_000, "longer")])
def test_c6_only_a_longer_pause_replaces_one_that_is_on(until: int, stays: str) -> None:
    state = pause(pause(HostState(), NOW + 5_000_000, "long"), until, "longer")
    assert (state.paused_until, state.pause_reason) == (max(until, NOW + 5_000_000), stays)


@pytest.mark.parametrize(
    "limits", [SPACED, Limits(100_000, None), Limits(0, 3)], ids=["both", "spacing", "permits"]
)
def test_c6_a_clock_set_back_an_hour_stalls_nobody(limits: Limits) -> None:
    state = HostState()
    for others in range(2):
        state, _ = decide(state, NOW, others, limits)
    assert slot(decide(state, NOW - HOUR, 2, limits)[1]) <= NOW - HOUR + 4 * limits.spacing_us


def test_c6_after_a_reset_the_next_slot_comes_behind_those_of_living_holders() -> None:
    """Three workers wait for slots up to 200 ms ahead by a clock that cannot jump; the fourth starts after them."""
    state = HostState()
    for others in range(3):
        state, _ = decide(state, NOW, others, Limits(100_000, 4))
    assert slot(decide(state, NOW - HOUR, 3, Limits(100_000, 4))[1]) >= NOW - HOUR + 300_000


def test_c6_a_clock_set_forward_gives_a_slot_at_once() -> None:
    state, _ = decide(HostState(), NOW, 0, SPACED)
    assert slot(decide(state, NOW + HOUR, 0, SPACED)[1]) == NOW + HOUR


def test_c6_a_clock_corrected_by_a_little_only_delays() -> None:
    state, first = decide(HostState(), NOW, 0, SPACED)
    _, second = decide(state, NOW - 1_000_000, 0, SPACED)
    assert slot(second) - slot(first) == 100_000


def test_c6_slots_of_dead_workers_do_not_count_as_a_clock_jump() -> None:
    """With a second between starts, workers that die one after another leave slots behind; those of the living hold."""
    limits = Limits(1_000_000, 3)
    state, living = decide(HostState(), NOW, 0, limits)
    for _ in range(4):
        state, lost = decide(state, NOW, 1, limits)
    state, later = decide(state, NOW, 2, limits)
    assert slot(later) > slot(lost) > slot(living)


@pytest.mark.parametrize(
    ("ahead_us", "paused"),
    [(LONGEST_PAUSE_US, True), (LONGEST_PAUSE_US + CLOCK_SLACK_US // 2, True), (24 * HOUR, False)],
    ids=["longest", "longest-and-clock-corrected", "impossible"],
)
def test_c6_a_pause_holds_unless_no_rule_could_have_made_it(ahead_us: int, paused: bool) -> None:
    _, answer = decide(HostState(paused_until=NOW + ahead_us, pause_reason="x"), NOW, 0, SPACED)
    assert isinstance(answer, Wait) is paused


def test_c5_lateness_is_tolerated_by_a_twentieth_of_the_spacing_and_at_least_five_milliseconds() -> None:
    assert Limits(200_000, 3).tolerance_us == 10_000
    assert Limits(1_000, 3).tolerance_us == 5_000


def test_c5_without_limits_nothing_waits() -> None:
    limits = Limits(0, None)
    assert limits.are_none
    assert not Limits(1, None).are_none
    assert not Limits(0, 1).are_none
    state = HostState()
    for _ in range(50):
        state, answer = decide(state, NOW, 500, limits)
        assert answer == Go(NOW)


@pytest.mark.parametrize(
    ("host", "asked", "granted"),
    [
        ("dap.ceda.ac.uk", 500, 16),
        ("dap.ceda.ac.uk:8443", 17, 16),
        ("ceda.ac.uk", 0, 16),
        ("services.ceda.ac.uk", 5, 5),
        ("127.0.0.1:8000", 500, 500),
        ("127.0.0.1:8000", 0, None),
        ("notceda.ac.uk", 0, None),
        ("dap.ceda.ac.uk.example.org", 99, 99),
    ],
)
def test_c15_cedas_hosts_never_get_more_than_16_requests_at_once(
    host: str, asked: int, granted: int | None
) -> None:
    settings = CedaClientSettings(max_concurrent_requests=asked, min_request_spacing_ms=7)
    limits = limits_from(settings, host)
    assert (limits.spacing_us, limits.most) == (7_000, granted)


steps = st.lists(
    st.tuples(st.integers(0, 400_000), st.integers(0, 5), st.booleans()), min_size=2, max_size=60
)


@given(steps, st.integers(1, 300_000), st.sampled_from([None, 1, 3, 5]))
def test_c5_slots_are_never_closer_than_the_spacing_whatever_is_asked_when(
    asks: list[tuple[int, int, bool]], spacing_us: int, most: int | None
) -> None:
    """Asks at any times that do not go back, by any number of others, with pauses between them."""
    limits = Limits(spacing_us, most)
    state, now, slots = HostState(), NOW, []
    for later_us, others, pauses in asks:
        now += later_us
        if pauses:
            state = pause(state, now + 200_000, "busy")
        ahead = sum(at > now for at in slots)
        state, answer = decide(state, now, max(others, ahead), limits)
        if isinstance(answer, Go):
            assert answer.at_us >= now
            assert answer.at_us >= state.paused_until or state.paused_until <= now
            slots.append(answer.at_us)
    assert all(later - earlier >= spacing_us for earlier, later in pairwise(slots))
    assert state.requests == len(slots)


@given(st.integers(0, 2 * NOW), st.integers(0, 2 * NOW), st.integers(0, 20), st.integers(0, 1_000_000))
def test_c6_no_stored_instant_makes_anybody_wait_longer_than_a_rule_allows(
    next_start_at: int, paused_until: int, others: int, spacing_us: int
) -> None:
    limits = Limits(spacing_us, 16)
    state = replace(HostState(), next_start_at=next_start_at, paused_until=paused_until)
    _, answer = decide(state, NOW, others, limits)
    if isinstance(answer, Go):
        assert NOW <= answer.at_us <= NOW + 2 * (max(16, others) + 1) * 1_000_000
    elif answer.until_us is not None:
        assert answer.until_us <= NOW + LONGEST_PAUSE_US + CLOCK_SLACK_US
