"""Where the right to download comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from midasdl.ceda.jwt import claims_of
from midasdl.ceda.secret import Secret
from midasdl.clock import iso_utc
from midasdl.errors import AuthenticationError

TOKEN_PAGE = "https://services.ceda.ac.uk/account/token/"  # noqa: S105 - an address, not a token


def is_token_text(text: str) -> bool:
    """Whether a text can travel in a header as a token: visible ASCII without spaces (RFC 6750)."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


@dataclass(frozen=True, slots=True)
class Credentials:
    """A ready token, or the name and password to get one; the token wins.

    Attributes
    ----------
    token : Secret or None
        Given by the user (``CEDA_TOKEN``); never replaced.
    username : str or None
        Case-sensitive at CEDA.
    password : Secret or None
    """

    token: Secret | None = None
    username: str | None = None
    password: Secret | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Credentials:
        """Read ``CEDA_TOKEN`` (or ``CEDA_ACCESS_TOKEN``), or ``CEDA_USERNAME`` and ``CEDA_PASSWORD``.

        Raises
        ------
        AuthenticationError
            When there is neither a token nor a complete pair, or the token cannot be one.
        """
        token = environment.get("CEDA_TOKEN") or environment.get("CEDA_ACCESS_TOKEN")
        username, password = environment.get("CEDA_USERNAME"), environment.get("CEDA_PASSWORD")
        if token and token.strip():
            return cls(token=_checked(token.strip()), username=username or None)
        if username and password:
            _require_text({"CEDA_USERNAME": username, "CEDA_PASSWORD": password})
            return cls(username=username, password=Secret(password))
        missing = "CEDA_PASSWORD" if username else "CEDA_USERNAME" if password else None
        problem = f"{missing} is missing" if missing else "There are no credentials for CEDA"
        raise AuthenticationError(
            f"{problem}: neither the environment nor .env has a token, or a user name with a password.",
            "Store them in a private file .env with: midasdl auth setup. Or set CEDA_USERNAME and CEDA_PASSWORD (or "
            "CEDA_TOKEN) in the environment. An account is free: https://services.ceda.ac.uk/",
        )


def _require_text(values: Mapping[str, str]) -> None:
    """Bytes that are no UTF-8 come out of the environment as halves of characters, which cannot be sent."""
    for name, value in values.items():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise AuthenticationError(
                f"{name} is not UTF-8 text.", "Type it again with: midasdl auth setup"
            ) from None


def _checked(token: str) -> Secret:
    if not is_token_text(token):
        raise AuthenticationError(
            "CEDA_TOKEN is not a token: it has spaces, line breaks or letters beyond ASCII inside.",
            f"Copy it again, in one piece, from {TOKEN_PAGE}",
        )
    return Secret(token)


def explain_token(token: str, now_us: int) -> AuthenticationError:
    """Why CEDA does not accept a token that the user gave, as far as the token itself tells."""
    claims = claims_of(token)
    if claims is None:
        cause = "it is no token of CEDA's, so that it must have been mistyped or not been copied whole"
    elif claims.expires_at is not None and claims.expires_at <= now_us:
        cause = f"it has expired, on {iso_utc(claims.expires_at)}"
    else:
        cause = (
            "it was revoked, as happens when newer ones are made (CEDA keeps two an account), or it was not copied "
            "whole"
        )
    return AuthenticationError(
        f"CEDA does not accept the token that it was given (CEDA_TOKEN): {cause}.",
        f"Make a new one at {TOKEN_PAGE} and store it with: midasdl auth setup --token. Or let midasdl get its own "
        "from your user name and password: midasdl auth setup",
    )
