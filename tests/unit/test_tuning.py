"""F6: how many workers work follows the load, slowly, within bounds, and says why."""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midasdl.config import resolve
from midasdl.config.keys import tree_of
from midasdl.ledger.ledger import Ledger
from midasdl.politeness.gate import Gate
from midasdl.politeness.limiter import Limits
from midasdl.tuning import CALM_LOOKS, STRAINED_LOOKS, Gauge, Sample, Tuning, TuningRules, tune, within

RULES = TuningRules(least=2, most=6, max_cpu_percent=80, max_memory_percent=50)
CALM = Sample()
BUSY = Sample(others_cpu_percent=95)
BETWEEN = Sample(others_cpu_percent=75)


def after(samples: Iterable[Sample], rules: TuningRules = RULES, active: int = 6) -> tuple[int, list[str]]:
    """How many work after some looks, and the reasons of all changes."""
    tuning, reasons = Tuning(active), []
    for sample in samples:
        tuning, why = tune(tuning, sample, rules)
        reasons += [why] if why else []
    return tuning.active, reasons


def rules_with(**values: object) -> TuningRules:
    """Rules from settings of eight workers."""
    keys = {f"performance.{name.replace('__', '.')}": value for name, value in values.items()}
    return TuningRules.from_settings(resolve(tree_of({"performance.workers.count": 8, **keys})))


@pytest.mark.parametrize(
    ("strain", "told"),
    [
        (Sample(others_cpu_percent=93), "other programs use 93 % of the processors, more than 80 %"),
        (Sample(memory_percent=61), "the workers take 61 % of the memory, more than 50 %"),
        (Sample(slowness=2.6), "CEDA takes 2.6 times as long as usual to answer"),
    ],
)
def test_lasting_strain_lets_one_worker_after_the_other_rest_and_says_why(strain: Sample, told: str) -> None:
    """F6: a single look is no strain yet."""
    assert after([strain] * (STRAINED_LOOKS - 1)) == (6, [])
    assert after([strain] * STRAINED_LOOKS) == (5, [told])
    assert after([strain] * STRAINED_LOOKS * 3) == (3, [told] * 3)


def test_calm_brings_workers_back_more_slowly_than_strain_took_them() -> None:
    """F6: hysteresis; one moment of strain begins the calm anew."""
    assert after([CALM] * (CALM_LOOKS - 1), active=3) == (3, [])
    assert after([CALM] * CALM_LOOKS, active=3) == (4, ["the load has passed"])
    assert after([*[CALM] * (CALM_LOOKS - 1), BUSY, *[CALM] * (CALM_LOOKS - 1)], active=3) == (3, [])
    assert CALM_LOOKS > STRAINED_LOOKS


def test_between_calm_and_strain_nothing_changes() -> None:
    """F6: load that swings around the limit moves no worker."""
    assert after([BETWEEN] * 50, active=4) == (4, [])
    assert after([BUSY, BETWEEN] * 50, active=4) == (4, [])


def test_the_bounds_are_kept() -> None:
    """F6."""
    assert after([BUSY] * 100)[0] == 2
    assert after([CALM] * 100, active=2)[0] == 6


samples = st.builds(Sample, st.floats(0, 100), st.floats(0, 100), st.floats(0.1, 10))


@given(st.lists(samples, max_size=60), st.integers(1, 8), st.integers(0, 7))
def test_whatever_the_load_is_the_bounds_are_kept_and_every_change_is_of_one_worker_with_a_reason(
    looks: list[Sample], least: int, more: int
) -> None:
    """F6."""
    rules = TuningRules(least, least + more, 80, 50)
    tuning = Tuning(rules.most)
    for sample in looks:
        before = tuning.active
        tuning, why = tune(tuning, sample, rules)
        assert rules.least <= tuning.active <= rules.most
        assert abs(tuning.active - before) == int(why is not None)


@pytest.mark.effect_of("performance.tuning.enabled")
def test_tuning_can_be_turned_off() -> None:
    """F4 F6: then all workers work whatever the load is."""
    assert after([BUSY] * 100, rules_with(tuning__enabled=False), active=8) == (8, [])
    assert after([BUSY] * 100, rules_with(), active=8)[0] == 1


@pytest.mark.parametrize("least", [1, 3])
@pytest.mark.effect_of("performance.tuning.min_workers")
def test_so_many_work_under_any_load(least: int) -> None:
    """F4 F6."""
    assert after([BUSY] * 100, rules_with(tuning__min_workers=least), active=8)[0] == least


def test_never_more_work_than_there_are() -> None:
    """F6: where a profile has fewer workers than the least that tuning would leave."""
    rules = TuningRules.from_settings(
        resolve(tree_of({"performance.profile": "development", "performance.tuning.min_workers": 5}))
    )
    assert (rules.least, rules.most) == (1, 1)


@pytest.mark.parametrize(("limit", "rests"), [(90, False), (40, True)])
@pytest.mark.effect_of("performance.tuning.max_cpu_percent")
def test_so_much_of_the_processors_may_others_use(limit: float, rests: bool) -> None:
    """F4 F6."""
    looks = [Sample(others_cpu_percent=60)] * 2
    assert (after(looks, rules_with(tuning__max_cpu_percent=limit), active=8)[0] == 7) is rests


@pytest.mark.parametrize(("limit", "rests"), [(70, False), (20, True)])
@pytest.mark.effect_of("performance.memory.max_memory_percent")
def test_so_much_of_the_memory_may_the_workers_take(limit: float, rests: bool) -> None:
    """F4 F6."""
    looks = [Sample(memory_percent=30)] * 2
    assert (after(looks, rules_with(memory__max_memory_percent=limit), active=8)[0] == 7) is rests


def test_another_profile_moves_the_bounds_and_spares_what_the_load_took() -> None:
    """F5 F6: who had all workers has all of the new profile; who had fewer keeps within its bounds."""
    more = TuningRules(1, 8, 80, 50)
    assert within(Tuning(6), RULES, more).active == 8
    assert within(Tuning(3), RULES, more).active == 3
    assert within(Tuning(5), RULES, TuningRules(1, 2, 80, 50)).active == 2


def test_the_gauge_measures_this_machine(ledger: Ledger) -> None:
    """F6: shares are shares; our own work is not that of others; the first look cannot tell of processors."""
    gauge = Gauge(ledger, "dap.ceda.ac.uk")
    first = gauge.sample([os.getpid(), 2**22 + 1])
    assert (first.others_cpu_percent, first.slowness) == (0.0, 1.0)
    assert 0 < first.memory_percent < 100
    sum(range(3_000_000))
    assert 0 <= gauge.sample([os.getpid()]).others_cpu_percent <= 100
    assert gauge.sample([]).memory_percent == 0


def test_the_gauge_knows_from_the_ledger_how_slow_the_server_is(ledger: Ledger) -> None:
    """F6: by the averages that the throttle keeps; a few answers say nothing."""
    gate = Gate(ledger, 1, Limits(0, None), lambda low, _: low)
    gate.pause("host", 1, "so that there is a row")
    for enough, expected in [(5, 1.0), (100, 3.0)]:
        with ledger.write() as connection:
            connection.exec_driver_sql(
                "UPDATE politeness SET throttle_samples = ?, throttle_latency_us = 300000, throttle_usual_us = 100000",
                (enough,),
            )
        assert Gauge(ledger, "host").sample([]).slowness == expected
