"""Who may log in, and which tokens live: two slots a user, as CEDA keeps them.

Pure: time is passed in, and nothing here touches a socket or a file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import threading
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

SLOTS = 2


class AccountState(StrEnum):
    """What the account service thinks of a user whose password is right."""

    OK = "ok"
    NOT_SET_UP = "not-set-up"
    DISABLED = "disabled"
    NO_STORED_TOKEN = "no-stored-token"  # noqa: S105 - a state, not a token


class TokenShape(StrEnum):
    """How a token looks: a JWT, a string without meaning, or an object that holds the JWT."""

    JWT = "jwt"
    OPAQUE = "opaque"
    OBJECT = "object"


class Login(StrEnum):
    """How an attempt to log in with HTTP Basic ended."""

    OK = "ok"
    GARBLED = "garbled"
    WRONG_PASSWORD = "wrong-password"  # noqa: S105 - a verdict, not a password
    NOT_SET_UP = "not-set-up"
    DISABLED = "disabled"
    NO_STORED_TOKEN = "no-stored-token"  # noqa: S105 - a state, not a token


@dataclass(slots=True)
class Account:
    """The one user that a simulator knows; its flags may be changed while the server runs.

    Parameters
    ----------
    username, password : str
        Both are compared exactly, case included.
    state : AccountState or str
        What the token service answers to the right password.
    licence_missing : bool
        Downloads are forbidden though the token is good.
    licence_redirect : bool
        Say so with a redirect to ``/data/<dir>?forbidden`` rather than with a 403.
    token_shape : TokenShape or str
        How `access_token` looks.
    honest_expires : bool
        Answer with the expiry of the new token. CEDA answers with that of the token it replaced.
    """

    username: str = "researcher"
    password: str = field(default="rain-or-shine", repr=False)
    state: str = AccountState.OK
    licence_missing: bool = False
    licence_redirect: bool = False
    token_shape: str = TokenShape.JWT
    honest_expires: bool = False

    def login(self, authorization: str | None) -> Login:
        """Judge an ``Authorization`` header; never raises."""
        credentials = read_basic(authorization)
        if credentials is None:
            return Login.GARBLED
        if credentials != (self.username, self.password):
            return Login.WRONG_PASSWORD
        return Login(AccountState(self.state).value)


def read_basic(authorization: str | None) -> tuple[str, str] | None:
    """Return user and password of an HTTP Basic header, or None if there are none to be read."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None
    user, colon, password = text.partition(":")
    return (user, password) if colon else None


def read_bearer(authorization: str | None) -> str | None:
    """Return the token of a ``Bearer`` header, or None."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


@dataclass(slots=True)
class _Token:
    text: str = field(repr=False)
    label: str | None
    expires_at_s: float
    revoked: bool = False


class Minted(NamedTuple):
    """What one mint gave: the token, when it ends, and when the one that it replaced would have ended."""

    token: str
    expires_at_s: float
    replaced_expires_at_s: float


class TokenStore:
    """The tokens of one account: two are kept, and each mint revokes the one that expires first.

    The account begins with two tokens made by hand long ago, so that the first answers already carry an
    expiry that lies in the past.

    Concurrency: every method may be called from any thread.
    """

    def __init__(self, lifetime_s: float, key: bytes, now_s: float) -> None:
        self._lifetime_s = lifetime_s
        self._key = key
        self._lock = threading.Lock()
        self._tokens: dict[str, _Token] = {}
        self._slots = [_Token("", None, now_s - 3600.0 * age) for age in range(SLOTS, 0, -1)]

    def mint(self, username: str, now_s: float, *, opaque: bool = False) -> Minted:
        """Make a token that is good for the store's lifetime; the one that expires first is revoked."""
        with self._lock:
            replaced = min(self._slots, key=lambda token: (not token.revoked, token.expires_at_s))
            replaced.revoked = True
            ordinal = len(self._tokens) + 1
            expires_at_s = now_s + self._lifetime_s
            text = self._write(username, ordinal, now_s, expires_at_s, opaque=opaque)
            token = _Token(text, f"token-{ordinal}", expires_at_s)
            self._slots[self._slots.index(replaced)] = self._tokens[text] = token
            return Minted(text, expires_at_s, replaced.expires_at_s)

    def accepts(self, text: str | None, now_s: float) -> bool:
        """Whether a request with this token is let in."""
        with self._lock:
            token = self._tokens.get(text or "")
            return token is not None and not token.revoked and now_s < token.expires_at_s

    def label(self, text: str | None) -> str | None:
        """Return ``token-<ordinal>``, ``unknown`` for a token that is not of this store, None without one."""
        if text is None:
            return None
        with self._lock:
            token = self._tokens.get(text)
            return token.label if token is not None else "unknown"

    def expire(self, text: str | None, now_s: float) -> None:
        """Let a token end now, whatever its claim says."""
        with self._lock:
            token = self._tokens.get(text or "")
            if token is not None:
                token.expires_at_s = min(token.expires_at_s, now_s)

    def revoke_all(self) -> None:
        """Revoke every token made so far."""
        with self._lock:
            for token in self._tokens.values():
                token.revoked = True

    def _write(self, username: str, ordinal: int, now_s: float, expires_at_s: float, *, opaque: bool) -> str:
        seed = self._key + ordinal.to_bytes(8, "big")
        if opaque:
            return hashlib.shake_256(b"opaque" + seed).hexdigest(32)
        claims: dict[str, str | int] = {
            "exp": int(expires_at_s),
            "iat": int(now_s),
            "jti": str(uuid.UUID(bytes=hashlib.shake_256(b"jti" + seed).digest(16), version=4)),
            "iss": "https://accounts.ceda.invalid/realms/ceda",
            "sub": username,
            "typ": "Bearer",
            "azp": "services-portal",
            "preferred_username": username,
        }
        return write_jwt(claims, self._key)


def write_jwt(claims: dict[str, str | int], key: bytes) -> str:
    """Write a JWT that looks like CEDA's; its signature is noise that depends on the claims and the key."""
    header = {"alg": "RS256", "typ": "JWT", "kid": hashlib.sha256(key).hexdigest()[:16]}
    parts = [_base64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims)]
    signature = hashlib.shake_256(key + ".".join(parts).encode()).digest(256)
    return ".".join([*parts, _base64url(signature)])


def token_answer(account: Account, minted: Minted) -> dict[str, object]:
    """Return the JSON of a 200 answer, exactly as the service words it."""
    expires_at_s = minted.expires_at_s if account.honest_expires else minted.replaced_expires_at_s
    expires = datetime.fromtimestamp(expires_at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    token: object = minted.token
    if account.token_shape == TokenShape.OBJECT:
        token = {"token": minted.token}
    return {"access_token": token, "expires": expires}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
