"""Which profile holds when: windows of the week in local time, and what they come to at a moment. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from midasdl.config.settings import DAYS, PAUSE, Window

LOOK_BACK_DAYS, LOOK_AHEAD_DAYS = 2, 9
"""A window lasts a day at most, and every one comes again within a week."""

DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Holds:
    """What holds at a moment.

    Attributes
    ----------
    profile : str or None
        ``pause``, or a profile; None outside of all windows, where the settings are as they are.
    until_us : int or None
        When something else begins to hold; None: never.
    time_zone : str
        Of the window, for people; outside of all of them that of the first.
    """

    profile: str | None = None
    until_us: int | None = None
    time_zone: str = "UTC"

    @property
    def is_pause(self) -> bool:
        """Whether nobody is to work."""
        return self.profile == PAUSE


@dataclass(frozen=True, slots=True)
class Stretch:
    """One occurrence of a window, in microseconds since 1970; the end is no part of it."""

    begins_us: int
    ends_us: int
    window: Window


def what_holds(windows: Sequence[Window], now_us: int) -> Holds:
    """What a schedule says of a moment: of windows that overlap the first in their order holds.

    Parameters
    ----------
    windows : sequence of Window
    now_us : int
    """
    if not windows:
        return Holds()
    stretches = list(_stretches(windows, now_us))
    window = _window_at(stretches, now_us)
    profile = window.profile if window else None
    horizon_us = now_us + (LOOK_AHEAD_DAYS - 1) * DAY_US
    changes = sorted({moment for each in stretches for moment in (each.begins_us, each.ends_us)})
    until_us = next(
        (
            moment
            for moment in changes
            if now_us < moment <= horizon_us and _profile_of(_window_at(stretches, moment)) != profile
        ),
        None,
    )
    return Holds(profile, until_us, (window or windows[0]).time_zone)


def in_words(moment_us: int, time_zone: str) -> str:
    """A moment as people say it: ``Mon 18:00 (Europe/London)``."""
    local = datetime.fromtimestamp(moment_us / 1e6, UTC).astimezone(_zone(time_zone))
    clock = f"{local:%H:%M:%S}" if local.second else f"{local:%H:%M}"
    return f"{DAYS[local.weekday()].capitalize()} {clock} ({time_zone})"


def _window_at(stretches: Sequence[Stretch], moment_us: int) -> Window | None:
    return next(
        (each.window for each in stretches if each.begins_us <= moment_us < each.ends_us),
        None,
    )


def _profile_of(window: Window | None) -> str | None:
    return None if window is None else window.profile


def _stretches(windows: Sequence[Window], now_us: int) -> Iterator[Stretch]:
    """The occurrences of each window around a moment, in the order of the windows."""
    now = datetime.fromtimestamp(now_us / 1e6, UTC)
    for window in windows:
        today = now.astimezone(_zone(window.time_zone)).date()
        for offset in range(-LOOK_BACK_DAYS, LOOK_AHEAD_DAYS):
            day = today + timedelta(days=offset)
            if DAYS[day.weekday()] in window.days:
                yield _stretch(window, day)


@lru_cache(1_024)
def _stretch(window: Window, day: date) -> Stretch:
    """The occurrence that begins on a day; one that ends no later than it begins ends on the next day."""
    begins, ends = _clock_time(window.from_time), _clock_time(window.to_time)
    last_day = day if ends > begins else day + timedelta(days=1)
    return Stretch(
        _moment_us(day, begins, window.time_zone, last=False),
        _moment_us(last_day, ends, window.time_zone, last=True),
        window,
    )


def _clock_time(text: str) -> time:
    return time(0) if text.startswith("24") else time.fromisoformat(text)


def _moment_us(day: date, clock: time, time_zone: str, *, last: bool) -> int:
    """When local clocks show a time: of an hour that comes twice the first or the last such moment.

    In an hour that is left out it is the moment at which it is left out.
    """
    zone = _zone(time_zone)
    wall = datetime.combine(day, clock)
    before, after = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if before > after:  # the clocks pass over this time; read with either offset it lies beside the change
        return _us(_change_between(after, before, zone))
    return _us(after if last else before)


def _change_between(early: datetime, late: datetime, zone: ZoneInfo) -> datetime:
    """The moment, to the second, at which the offset of a zone changes."""
    offset = early.astimezone(zone).utcoffset()
    while late - early > timedelta(seconds=1):
        middle = (early + (late - early) / 2).replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == offset:
            early = middle
        else:
            late = middle
    return late


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


@lru_cache(64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
