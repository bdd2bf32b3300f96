"""C8: how long to wait before a retry."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midasdl.politeness.backoff import Backoff


def plain(_: float, __: float) -> float:
    """Chance without jitter."""
    return 1.0


DEFAULT = Backoff(1.0, 300.0, 2.0, 0.1)


@pytest.mark.parametrize(
    ("failures", "wait_s"), [(1, 1.0), (2, 2.0), (3, 4.0), (8, 128.0), (9, 256.0), (10, 300.0)]
)
def test_c8_waits_grow_by_the_multiplier_up_to_the_maximum(failures: int, wait_s: float) -> None:
    assert DEFAULT.wait_s(failures, plain) == wait_s


def test_c8_a_task_that_has_not_failed_yet_waits_as_after_its_first_failure() -> None:
    assert DEFAULT.wait_s(0, plain) == DEFAULT.wait_s(1, plain)


def test_c8_a_million_failures_wait_as_long_as_the_maximum() -> None:
    assert Backoff(3600.0, 86_400.0, 100.0, 0.0).wait_s(1_000_000, plain) == 86_400.0


def test_c8_a_multiplier_of_one_keeps_the_wait_constant() -> None:
    assert {Backoff(2.0, 300.0, 1.0, 0.0).wait_s(failures, plain) for failures in range(1, 20)} == {2.0}


def test_c8_jitter_spreads_waits_over_the_whole_share_either_way() -> None:
    chance = random.Random(1)
    waits = [DEFAULT.wait_s(3, chance.uniform) for _ in range(2_000)]
    assert 3.6 <= min(waits) < 3.62
    assert 4.38 < max(waits) <= 4.4


@given(
    st.floats(0.001, 3600),
    st.floats(0, 86_400),
    st.floats(1, 100),
    st.floats(0, 1),
    st.integers(0, 10_000),
    st.randoms(use_true_random=False),
)
def test_c8_no_wait_is_negative_or_above_the_maximum(
    base_s: float, longest_s: float, multiplier: float, jitter: float, failures: int, chance: random.Random
) -> None:
    wait_s = Backoff(base_s, longest_s, multiplier, jitter).wait_s(failures, chance.uniform)
    assert 0 <= wait_s <= longest_s
