"""F5: which profile holds when; local clocks, nights, overlaps, and both changes of the clocks in London."""

from __future__ import annotations

from datetime import UTC, datetime, time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midasdl.config import from_environment, resolve
from midasdl.config.keys import tree_of
from midasdl.config.profiles import PROFILES
from midasdl.config.schedule import Holds, in_words, what_holds
from midasdl.config.settings import DAYS, PAUSE, Window
from midasdl.errors import ConfigurationError

WORKDAYS = DAYS[:5]
OFFICE = Window(days=WORKDAYS, from_time="08:00", to_time="18:00", profile="conservative")
NIGHT = Window(
    days=("sun", "mon", "tue", "wed", "thu"), from_time="22:00", to_time="06:00", profile="aggressive"
)
WEEKEND = Window(days=("sat", "sun"), from_time="00:00", to_time="24:00", profile="aggressive")
MAINTENANCE = Window(days=("wed",), from_time="03:00", to_time="04:00", profile=PAUSE)
WEEK = (MAINTENANCE, OFFICE, NIGHT, WEEKEND)


def us(text: str) -> int:
    """A moment in UTC: ``2026-11-25 12:00``."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


def at(text: str, windows: tuple[Window, ...] = WEEK) -> tuple[str | None, str | None]:
    """What holds, and until when, in UTC."""
    holds = what_holds(windows, us(text))
    until = holds.until_us
    return holds.profile, until and f"{datetime.fromtimestamp(until / 1e6, UTC):%Y-%m-%d %H:%M}"


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-11-25 07:59", (None, "2026-11-25 08:00")),
        ("2026-11-25 08:00", ("conservative", "2026-11-25 18:00")),
        ("2026-11-25 17:59", ("conservative", "2026-11-25 18:00")),
        ("2026-11-25 18:00", (None, "2026-11-25 22:00")),
        ("2026-11-25 23:00", ("aggressive", "2026-11-26 06:00")),
        ("2026-11-26 05:59", ("aggressive", "2026-11-26 06:00")),
        ("2026-11-25 02:00", ("aggressive", "2026-11-25 03:00")),
        ("2026-11-25 03:30", (PAUSE, "2026-11-25 04:00")),
        ("2026-11-25 04:00", ("aggressive", "2026-11-25 06:00")),
        ("2026-11-28 00:00", ("aggressive", "2026-11-30 06:00")),
        ("2026-11-27 23:00", (None, "2026-11-28 00:00")),
    ],
)
def test_each_part_of_the_week_has_its_profile(moment: str, expected: tuple[str, str]) -> None:
    """F5: office hours, nights over midnight, maintenance in a night, a weekend that goes over into a night."""
    assert at(moment) == expected


def test_of_windows_that_overlap_the_first_holds() -> None:
    """F5: the order decides, whichever is shorter."""
    wide = Window(from_time="00:00", to_time="24:00", profile="balanced")
    assert at("2026-11-25 12:00", (OFFICE, wide)) == ("conservative", "2026-11-25 18:00")
    assert at("2026-11-25 12:00", (wide, OFFICE)) == ("balanced", None)


def test_without_windows_the_settings_hold_for_ever() -> None:
    """F5."""
    assert what_holds((), us("2026-11-25 12:00")) == Holds()


def test_an_end_that_is_no_change_is_none() -> None:
    """F5: two windows of one profile that follow each other are one."""
    first = Window(from_time="08:00", to_time="12:00", profile="conservative")
    second = Window(from_time="12:00", to_time="18:00", profile="conservative")
    assert at("2026-11-25 09:00", (first, second)) == ("conservative", "2026-11-25 18:00")


SUMMER, AUTUMN = "2026-03-29", "2026-10-25"
"""The clocks in London go from 01:00 to 02:00, and from 02:00 back to 01:00 (both at 01:00 UTC)."""


def window(begins: str, ends: str) -> tuple[Window, ...]:
    return (Window(from_time=begins, to_time=ends, profile=PAUSE),)


@pytest.mark.parametrize(
    ("begins", "ends", "day", "lasts"),
    [
        ("08:00", "18:00", "2026-03-28", ("08:00", "18:00")),
        ("08:00", "18:00", SUMMER, ("07:00", "17:00")),
        ("00:30", "04:00", SUMMER, ("00:30", "03:00")),
        ("01:30", "04:00", SUMMER, ("01:00", "03:00")),
        ("00:30", "01:30", SUMMER, ("00:30", "01:00")),
        ("08:00", "18:00", "2026-10-24", ("07:00", "17:00")),
        ("08:00", "18:00", AUTUMN, ("08:00", "18:00")),
        ("00:30", "01:30", AUTUMN, None),
        ("01:00", "02:00", AUTUMN, ("00:00", "02:00")),
        ("01:30", "03:00", AUTUMN, ("00:30", "03:00")),
    ],
)
def test_when_the_clocks_change_a_window_is_where_local_clocks_show_it(
    begins: str, ends: str, day: str, lasts: tuple[str, str] | None
) -> None:
    """F5: an hour that comes twice belongs to a window twice; one that is left out takes no time."""
    if lasts is None:  # it begins the evening before by UTC
        assert at(f"{day} 00:00", window(begins, ends)) == (PAUSE, f"{day} 01:30")
        assert at("2026-10-24 23:29", window(begins, ends)) == (None, "2026-10-24 23:30")
        return
    first, last = lasts
    assert at(f"{day} {first}", window(begins, ends)) == (PAUSE, f"{day} {last}")
    assert at(f"{day} {last}", window(begins, ends))[0] is None
    before = what_holds(window(begins, ends), us(f"{day} {first}") - 1)
    assert (before.profile, before.until_us) == (None, us(f"{day} {first}"))


def test_a_window_that_lies_wholly_in_an_hour_that_is_left_out_never_comes() -> None:
    """F5: and the next day it does."""
    assert at(f"{SUMMER} 00:30", window("01:00", "02:00")) == (None, "2026-03-30 00:00")


def test_a_night_over_the_change_is_shorter_or_longer_by_the_hour() -> None:
    """F5."""
    night = (Window(days=("sat",), from_time="22:00", to_time="06:00", profile="aggressive"),)
    assert at("2026-03-28 22:00", night) == ("aggressive", f"{SUMMER} 05:00")
    assert at("2026-10-24 21:00", night) == ("aggressive", f"{AUTUMN} 06:00")


def test_other_places_have_other_clocks() -> None:
    """F5: and the end is told by those."""
    tokyo = Window(from_time="09:00", to_time="17:00", time_zone="Asia/Tokyo", profile=PAUSE)
    assert at("2026-11-25 00:00", (tokyo,)) == (PAUSE, "2026-11-25 08:00")
    assert in_words(us("2026-11-25 08:00"), "Asia/Tokyo") == "Wed 17:00 (Asia/Tokyo)"
    assert in_words(us("2026-07-01 08:00"), "Europe/London") == "Wed 09:00 (Europe/London)"


clock_times = st.builds("{:02d}:{:02d}".format, st.integers(0, 23), st.integers(0, 59))
windows_of_any_kind = st.builds(
    lambda **values: Window(**values),  # noqa: PLW0108 - hides the types that hypothesis would guess from
    days=st.lists(st.sampled_from(DAYS), min_size=1, unique=True).map(tuple),
    from_time=clock_times,
    to_time=clock_times,
    time_zone=st.sampled_from(["Europe/London", "UTC", "Australia/Lord_Howe"]),
    profile=st.sampled_from([*PROFILES, PAUSE]),
)


@settings(max_examples=60)
@given(
    st.lists(windows_of_any_kind, max_size=4).map(tuple),
    st.integers(0, 235 * 86_400).map(lambda seconds: us("2026-03-20 00:00") + seconds * 1_000_000),
    st.floats(0, 1),
)
def test_what_holds_holds_until_it_is_said_to_and_no_longer(
    windows: tuple[Window, ...], now_us: int, share: float
) -> None:
    """F5: asked again at any moment before the end the answer is the same, at the end it is another."""
    holds = what_holds(windows, now_us)
    if holds.until_us is None:
        assert what_holds(windows, now_us + 86_400_000_000).profile == holds.profile
        return
    between_us = now_us + int((holds.until_us - now_us) * share * 0.999)
    between = what_holds(windows, between_us)
    assert (between.profile, between.until_us) == (holds.profile, holds.until_us)
    assert what_holds(windows, holds.until_us).profile != holds.profile


def test_a_schedule_is_written_in_toml_or_as_json_in_the_environment() -> None:
    """F5 F3: days in any case, TOML's own times, the time zone of London unless another is named."""
    given_in_file = resolve(
        tree_of(
            {
                "performance.schedule": [
                    {
                        "days": ["Mon", "tuesday"],
                        "from": time(8),
                        "to": "24:00",
                        "profile": PAUSE,
                    }
                ]
            }
        )
    )
    variable = '[{"days": ["mon", "tue"], "from": "08:00", "to": "24:00", "profile": "pause"}]'
    assert resolve(from_environment({"MIDASDL_PERFORMANCE__SCHEDULE": variable})) == given_in_file
    (only,) = given_in_file.performance.schedule
    assert (only.days, only.from_time, only.time_zone) == (("mon", "tue"), "08:00", "Europe/London")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"days": ["someday"]}, "must be some of mon, tue"),
        ({"days": []}, "must be some of mon, tue"),
        ({"from": "25:00"}, "performance.schedule.0.from = '25:00'"),
        ({"to": "8:00"}, "performance.schedule.0.to = '8:00'"),
        ({"time_zone": "Europe/Londn"}, "is not a time zone"),
        ({"profile": "fast"}, "performance.schedule.0.profile = 'fast'"),
        ({"untill": "x"}, "performance.schedule.0.untill is not a setting"),
    ],
)
def test_a_window_that_cannot_be_meant_is_told(change: dict[str, object], told: str) -> None:
    """F3 F5: with its place in the list."""
    whole = {"days": ["mon"], "from": "08:00", "to": "18:00", "profile": "pause", **change}
    with pytest.raises(ConfigurationError) as raised:
        resolve(tree_of({"performance.schedule": [whole]}))
    assert told in raised.value.message
