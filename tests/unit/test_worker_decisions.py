"""C8, C9, L4: what a worker decides, without any ledger or server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midasdl.ceda.verdict import FATES, Fate, Verdict
from midasdl.ledger.outcomes import Claim
from midasdl.models import ErrorClass
from midasdl.policy import CAUTION, MOST_CLAIMS, WorkerPolicy, paths_to_try, retry_wait_s, tasks_for_a_round
from midasdl.politeness.backoff import Backoff

POLICY = WorkerPolicy(3, Backoff(1.0, 300.0, 2.0, 0.1), 4)


def plain(_: float, __: float) -> float:
    return 1.0


def wait_s(
    kind: ErrorClass, attempts: int, retry_after_s: float | None = None, policy: WorkerPolicy = POLICY
) -> float | None:
    return retry_wait_s(attempts, Verdict(kind, "", None, retry_after_s), policy, plain)


def of_fate(*fates: Fate) -> list[ErrorClass]:
    return [kind for kind, fate in FATES.items() if fate in fates]


@pytest.mark.parametrize("kind", of_fate(Fate.RETRY))
def test_c8_a_retryable_error_waits_longer_each_time_and_then_fails(kind: ErrorClass) -> None:
    assert [wait_s(kind, attempts) for attempts in (1, 2, 3, 4)] == [1.0, 2.0, 4.0, None]


@pytest.mark.parametrize("kind", of_fate(Fate.RETRY_LATER))
def test_c9_a_server_with_errors_of_its_own_is_left_alone_longer(kind: ErrorClass) -> None:
    assert [wait_s(kind, attempts) for attempts in (1, 2, 3, 4)] == [CAUTION, 2 * CAUTION, 4 * CAUTION, None]


def test_c8_caution_stays_below_the_longest_wait() -> None:
    short = WorkerPolicy(9, Backoff(1.0, 5.0, 2.0, 0.0), 4)
    assert wait_s(ErrorClass.SERVER_ERROR, 2, policy=short) == 5.0


@pytest.mark.parametrize("kind", of_fate(Fate.FAIL))
def test_c9_a_permanent_error_fails_at_once(kind: ErrorClass) -> None:
    assert wait_s(kind, 1) is None


@pytest.mark.parametrize(("asked_s", "waits_s"), [(0.0, 2.0), (1.0, 2.0), (50.0, 50.0), (3_600.0, 3_600.0)])
def test_c6_a_retry_waits_at_least_as_long_as_the_server_asked(asked_s: float, waits_s: float) -> None:
    """Also where that is longer than the longest wait of the settings."""
    assert wait_s(ErrorClass.UNAVAILABLE, 2, asked_s) == waits_s


def test_c8_being_told_to_slow_down_costs_no_retry() -> None:
    verdict = Verdict(ErrorClass.THROTTLED, "")
    attempts = 0
    for _ in range(100):
        attempts += int(verdict.costs_an_attempt)
        assert retry_wait_s(attempts, verdict, POLICY, plain) is not None


def test_c8_without_retries_the_first_error_is_the_last() -> None:
    assert wait_s(ErrorClass.TIMEOUT, 1, policy=WorkerPolicy(0, POLICY.backoff, 1)) is None


def claim(paths: int, attempts: int = 0) -> Claim:
    return Claim(1, "0" * 32, 1, attempts, tuple("abcdefgh"[:paths]))


@pytest.mark.parametrize(
    ("paths", "attempts", "order"),
    [
        (1, 0, "a"),
        (1, 2, "a"),
        (3, 0, "abc"),
        (3, 1, "bca"),
        (3, 2, "ca"),
        (3, 3, "a"),
        (6, 0, "abcd"),
        (2, 9, "b"),
    ],
)
def test_m5_each_attempt_begins_with_another_path_and_keeps_within_its_requests(
    paths: int, attempts: int, order: str
) -> None:
    """The last case is a task that has failed under a larger limit than today's: it gets one request."""
    assert "".join(paths_to_try(claim(paths, attempts), 3)) == order


failures = st.sampled_from(
    [kind for kind in ErrorClass if FATES[kind] in {Fate.RETRY, Fate.RETRY_LATER, Fate.FAIL}]
)


@given(st.lists(failures, min_size=200, max_size=200), st.integers(1, 8), st.integers(0, 9))
def test_c8_the_server_never_sees_more_than_one_and_max_retries_requests_that_count(
    story: list[ErrorClass], paths: int, max_retries: int
) -> None:
    """A task's whole life, whatever the server answers; requests that were throttled do not count."""
    policy = WorkerPolicy(max_retries, POLICY.backoff, 1)
    answers, attempts, seen = iter(story), 0, 0
    while True:
        verdict = Verdict(ErrorClass.TIMEOUT, "")
        for _ in paths_to_try(claim(paths, attempts), max_retries):
            verdict = Verdict(next(answers, ErrorClass.TIMEOUT), "")
            attempts += int(verdict.costs_an_attempt)
            seen += int(verdict.costs_an_attempt)
            if verdict.error_class is not ErrorClass.NOT_FOUND:
                break
        if retry_wait_s(attempts, verdict, policy, plain) is None:
            break
    assert seen <= 1 + max_retries


@pytest.mark.parametrize(
    ("worked", "seconds", "wanted"),
    [
        (1, 1.0, 1),
        (1, 0.5, 2),
        (10, 1.0, 10),
        (10, 0.1, 100),
        (100, 0.1, MOST_CLAIMS),
        (1, 300.0, 1),
        (0, 1.0, 1),
        (5, 0.0, MOST_CLAIMS),
    ],
)
def test_l4_a_claim_takes_about_a_seconds_work(worked: int, seconds: float, wanted: int) -> None:
    assert tasks_for_a_round(worked, seconds) == wanted


@given(st.integers(0, 10_000), st.floats(0, 10_000))
def test_l4_a_claim_is_never_empty_and_never_a_hoard(worked: int, seconds: float) -> None:
    assert 1 <= tasks_for_a_round(worked, seconds) <= MOST_CLAIMS
