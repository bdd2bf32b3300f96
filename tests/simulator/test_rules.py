"""Faults as rules and as data, and the throttle, without a socket."""

from __future__ import annotations

import tomllib

import pytest

from midasdl.errors import ConfigurationError
from midasdl.simulator.faults import Fault, FaultAction, FaultPlan
from midasdl.simulator.throttle import Throttle, ThrottleGate

NOON_S = 1_780_000_000.0


class TestFaultPlan:
    @staticmethod
    def names(plan: FaultPlan, paths: str, route: str = "download") -> list[str | None]:
        chosen = [plan.choose(route, path) for path in paths]
        return [fault.action if fault is not None else None for fault in chosen]

    def test_after_and_times_count_matching_requests(self) -> None:
        plan = FaultPlan([Fault("reset", after=2, times=2)])
        assert self.names(plan, "aaaaaa") == [None, None, "reset", "reset", None, None]

    def test_without_a_number_of_times_it_never_stops(self) -> None:
        assert self.names(FaultPlan([Fault("close", times=None)]), "abcd") == ["close"] * 4

    def test_per_path_counts_each_path_by_itself(self) -> None:
        plan = FaultPlan([Fault("reset", after=1, per_path=True)])
        assert self.names(plan, "abbaab") == [None, None, "reset", "reset", None, None]

    def test_only_the_route_and_the_paths_of_a_rule_count(self) -> None:
        plan = FaultPlan([Fault("reset", route="download", path="*.csv", after=1)])
        assert plan.choose("listing", "/a.csv") is None
        assert plan.choose("download", "/a.txt") is None
        assert plan.choose("download", "/a.csv") is None
        assert plan.choose("download", "/b.csv") is not None

    def test_the_first_rule_that_is_due_hits_and_later_ones_count_on(self) -> None:
        plan = FaultPlan([Fault("reset", times=2), Fault("close", after=1, times=2)])
        assert self.names(plan, "aaaaa") == ["reset", "reset", "close", "close", None]

    def test_chance_is_the_same_for_the_same_seed_and_near_its_probability(self) -> None:
        rule = Fault("reset", times=None, probability=0.3)
        first, again = (self.names(FaultPlan([rule], seed=7), "a" * 1000) for _ in range(2))
        assert first == again
        assert 250 < sum(name is not None for name in first) < 350

    def test_rules_can_be_added_and_dropped(self) -> None:
        plan = FaultPlan()
        plan.add(Fault("reset", times=None))
        assert self.names(plan, "a") == ["reset"]
        plan.clear()
        assert self.names(plan, "a") == [None]


class TestFaultsAsData:
    def test_a_table_of_toml_becomes_a_rule(self) -> None:
        text = """
            action = "status"
            route = "download"
            path = "*_1991.csv"
            times = "always"
            status = 429
            retry_after = 3
            [headers]
            X-Reason = "too fast"
        """
        fault = Fault.from_mapping(tomllib.loads(text))
        expected = Fault("status", "download", "*_1991.csv", times=None, status=429, retry_after="3")
        assert fault == Fault(
            **{**{f: getattr(expected, f) for f in expected.__slots__}, "headers": fault.headers}
        )
        assert fault.headers == {"X-Reason": "too fast"}

    @pytest.mark.parametrize("action", list(FaultAction))
    def test_every_action_can_be_named(self, action: FaultAction) -> None:
        assert Fault.from_mapping({"action": action.value}).action == action

    @pytest.mark.parametrize(
        ("mapping", "word"),
        [
            ({}, "action"),
            ({"action": "explode"}, "explode"),
            ({"action": "reset", "tmies": 1}, "tmies"),
            ({"action": "reset", "times": 0}, "times"),
            ({"action": "reset", "times": "often"}, "times"),
            ({"action": "reset", "after": -1}, "after"),
            ({"action": "reset", "after": True}, "after"),
            ({"action": "reset", "route": "tokens"}, "route"),
            ({"action": "reset", "probability": 1.5}, "probability"),
            ({"action": "status", "status": "500"}, "status"),
            ({"action": "status", "status": 99}, "status"),
            ({"action": "stall", "seconds": -1}, "seconds"),
            ({"action": "short", "bytes": 1.5}, "bytes"),
            ({"action": "status", "headers": {"A": "b\r\nC: d"}}, "headers"),
            ({"action": ["reset"]}, "action"),
        ],
    )
    def test_a_bad_table_is_refused_with_the_key_that_is_wrong(
        self, mapping: dict[str, object], word: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=word):
            Fault.from_mapping(mapping)

    def test_a_misspelt_key_gets_a_suggestion(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            Fault.from_mapping({"action": "reset", "tmies": 1})
        assert caught.value.hint == "did you mean 'times'?"


class TestThrottle:
    def test_a_rate_too_high_is_refused_for_a_while_and_then_forgiven(self) -> None:
        gate = ThrottleGate(Throttle(max_rate_per_s=3, for_s=60))
        assert [gate.admits(moment, 1) for moment in (0.0, 0.1, 0.2, 0.3)] == [True, True, True, False]
        assert [gate.admits(moment, 1) for moment in (10.0, 60.2)] == [False, False]
        assert gate.admits(60.4, 1)

    def test_a_steady_rate_at_the_bound_is_never_refused(self) -> None:
        gate = ThrottleGate(Throttle(max_rate_per_s=15))
        assert all(gate.admits(number / 15, 1) for number in range(300))

    def test_rates_below_one_a_second_are_understood(self) -> None:
        gate = ThrottleGate(Throttle(max_rate_per_s=0.5, for_s=1))
        assert [gate.admits(moment, 1) for moment in (0.0, 2.0, 4.0, 5.0)] == [True, True, True, False]

    def test_too_many_connections_are_refused(self) -> None:
        gate = ThrottleGate(Throttle(max_connections=4, for_s=10))
        assert [gate.admits(0.0, 4), gate.admits(0.0, 5), gate.admits(9.9, 1), gate.admits(10.0, 4)] == [
            True,
            False,
            False,
            True,
        ]

    def test_impossible_bounds_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="max_rate_per_s"):
            Throttle(max_rate_per_s=0)
        with pytest.raises(ConfigurationError, match="max_connections"):
            Throttle(max_connections=-1)
