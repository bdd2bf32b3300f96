"""Dates as HTTP writes them. Pure."""

from __future__ import annotations

import re
from calendar import timegm
from datetime import UTC
from email.utils import parsedate_to_datetime

USUAL = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-3][0-9]) ([A-Z][a-z]{2}) ((?:19[789]|20[0-9])[0-9]) "
    r"([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]) GMT"
)
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DAYS_EVERY_MONTH_HAS = 28


def seconds_since_1970(date: str) -> float | None:
    """An HTTP date as a number, or None where it is none.

    The form that servers use is read by hand; every other one, and what may not exist, is left to the standard
    library, which takes ten times as long.
    """
    usual = USUAL.fullmatch(date)
    if usual is not None:
        day, month, year, *time = usual.groups()
        if month in MONTHS and 1 <= int(day) <= DAYS_EVERY_MONTH_HAS:
            return float(timegm((int(year), MONTHS.index(month) + 1, int(day), *map(int, time))))
    try:
        moment = parsedate_to_datetime(date)
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None
