"""C10: when a server is down nobody asks, and one request at a time finds out whether it is back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midasdl.politeness.breaker import Answer, Breaker, BreakerRules, Refusal, admit, learn

SECOND = 1_000_000
NOW = 1_790_000_000 * SECOND
RULES = BreakerRules(enabled=True, failure_threshold=3, success_threshold=2, timeout_us=60 * SECOND)


def after(*answers: Answer, breaker: Breaker | None = None, now: int = NOW) -> Breaker:
    breaker = breaker or Breaker()
    for answer in answers:
        breaker = learn(breaker, answer, now, RULES)
    return breaker


@pytest.fixture
def opened() -> Breaker:
    return after(*[Answer.DOWN] * 3)


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    """C10: two are not enough, three are."""
    assert after(Answer.DOWN, Answer.DOWN).is_closed
    assert not after(Answer.DOWN, Answer.DOWN, Answer.DOWN).is_closed


def test_any_good_answer_begins_the_count_anew() -> None:
    """C10: in a row means in a row."""
    assert after(Answer.DOWN, Answer.DOWN, Answer.GOOD, Answer.DOWN, Answer.DOWN).is_closed


def test_an_error_of_the_servers_own_neither_opens_nor_closes_it(opened: Breaker) -> None:
    """C10: a 500 says that the server is there, not that it is well."""
    half_open_at = NOW + 61 * SECOND

    assert after(*[Answer.UNSURE] * 10).is_closed
    assert not after(*[Answer.UNSURE] * 10, breaker=opened, now=half_open_at).is_closed


def test_while_it_is_open_nobody_sends_and_everybody_knows_until_when(opened: Breaker) -> None:
    """C10."""
    unchanged, refusal = admit(opened, NOW + SECOND, RULES)

    assert unchanged == opened
    assert isinstance(refusal, Refusal)
    assert refusal.until_us == NOW + 60 * SECOND


def test_when_it_is_half_open_one_probe_passes_and_the_others_wait(opened: Breaker) -> None:
    """C10."""
    later = NOW + 61 * SECOND
    probing, refusal = admit(opened, later, RULES)
    _, second = admit(probing, later + 1, RULES)

    assert refusal is None
    assert isinstance(second, Refusal)
    assert second.until_us <= later + SECOND


def test_a_probe_whose_process_died_is_replaced(opened: Breaker) -> None:
    """C6 C10: the right to probe ends by itself."""
    probing, _ = admit(opened, NOW + 61 * SECOND, RULES)

    assert admit(probing, NOW + 122 * SECOND, RULES)[1] is None


def test_it_closes_after_enough_successes_and_one_failure_opens_it_again(opened: Breaker) -> None:
    """C10."""
    later = NOW + 61 * SECOND
    once = after(Answer.GOOD, breaker=opened, now=later)

    assert not once.is_closed
    assert after(Answer.GOOD, breaker=once, now=later) == Breaker()
    failed = after(Answer.DOWN, breaker=once, now=later)
    assert failed.open_until == later + 60 * SECOND
    assert failed.open_since == NOW, "it is known since when the server is away"
    assert failed.successes == 0


def test_answers_that_were_on_their_way_when_it_opened_change_nothing(opened: Breaker) -> None:
    """C10: only probes count."""
    assert after(Answer.GOOD, Answer.DOWN, breaker=opened, now=NOW + SECOND) == opened


def test_it_can_be_turned_off(opened: Breaker) -> None:
    """F1 enabled: then nothing opens it and nothing is refused."""
    off = replace(RULES, enabled=False)

    assert learn(Breaker(failures=2), Answer.DOWN, NOW, off).is_closed
    assert admit(opened, NOW + SECOND, off)[1] is None


@pytest.mark.parametrize("jump_s", [-3600, 3600], ids=["back", "forward"])
def test_a_clock_that_jumps_an_hour_keeps_nobody_longer_than_the_timeout(
    opened: Breaker, jump_s: int
) -> None:
    """C6."""
    now = NOW + jump_s * SECOND
    refusal = admit(opened, now, RULES)[1]

    assert refusal is None or refusal.until_us - now <= RULES.timeout_us


@given(st.lists(st.tuples(st.sampled_from(Answer), st.integers(0, 90)), max_size=60))
def test_whatever_happens_a_waiting_worker_is_told_an_end(story: list[tuple[Answer, int]]) -> None:
    """C10: no sequence of answers shuts the door for longer than one timeout."""
    breaker, now = Breaker(), NOW
    for answer, seconds in story:
        now += seconds * SECOND
        breaker, refusal = admit(breaker, now, RULES)
        assert refusal is None or now < refusal.until_us <= now + RULES.timeout_us
        breaker = learn(breaker, answer, now, RULES)
        assert breaker.is_closed == (breaker.open_since == 0)
