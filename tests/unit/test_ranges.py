"""C13: what may be gone on with, how the rest is asked for, and which answer is the rest: tables after RFC 9110."""

from __future__ import annotations

import hashlib

import pytest
from requests.structures import CaseInsensitiveDict

from midasdl.ceda.ranges import Fit, Held, fit_of, range_headers, strong_validator

MODIFIED = "Sun, 24 Mar 2024 12:00:00 GMT"
DATE = "Sun, 24 Mar 2024 12:01:00 GMT"
HELD = Held(100, '"tag"', hashlib.md5())
HELD_BY_DATE = Held(100, MODIFIED, hashlib.md5())


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"ETag": '"tag"'}, '"tag"'),
        ({"ETag": '"tag"', "Last-Modified": MODIFIED, "Date": DATE}, '"tag"'),
        ({"ETag": '"tag"', "Content-Encoding": "identity"}, '"tag"'),
        ({"ETag": '"tag"', "Content-Encoding": "gzip"}, None),
        ({"ETag": '"tag"', "Accept-Ranges": "none"}, None),
        ({"ETag": 'W/"tag"'}, None),
        ({"ETag": "tag"}, None),
        ({"ETag": '"one", "two"'}, None),
        ({"ETag": '"two words"'}, None),
        ({"Last-Modified": MODIFIED, "Date": DATE}, MODIFIED),
        ({"ETag": 'W/"tag"', "Last-Modified": MODIFIED, "Date": DATE}, None),
        ({"Last-Modified": MODIFIED, "Date": "Sun, 24 Mar 2024 12:00:59 GMT"}, None),
        ({"Last-Modified": MODIFIED, "Date": "Sun, 24 Mar 2024 11:00:00 GMT"}, None),
        ({"Last-Modified": MODIFIED}, None),
        ({"Last-Modified": MODIFIED, "Date": "today"}, None),
        ({"Last-Modified": "Sunday, 24-Mar-24 12:00:00 GMT", "Date": DATE}, None),
        ({"Last-Modified": "long ago", "Date": DATE}, None),
        ({}, None),
    ],
)
def test_only_what_names_the_very_bytes_is_a_strong_validator(
    headers: dict[str, str], validator: str | None
) -> None:
    """C13: a weak tag forbids the date too; a date is strong from 60 s on; no body with an encoding."""
    assert strong_validator(CaseInsensitiveDict(headers)) == validator


def test_the_rest_is_asked_for_on_condition_that_the_file_is_the_same() -> None:
    """C13: Range never goes without If-Range, and neither goes where nothing is held."""
    assert range_headers(HELD) == {"Range": "bytes=100-", "If-Range": '"tag"'}
    assert range_headers(None) == {}


@pytest.mark.parametrize(
    ("status", "headers", "fit"),
    [
        (206, {"Content-Range": "bytes 100-199/200"}, Fit.REST),
        (206, {"Content-Range": "BYTES 100-100/101"}, Fit.REST),
        (206, {"Content-Range": "bytes 100-199/*"}, Fit.REST),
        (206, {"Content-Range": "bytes 100-199/200", "ETag": '"tag"'}, Fit.REST),
        (206, {"Content-Range": "bytes 100-199/200", "ETag": '"other"'}, Fit.MISFIT),
        (206, {"Content-Range": "bytes 100-199/200", "Content-Encoding": "gzip"}, Fit.MISFIT),
        (206, {"Content-Range": "bytes 0-199/200"}, Fit.MISFIT),
        (206, {"Content-Range": "bytes 101-199/200"}, Fit.MISFIT),
        (206, {"Content-Range": "bytes 100-149/200"}, Fit.MISFIT),
        (206, {"Content-Range": "bytes 100-199/150"}, Fit.MISFIT),
        (206, {"Content-Range": "bytes 100-99/100"}, Fit.MISFIT),
        (206, {"Content-Range": "lines 100-199/200"}, Fit.MISFIT),
        (206, {"Content-Range": "bytes */200"}, Fit.MISFIT),
        (206, {"Content-Type": "multipart/byteranges; boundary=x"}, Fit.MISFIT),
        (206, {}, Fit.MISFIT),
        (416, {"Content-Range": "bytes */100"}, Fit.MISFIT),
        (416, {"Content-Range": "bytes 100-199/200"}, Fit.MISFIT),
        (416, {}, Fit.MISFIT),
        (200, {}, Fit.WHOLE),
        (302, {}, Fit.WHOLE),
        (404, {}, Fit.WHOLE),
        (503, {}, Fit.WHOLE),
    ],
)
def test_only_the_missing_bytes_of_the_same_file_are_appended(
    status: int, headers: dict[str, str], fit: Fit
) -> None:
    """C13: any other 206 and every 416 mean that what is held is of no use."""
    assert fit_of(HELD, status, CaseInsensitiveDict(headers)) is fit
    assert fit_of(None, status, CaseInsensitiveDict(headers)) is Fit.WHOLE


@pytest.mark.parametrize(("modified", "fit"), [(MODIFIED, Fit.REST), (DATE, Fit.MISFIT)])
def test_a_rest_that_was_modified_meanwhile_does_not_fit(modified: str, fit: Fit) -> None:
    """C13: some servers look at Range and not at If-Range."""
    headers = {"Content-Range": "bytes 100-199/200", "Last-Modified": modified, "ETag": '"any"'}
    assert fit_of(HELD_BY_DATE, 206, CaseInsensitiveDict(headers)) is fit
