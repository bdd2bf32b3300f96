"""What a token says of itself: a JWT can be read by anyone who holds it. Pure."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says, as far as it does.

    Attributes
    ----------
    username : str or None
        For whom it was made.
    issued_at, expires_at : int or None
        From when to when it is good (microseconds since 1970, by CEDA's clock).
    """

    username: str | None
    issued_at: int | None
    expires_at: int | None


def claims_of(text: str) -> Claims | None:
    """Read a token; None where it is no JWT. Nothing is verified: only CEDA can do that."""
    parts = text.split(".")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (IndexError, ValueError, RecursionError):
        return None
    if len(parts) != 3 or not isinstance(claims, dict):
        return None
    return Claims(_username(claims), _moment(claims, "iat"), _moment(claims, "exp"))


def _username(claims: dict[str, Any]) -> str | None:
    for name in ("preferred_username", "sub"):
        value = claims.get(name)
        if isinstance(value, str) and value.isprintable() and value:
            return value
    return None


def _moment(claims: dict[str, Any], name: str) -> int | None:
    try:
        return int(float(claims[name]) * 1e6)
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
