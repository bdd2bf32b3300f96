"""C7 C10: each change of what everybody knows of a server is one step, with its reason."""

from __future__ import annotations

from dataclasses import replace

from midasdl.clock import iso_utc
from midasdl.politeness.breaker import Answer, BreakerRules, admit
from midasdl.politeness.state import HostState, Report, Rules, fold, pause
from midasdl.politeness.steps import Step, steps
from midasdl.politeness.throttle import STEP_EVERY_US, Throttle, slow_down

SECOND = 1_000_000
NOW = 1_790_000_000 * SECOND
BREAKER = BreakerRules(True, 3, 2, 60 * SECOND)
RULES = Rules(BREAKER, SECOND, 300 * SECOND, 2.0, 0.0)
OK = Report("ok", Answer.GOOD, is_error=False, latency_us=50_000)
TIMEOUT = Report("timeout", Answer.DOWN, is_error=True)
FAILING = Report("server-error", Answer.UNSURE, is_error=True, http_status=500)


class Telling:
    """A host's state, and the steps that led to it."""

    def __init__(self) -> None:
        self.state = HostState()
        self.now = NOW
        self.steps: list[Step] = []

    def goes_to(self, state: HostState, outcome: str | None = None) -> None:
        self.steps += steps(self.state, state, self.now, outcome)
        self.state = state

    def hears(self, *reports: Report) -> None:
        for report in reports:
            self.goes_to(fold(self.state, report, self.now, RULES, lambda low, _: low), report.outcome)

    def tries(self) -> None:
        passed, refusal = admit(self.state.breaker, self.now, BREAKER)
        assert refusal is None
        self.goes_to(replace(self.state, breaker=passed))


def test_an_outage_is_told_from_its_first_step_to_its_last() -> None:
    """C10: closed, open, tried in vain, tried with an error of the server's own, tried twice, closed."""
    host = Telling()
    host.hears(TIMEOUT, TIMEOUT, TIMEOUT, TIMEOUT)
    for report in (TIMEOUT, FAILING, OK, OK):
        host.now += 61 * SECOND
        host.tries()
        host.hears(report)

    assert [(step.from_value, step.to_value) for step in host.steps] == [
        ("closed", "open"),
        ("open", "half-open"),
        ("half-open", "open"),
        ("open", "half-open"),
        ("half-open", "open"),
        ("open", "half-open"),
        ("half-open", "closed"),
    ]
    assert {step.what for step in host.steps} == {"breaker"}
    assert [step.reason for step in host.steps[:3]] == [
        "failures in a row: 3, the last with: timeout",
        "one request tries whether the server is available again",
        "the request that tried ended with: timeout",
    ]
    assert host.steps[-1].reason == "requests that tried were answered, the last with: ok"


def test_the_throttle_is_told_down_with_its_reason_and_up_again() -> None:
    """C7: 100, 50, 25 %, and then a tenth at a time."""
    host = Telling()
    for _ in range(2):
        host.goes_to(replace(host.state, throttle=slow_down(host.state.throttle, host.now, "it is slow")))
        host.now += STEP_EVERY_US
    for _ in range(8):
        host.hears(OK, OK)
        host.now += STEP_EVERY_US

    values = [host.steps[0].from_value, *(step.to_value for step in host.steps)]
    assert values == ["100%", "50%", "25%", "35%", "45%", "55%", "65%", "75%", "85%", "95%", "100%"]
    assert [step.reason for step in host.steps] == ["it is slow"] * 2 + ["no further trouble"] * 8
    assert steps(
        HostState(throttle=Throttle(share=0.125)), HostState(throttle=Throttle(share=0.0625)), NOW
    ) == (Step("throttle", "12.5%", "6.25%", ""),)


def test_a_pause_is_told_when_it_begins_and_when_it_grows_but_not_for_each_who_was_refused() -> None:
    """C6: eight refusals within a moment are one pause; one that grows by a minute is another."""
    host = Telling()
    for number in range(8):
        host.goes_to(pause(host.state, NOW + 5 * SECOND + number * 1_000, "503"))
    host.goes_to(pause(host.state, NOW + 65 * SECOND, "429"))
    host.goes_to(replace(host.state, paused_until=0, pause_reason=None))
    host.now = NOW + 100 * SECOND
    host.goes_to(pause(host.state, NOW + 90 * SECOND, "too late to matter"))
    host.goes_to(pause(host.state, NOW + 101 * SECOND, "503"))

    first, second, third = (iso_utc(NOW + seconds * SECOND) for seconds in (5, 65, 101))
    assert host.steps == [
        Step("pause", None, first, "503"),
        Step("pause", first, second, "429"),
        Step("pause", None, third, "503"),
    ]


def test_what_is_counted_but_changes_nothing_that_matters_is_no_step() -> None:
    """C14: a million good answers leave no row."""
    host = Telling()
    host.hears(OK, OK, TIMEOUT, OK, FAILING, *[OK] * 30)
    assert host.steps == []
