"""C2, I6: one token for all processes, kept privately; secrets that never show."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midasdl.ceda.secret import Secret
from midasdl.ceda.tokens import SHORT_LIFE_S, Token, expiry_of, token_from_reply
from midasdl.simulator.accounts import write_jwt

NOW = 1_790_000_000_000_000
NOW_S = NOW // 1_000_000
DAY_S = 86_400
SHORT = NOW + int(SHORT_LIFE_S * 1e6)


def jwt(**claims: Any) -> str:
    return write_jwt(claims, b"key")


def stamp(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def token(text: str, lifetime_s: float = 3 * DAY_S, now_us: int = NOW) -> Token:
    return Token(Secret(text), now_us, now_us + int(lifetime_s * 1e6))


# --- what the service answers

GOOD = jwt(exp=NOW_S + 3 * DAY_S, iat=NOW_S)
OPAQUE = "6f1d2c3b4a"


@pytest.mark.parametrize(
    ("reply", "text", "ends_at"),
    [
        ({"access_token": GOOD, "expires": stamp(NOW_S - 5)}, GOOD, NOW + 3 * DAY_S * 1_000_000),
        ({"access_token": GOOD}, GOOD, NOW + 3 * DAY_S * 1_000_000),
        ({"access_token": {"token": GOOD, "expires": stamp(NOW_S)}}, GOOD, NOW + 3 * DAY_S * 1_000_000),
        ({"access_token": OPAQUE, "expires": stamp(NOW_S + DAY_S)}, OPAQUE, NOW + DAY_S * 1_000_000),
        ({"access_token": {"token": OPAQUE, "expires": stamp(NOW_S + 60)}}, OPAQUE, NOW + 60_000_000),
        ({"access_token": OPAQUE, "expires": stamp(NOW_S - DAY_S)}, OPAQUE, SHORT),
        ({"access_token": OPAQUE, "expires": "soon"}, OPAQUE, SHORT),
        ({"access_token": OPAQUE, "expires": None}, OPAQUE, SHORT),
        ({"access_token": jwt(exp=NOW_S - DAY_S)}, jwt(exp=NOW_S - DAY_S), SHORT),
    ],
    ids=[
        "expires-of-the-replaced-token",
        "no-expires",
        "object",
        "opaque-with-expires",
        "opaque-object",
        "opaque-expires-past",
        "opaque-expires-rubbish",
        "opaque-expires-null",
        "jwt-already-over",
    ],
)
def test_c2_the_end_of_a_token_is_its_own_claim_then_expires_then_an_hour(
    reply: Any, text: str, ends_at: int
) -> None:
    got = token_from_reply(reply, NOW)
    assert got is not None
    assert got.secret.reveal() == text
    assert (got.obtained_at, got.expires_at) == (NOW, ends_at)


@pytest.mark.parametrize(
    "reply",
    [
        None,
        [],
        "token",
        {},
        {"access_token": ""},
        {"access_token": None},
        {"access_token": 5},
        {"access_token": {}},
    ]
    + [{"access_token": text} for text in ("two words", "line\nbreak", "naïve", "tab\t")],
)
def test_c2_what_is_no_token_is_not_taken_for_one(reply: Any) -> None:
    assert token_from_reply(reply, NOW) is None


@pytest.mark.parametrize("ahead_s", [-DAY_S, -7200, 7200, DAY_S], ids=str)
def test_c2_a_token_lives_as_long_as_it_says_though_the_services_clock_differs(ahead_s: int) -> None:
    theirs = NOW_S + ahead_s
    assert expiry_of(jwt(exp=theirs + 600, iat=theirs), NOW) == NOW + 600_000_000


def test_c2_a_token_without_time_of_issue_ends_at_its_exp() -> None:
    assert expiry_of(jwt(exp=NOW_S + 600), NOW) == NOW + 600_000_000


@given(st.one_of(st.text(), st.from_regex(r"[a-z]*\.[A-Za-z0-9_-]*\.[a-z]*", fullmatch=True)))
def test_c2_no_text_breaks_the_reading_of_a_token(text: str) -> None:
    assert expiry_of(text, NOW) is None


@pytest.mark.parametrize("exp", ["Infinity", "NaN", "1e999", '"x"', "null", "[]", "{}"])
def test_c2_no_claim_breaks_the_reading_of_a_token(exp: str) -> None:
    payload = base64.urlsafe_b64encode(f'{{"exp": {exp}}}'.encode()).decode().rstrip("=")
    assert expiry_of(f"a.{payload}.c", NOW) is None


@pytest.mark.parametrize(
    ("lifetime_s", "good_for_s"), [(3 * DAY_S, 3 * DAY_S - 60), (3600, 3540), (600, 540), (10, 9), (1, 0.9)]
)
def test_c2_a_token_is_renewed_a_minute_or_a_tenth_of_its_life_before_its_end(
    lifetime_s: float, good_for_s: float
) -> None:
    made = token("t", lifetime_s)
    assert made.usable(NOW + int(good_for_s * 1e6) - 1)
    assert not made.usable(NOW + int(good_for_s * 1e6))
