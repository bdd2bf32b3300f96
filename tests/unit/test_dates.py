"""C6, S4: dates of HTTP are read as the standard library reads them, and the usual ones faster."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midasdl.ceda.dates import seconds_since_1970

LAST = int(datetime(2099, 12, 31, tzinfo=UTC).timestamp())


@given(st.integers(0, LAST))
def test_every_moment_is_read_as_it_was_written(moment_s: int) -> None:
    assert seconds_since_1970(formatdate(moment_s, usegmt=True)) == moment_s


@pytest.mark.parametrize(
    "date",
    [
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "Wed, 21 Oct 2015 07:28:60 GMT",
        "Wed, 21 Oct 2015 07:28:00 +0100",
        "Wed, 21 Oct 2015 07:28:00 -0000",
        "Sat, 29 Feb 2020 00:00:00 GMT",
        "Sun, 31 Dec 1989 23:59:59 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Wed, 21 Okt 2015 07:28:00 GMT",
    ],
)
def test_other_forms_are_left_to_the_standard_library(date: str) -> None:
    try:
        moment = parsedate_to_datetime(date)
        expected = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except ValueError:
        expected = None
    assert seconds_since_1970(date) == expected


@pytest.mark.parametrize(
    "date", ["", "soon", "Sat, 30 Feb 2019 00:00:00 GMT", "Wed, 00 Oct 2015 07:28:00 GMT", "7"]
)
def test_what_is_no_date_is_none(date: str) -> None:
    assert seconds_since_1970(date) is None
