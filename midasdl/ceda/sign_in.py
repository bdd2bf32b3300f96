"""Does CEDA let us in? One token, one GET of a file that CEDA keeps for such questions, one clear answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from midasdl.ceda.connect import CedaAccess, connect, token_cache, token_folder
from midasdl.ceda.credentials import Credentials
from midasdl.ceda.jwt import claims_of
from midasdl.ceda.network import HELP, trusted_bundle
from midasdl.ceda.ranges import Sink
from midasdl.ceda.tokens import Token
from midasdl.ceda.verdict import FetchError, Verdict
from midasdl.clock import Clock
from midasdl.config import Settings
from midasdl.errors import AuthenticationError, MidasdlError, ServerUnavailableError
from midasdl.models import ErrorClass
from midasdl.politeness.lone_gate import Passage

TOKEN_CHECK = "badc/ARCHIVE_INFO/ACCESS_TEST/RESTRICTED/TOKEN_CHECK"  # noqa: S105 - a path, not a token
"""The file, below the origin of the archive, that any good token may read."""

LICENCE_PAGE = "https://catalogue.ceda.ac.uk/uuid/dbd451271eb04662beade68da43546e1"
"""The record of MIDAS Open, where its licence is found."""

AGAIN = "midasdl auth verify"


@dataclass(frozen=True, slots=True)
class SignIn:
    """CEDA lets us in.

    Attributes
    ----------
    username : str or None
        For whom; None where a token does not tell.
    expires_at : int or None
        When the token ends (microseconds since 1970); None where it does not tell.
    by_cached_token : bool
        With a token that was there already: the password was not put to the test.
    """

    username: str | None
    expires_at: int | None
    by_cached_token: bool = False


def sign_in(
    settings: Settings,
    credentials: Credentials,
    gate: Passage,
    clock: Clock,
    *,
    anew: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> SignIn:
    """Get a token, from the cache or the service, and read the probe file with it.

    Parameters
    ----------
    gate : Passage
        Every request passes it.
    anew : bool
        Ask the token service even where a token is cached, so that the password itself is put to the test.
    tell : callable
        Takes a sentence for the person who waits.

    Raises
    ------
    AuthenticationError
        With the cause and its cure.
    ServerUnavailableError
        CEDA cannot be asked.
    ConfigurationError
        The certificates to trust cannot be used.
    """
    trusted_bundle(settings.network.ca_bundle)
    access = connect(at_origin(settings), credentials, gate, clock, tell=tell)
    cached = None if credentials.token is not None else token_cache(settings, credentials.username).load()
    try:
        if anew and credentials.token is None:
            _mint(access, cached)
        access.client.fetch(TOKEN_CHECK, Nowhere())
    except FetchError as error:
        raise explain(error.verdict, probe_url(settings)) from None
    finally:
        access.close()
    return _signed_in(settings, credentials, cached)


def probe_url(settings: Settings) -> str:
    """Where the probe file is."""
    return f"{at_origin(settings).ceda.archive_url}/{TOKEN_CHECK}"


def at_origin(settings: Settings) -> Settings:
    """The same settings with the whole server for an archive: the probe file lies outside of MIDAS Open."""
    parts = urlsplit(settings.ceda.archive_url)
    ceda = settings.ceda.model_copy(update={"archive_url": f"{parts.scheme}://{parts.netloc}"})
    return settings.model_copy(update={"ceda": ceda})


def explain(verdict: Verdict, url: str) -> MidasdlError:
    """Why the probe file could not be read, as the error to raise."""
    match verdict.error_class:
        case ErrorClass.FORBIDDEN:
            return licence_missing(verdict, AGAIN)
        case ErrorClass.NOT_FOUND | ErrorClass.UNEXPECTED_PAGE | ErrorClass.REJECTED:
            return ServerUnavailableError(
                f"CEDA's file for trying tokens is not at {url}. {verdict.message}.",
                "Check ceda.archive_url: midasdl doctor shows it.",
            )
        case _:
            later = f"Try again later with: {AGAIN}"
            return ServerUnavailableError(f"{verdict.message}.", HELP.get(verdict.error_class, later))


def licence_missing(verdict: Verdict, again: str) -> AuthenticationError:
    """CEDA knows who we are and gives us nothing; `again` is what to type after the cure."""
    return AuthenticationError(
        f"CEDA knows this account and does not let it read the archive ({verdict.http_status}): a licence "
        "is missing.",
        f"Sign in at {LICENCE_PAGE}, accept the licence under 'Data access', then type: {again}",
    )


def forget_tokens(settings: Settings) -> int:
    """Remove every cached token, of whichever account, and return how many there were; may be repeated.

    The lock files stay: a process may be holding one.
    """
    removed = 0
    folder = token_folder(settings)
    for path in sorted([*folder.glob("token-*.json*"), *folder.glob("token-*.refusal*")]):
        path.unlink(missing_ok=True)
        removed += path.suffix == ".json"
    return removed


def _mint(access: CedaAccess, cached: Token | None) -> None:
    if cached is None:
        access.tokens.current()
    else:
        access.tokens.replace(cached.secret)


def _signed_in(settings: Settings, credentials: Credentials, cached: Token | None) -> SignIn:
    if credentials.token is not None:
        claims = claims_of(credentials.token.reveal())
        name = claims.username if claims else None
        return SignIn(name or credentials.username, claims.expires_at if claims else None)
    token = token_cache(settings, credentials.username).load()
    is_the_same = token is not None and cached is not None and token.secret == cached.secret
    return SignIn(credentials.username, token.expires_at if token else None, is_the_same)


class Nowhere(Sink):
    """Takes the body of the probe file, which is of no interest."""

    def write(self, _: bytes, /) -> None:
        """Let it go."""
