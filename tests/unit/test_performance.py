"""O3: records of performance, rolling averages, and alerts that begin and end with reason. Recorded series."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midasdl.metrics.performance import AVERAGED, Performance, Record, Totals, record_between
from midasdl.metrics.rolling import Curve, Window

EVERY_S = 30.0
STEADY = (10.0, 1_000_000.0, 60.0, 0.0)
"""Files and bytes a second, milliseconds to the first byte, share of errors."""


def series(moments: Iterable[Sequence[float]], *, held_back: Sequence[int] = ()) -> Iterator[Totals]:
    """The sums of a run, looked at every half minute."""
    totals = Totals(0.0, unfinished=1_000_000)
    yield totals
    for number, (files, size, latency_ms, errors) in enumerate(moments):
        finished = round(files * EVERY_S)
        requests = max(finished, 100 if errors else finished)
        totals = replace(
            totals,
            at_s=totals.at_s + EVERY_S,
            finished=totals.finished + finished,
            bytes_fetched=totals.bytes_fetched + round(size * EVERY_S),
            requests=totals.requests + requests,
            errors=totals.errors + round(requests * errors),
            answers=totals.answers + requests,
            latency_us=totals.latency_us + round(requests * latency_ms * 1000),
            held_back=number in held_back,
        )
        yield totals


def alerts_of(moments: Iterable[Sequence[float]], *, held_back: Sequence[int] = ()) -> list[str]:
    """What begins (+) and ends (-), with the number of the record that tells."""
    first, *rest = series(moments, held_back=held_back)
    performance = Performance(first)
    told: list[str] = []
    for number, totals in enumerate(rest):
        _, begun, ended = performance.take(totals)
        told += [f"+{alert.kind}@{number}" for alert in begun] + [
            f"-{alert.kind}@{number}" for alert in ended
        ]
    return told


def times(factor: float, *fields: int) -> tuple[float, ...]:
    """The steady state with some of its values changed."""
    return tuple(value * factor if place in fields else value for place, value in enumerate(STEADY))


SLOW = times(0.3, 0, 1)
HALTED = (0.0, 0.0, 0.0, 0.0)
LATE = times(3.0, 2)
FAILING = (*STEADY[:3], 0.3)


@pytest.mark.parametrize(
    ("moments", "told"),
    [
        ([STEADY] * 20, []),
        ([STEADY] * 8 + [SLOW] * 4 + [STEADY] * 4, ["+slow@9", "-slow@13"]),
        ([STEADY] * 8 + [HALTED] * 3 + [STEADY] * 3, ["+stalled@9", "+slow@9", "-stalled@12", "-slow@12"]),
        ([STEADY] * 8 + [LATE] * 4 + [STEADY] * 4, ["+late@9", "-late@13"]),
        ([FAILING] * 4 + [STEADY] * 4, ["+errors@1", "-errors@5"]),
        ([(50.0, 500_000.0, 60.0, 0.0)] * 8 + [(4.0, 6_000_000.0, 60.0, 0.0)] * 8, []),
        ([(4.0, 6_000_000.0, 60.0, 0.0)] * 8 + [(50.0, 500_000.0, 60.0, 0.0)] * 8, []),
        ([STEADY] * 8 + [SLOW, STEADY] * 6, []),
        ([STEADY] * 8 + [times(0.6, 0, 1)] * 8, []),
        ([SLOW] * 3 + [STEADY] * 8, []),
    ],
    ids=[
        *("steady", "slow-and-recovered", "halted", "late", "errors-from-the-first", "small-then-large"),
        *("large-then-small", "every-other-record", "between-the-thresholds", "too-early-to-tell"),
    ],
)
def test_o3_alerts_of_recorded_series(moments: list[tuple[float, ...]], told: list[str]) -> None:
    """O3: two bad records in a row begin an alert, two good ones end it; what is large after what is small is none."""
    assert alerts_of(moments) == told


def test_o3_who_was_told_to_wait_is_not_stalled() -> None:
    """O3: a pause that the server asked for, or a breaker that is open, is no degradation of ours."""
    moments = [STEADY] * 8 + [HALTED] * 6 + [STEADY] * 3
    waiting = range(7, 14)

    assert alerts_of(moments, held_back=waiting) == []
    assert alerts_of(moments) != []


def test_o3_what_went_badly_does_not_become_usual() -> None:
    """O3: an alert stays for as long as it is bad, also for hours; two changed averages do not talk it away."""
    assert alerts_of([STEADY] * 8 + [SLOW] * 500) == ["+slow@9"]


def test_o3_a_change_on_purpose_is_no_degradation() -> None:
    """O3 F5: business hours begin, the profile allows a third: what is usual is learnt anew, and no alert stays."""
    first, *rest = series([STEADY] * 8 + [SLOW] * 12)
    performance = Performance(first)
    told = []
    for number, totals in enumerate(rest):
        if number == 8:
            performance.relearn()
        told += performance.take(totals)[1]
    assert told == []


def test_o3_the_last_tasks_may_be_slow() -> None:
    """O3: when fewer tasks are left than there can be workers, a lower speed is nobody's fault."""
    *working, last = series([STEADY] * 8 + [SLOW] * 4)
    performance = Performance(working[0])
    for number, totals in enumerate([*working[1:], last]):
        left = replace(totals, unfinished=20 if number >= 7 else 1_000_000)
        assert performance.take(left)[1] == ()


def test_o3_an_end_of_the_queue_is_no_stall() -> None:
    """O3: when nothing is left to do, nothing is finished any more."""
    *working, last = series([STEADY] * 8)
    performance = Performance(working[0])
    for totals in working[1:]:
        performance.take(totals)
    for number in range(1, 6):
        over = replace(last, at_s=last.at_s + number * EVERY_S, unfinished=0)
        assert performance.take(over)[1] == ()


def test_o3_averages_are_those_of_the_last_records() -> None:
    """O3: rolling averages reach back ten records, weighted by their length, and forget what was before."""
    first, *rest = series([times(9.0, 0, 1)] * 5 + [STEADY] * AVERAGED)
    performance = Performance(first)
    assert performance.averages() is None
    for totals in rest:
        performance.take(totals)

    averages = performance.averages()

    assert averages == Record(AVERAGED * EVERY_S, 10.0, 1_000_000.0, 0.0, 60.0, is_telling=True)


def test_a_record_of_no_requests_says_nothing_of_errors_or_latency() -> None:
    record = record_between(Totals(0.0, finished=5), Totals(10.0, finished=25))
    assert (record.files_per_s, record.error_share, record.latency_ms) == (2.0, None, None)


# --- rates and curves


def test_a_window_gives_the_rate_of_its_own_length() -> None:
    """O2: 30 a second for a long time, then nothing: after the window nothing is left of it."""
    window = Window(60)
    rates = [window.add(float(second), (min(second, 300) * 30,))[0] for second in range(0, 400, 2)]

    assert rates[0] == 0
    assert rates[10] == pytest.approx(30)
    assert rates[150] == pytest.approx(30)
    assert rates[165] == pytest.approx(15, abs=1)
    assert rates[-1] == 0


def test_a_window_holds_no_more_than_it_needs() -> None:
    window = Window(60)
    for second in range(10_000):
        window.add(float(second), (second,))
    assert len(window._looks) <= 62


@given(st.integers(2, 60), st.lists(st.floats(0, 1e9), min_size=1, max_size=800))
def test_a_curve_is_bounded_keeps_its_order_and_its_mean(most: int, values: list[float]) -> None:
    """P7, O5: however long the run, no more points than asked, over all of its time, and nothing invented."""
    curve = Curve(most)
    for number, value in enumerate(values):
        curve.add(float(number), value)
        assert len(curve.points) <= most
    times_ = [point[0] for point in curve.points]
    assert all(a < b for a, b in pairwise(times_))
    assert all(min(values) <= point[1] <= max(values) for point in curve.points)
    assert times_ == [] or times_[-1] >= len(values) - 1 - 2 * curve._every
