"""Dates as HTTP writes them. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

USUAL = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-3][0-9]) ([A-Z][a-z]{2}) ((?:19[789]|20[0-9])[0-9]) "
    r"([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]) GMT"
)
NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
MONTHS = {name: number for number, name in enumerate(NAMES, start=1)}
DAYS_EVERY_MONTH_HAS = 28
DATES_REMEMBERED = 512
"""Files of one release were written on a few days, and answers of one second bear one date."""


@lru_cache(maxsize=DATES_REMEMBERED)
def seconds_since_1970(date: str) -> float | None:
    """An HTTP date as a number, or None where it is none.

    The form that servers use is read by hand; every other one, and what may not exist, is left to the standard
    library, which takes ten times as long.
    """
    usual = USUAL.fullmatch(date)
    if usual is not None:
        day, month, year, *time = usual.groups()
        if month in MONTHS and 1 <= int(day) <= DAYS_EVERY_MONTH_HAS:
            hour, minute, second = map(int, time)
            return datetime(int(year), MONTHS[month], int(day), hour, minute, second, tzinfo=UTC).timestamp()
    try:
        moment = parsedate_to_datetime(date)
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None
