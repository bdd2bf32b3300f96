"""C14: what came of requests is counted without losing one, and latencies are rounded honestly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from midasdl.ledger.responses import NO_ANSWER, Responses
from midasdl.politeness.tally import Tally, bucket_us

LATENCIES = st.integers(1, 10**9)


@given(LATENCIES)
def test_a_latency_is_rounded_up_by_less_than_a_tenth(latency_us: int) -> None:
    """C14: and what is rounded already stays."""
    rounded = bucket_us(latency_us)
    assert latency_us <= rounded < latency_us * 1.1
    assert bucket_us(rounded) == rounded
    assert rounded != NO_ANSWER


@given(LATENCIES, LATENCIES)
def test_rounding_keeps_the_order_of_latencies(one: int, other: int) -> None:
    """C14: so that a percentile of rounded latencies is a rounded percentile."""
    assert bucket_us(min(one, other)) <= bucket_us(max(one, other))


def test_a_day_of_latencies_needs_few_rows() -> None:
    """C14: from a microsecond to five minutes there are fewer than a thousand different ones."""
    assert len({bucket_us(int(1.001**power)) for power in range(19_600)}) < 1_000


def test_what_is_counted_between_the_look_and_the_commit_is_kept() -> None:
    """C14: forgetting takes off what was written, not what came since."""
    tally = Tally()
    for _ in range(2):
        tally.count("a", "ok", 1_234)
    written = tally.counted()
    tally.count("a", "ok", 1_299)
    tally.count("b", "timeout", None)
    tally.forget(written)

    assert written == (Responses("a", "ok", 1_300, 2),)
    assert set(tally.counted()) == {Responses("a", "ok", 1_300, 1), Responses("b", "timeout", NO_ANSWER, 1)}
    tally.forget(tally.counted())
    assert tally.counted() == ()
