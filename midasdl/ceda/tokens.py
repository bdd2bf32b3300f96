"""One access token for all processes: cached privately, renewed once, whoever notices first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midasdl.ceda.credentials import Credentials, explain_token, is_token_text
from midasdl.ceda.jwt import claims_of
from midasdl.ceda.private_file import write_private
from midasdl.ceda.refusals import RefusalNote
from midasdl.ceda.secret import Secret
from midasdl.clock import Clock
from midasdl.errors import AuthenticationError, ServerUnavailableError, StoppedError, StorageError

if TYPE_CHECKING:
    from filelock import FileLock

RENEW_BEFORE_S = 60.0
"""A token is replaced this long before it ends, so that none lapses under a request."""

SHORT_LIFE_S = 3_600.0
"""Assumed of a token that does not say when it ends."""

LOCK_PATIENCE_S = 4_500.0
"""Longer than a request for a token may take, which may first have to wait for the end of a pause."""

LOOK_AGAIN_S = 0.1
"""How often somebody who waits for the lock tries to have it."""


@dataclass(frozen=True)
class Token:
    """A Bearer token, when we got it and when it ends (microseconds since 1970, by our clock)."""

    secret: Secret
    obtained_at: int
    expires_at: int

    @cached_property
    def good_until_us(self) -> float:
        """Until when it is used; a short-lived token for nine tenths of its life."""
        return self.expires_at - min(RENEW_BEFORE_S * 1e6, (self.expires_at - self.obtained_at) / 10)

    def usable(self, now_us: int) -> bool:
        """Whether it is still good for a while."""
        return now_us < self.good_until_us


def expiry_of(text: str, now_us: int) -> int | None:
    """When a JWT that was minted just now ends, by its own claims; None if they cannot be read.

    Where it says when it was issued, its length counts from `now_us`: the service's clock and ours may differ.
    """
    claims = claims_of(text)
    if claims is None or claims.expires_at is None:
        return None
    if claims.issued_at is not None and claims.expires_at > claims.issued_at:
        return now_us + claims.expires_at - claims.issued_at
    return claims.expires_at


def token_from_reply(reply: Any, now_us: int) -> Token | None:
    """The token in the service's JSON, in either of the shapes that have been seen; None if there is none.

    The reply's ``expires`` may be that of the token it replaces: the JWT's ``exp`` is believed first, ``expires``
    only where it lies ahead, else a short life is assumed.
    """
    if not isinstance(reply, dict):
        return None
    text, expires = reply.get("access_token"), reply.get("expires")
    if isinstance(text, dict):
        inner: dict[str, Any] = text
        text, expires = inner.get("token"), inner.get("expires", expires)
    if not isinstance(text, str) or not is_token_text(text):
        return None
    stated = _moment(expires)
    short_life = now_us + int(SHORT_LIFE_S * 1e6)
    ends = expiry_of(text, now_us) or (stated if stated and stated > now_us else short_life)
    return Token(Secret(text), now_us, ends if ends > now_us else short_life)


def _moment(text: object) -> int | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1e6)


class TokenCache:
    """The token of one account in a private file, shared by all processes of a user.

    Parameters
    ----------
    folder : Path
        Made with mode 0700.
    account : str
        Whatever tells one account at one service from another.

    Notes
    -----
    Crash safety: the lock is the operating system's and falls with its holder; the file is replaced atomically.
    """

    def __init__(self, folder: Path, account: str) -> None:
        name = hashlib.sha256(account.encode()).hexdigest()[:16]
        self._file = folder / f"token-{name}.json"
        self._lock = folder / f"token-{name}.lock"
        self.refusal = RefusalNote(folder / f"token-{name}.refusal")

    def load(self) -> Token | None:
        """The cached token, or None if there is none that can be read."""
        try:
            stored = json.loads(self._file.read_text())
            token = Token(Secret(stored["token"]), int(stored["obtained_at"]), int(stored["expires_at"]))
            return token if is_token_text(token.secret.reveal()) else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return None

    def store(self, token: Token) -> None:
        """Replace the cached token."""
        times = {"obtained_at": token.obtained_at, "expires_at": token.expires_at}
        write_private(self._file, json.dumps({"token": token.secret.reveal(), **times}))

    @contextmanager
    def locked(self, clock: Clock, patience_s: float = LOCK_PATIENCE_S) -> Iterator[None]:
        """Let only one process ask for a token at a time.

        Raises
        ------
        StorageError
            When the folder cannot be used.
        ServerUnavailableError
            When another process has been asking for too long.
        StoppedError
            When the caller is asked to stop while it waits.
        """
        from filelock import FileLock  # noqa: PLC0415 - most processes find a token and make none

        lock = FileLock(self._lock, mode=0o600)
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _wait_for(lock, clock, patience_s)
            try:
                yield
            finally:
                lock.release()
        except OSError as error:
            raise StorageError(
                f"The token cannot be kept in {self._file.parent}: {error.strerror or error}.",
                "Choose another folder with MIDASDL_STORAGE__TOKEN_CACHE=FOLDER.",
            ) from error


def _wait_for(lock: FileLock, clock: Clock, patience_s: float) -> None:
    from filelock import Timeout  # noqa: PLC0415 - as above

    began_s = clock.monotonic()
    while True:
        try:
            lock.acquire(timeout=0)
            return
        except Timeout:
            if clock.monotonic() - began_s > patience_s:
                raise ServerUnavailableError(
                    f"Another process has been asking for a token for {patience_s:.0f} s.",
                    "Nothing is lost. Go on later with: midasdl resume",
                ) from None
        if clock.wait(LOOK_AGAIN_S):
            raise StoppedError("The worker was asked to stop.")


class TokenSource:
    """The token that requests carry.

    Parameters
    ----------
    credentials : Credentials
    cache : TokenCache
    mint : callable
        Asks the service for a new token; passes the gate like every request.
    clock : Clock
    lock_patience_s : float
        How long another process may take to get a token.
    since_us : int, optional
        What the service has said to others after this moment is an answer to this process too; from now on without it.

    Notes
    -----
    Concurrency: any number of processes; one of them mints, the others find the result in the cache, or a note of
    what the service said.
    """

    def __init__(
        self,
        credentials: Credentials,
        cache: TokenCache,
        mint: Callable[[], Token],
        clock: Clock,
        lock_patience_s: float = LOCK_PATIENCE_S,
        since_us: int | None = None,
    ) -> None:
        self._credentials = credentials
        self._cache = cache
        self._mint = mint
        self._clock = clock
        self._lock_patience_s = lock_patience_s
        self._since_us = clock.now_us() if since_us is None else since_us
        self._token: Token | None = None

    def current(self) -> Secret:
        """A token that is good for now: the user's own, the cached one, or a new one.

        Raises
        ------
        AuthenticationError, ServerUnavailableError, StorageError
        """
        if self._credentials.token is not None:
            return self._credentials.token
        now = self._clock.now_us()
        if self._token is not None and now < self._token.good_until_us:
            return self._token.secret
        self._token = self._cache.load()
        if self._token is None or not self._token.usable(now):
            self._token = self._mint_unless_done(None if self._token is None else self._token.secret)
        return self._token.secret

    def replace(self, rejected: Secret) -> Secret:
        """Another token after CEDA has turned `rejected` down.

        Raises
        ------
        AuthenticationError
            When the user gave the token: it is never replaced.
        """
        if self._credentials.token is not None:
            raise explain_token(self._credentials.token.reveal(), self._clock.now_us())
        self._token = self._mint_unless_done(rejected)
        return self._token.secret

    def latest(self, token: Secret) -> Secret:
        """What to send instead of `token` at this moment: another one, if it is about to end and one is cached."""
        if not self.has_lapsed(token):
            return token
        cached = self._cache.load()
        if cached is None or not cached.usable(self._clock.now_us()):
            return token
        self._token = cached
        return cached.secret

    def has_lapsed(self, token: Secret) -> bool:
        """Whether `token` is of no use because of its age alone, so that its refusal says nothing."""
        if self._credentials.token is not None or self._token is None:
            return False
        mine = self._token.secret
        return (token is not mine and token != mine) or self._clock.now_us() >= self._token.good_until_us

    def _mint_unless_done(self, useless: Secret | None) -> Token:
        """Under the lock, look again whether another process has put a token other than `useless` there."""
        with self._cache.locked(self._clock, self._lock_patience_s):
            cached = self._cache.load()
            if cached and cached.usable(self._clock.now_us()) and cached.secret != useless:
                return cached
            self._heed_refusal()
            token = self._mint_or_note()
            self._cache.store(token)
            self._cache.refusal.remove()
            return token

    def _heed_refusal(self) -> None:
        """Raise what another process has just been told."""
        if self._credentials.password is None:
            return
        now_us = self._clock.now_us()
        refused = self._cache.refusal.read(self._credentials.password, self._since_us, now_us)
        if refused is not None:
            raise refused

    def _mint_or_note(self) -> Token:
        try:
            return self._mint()
        except (AuthenticationError, ServerUnavailableError) as error:
            if self._credentials.password is not None:
                with suppress(OSError):
                    self._cache.refusal.write(error, self._credentials.password, self._clock.now_us())
            raise
