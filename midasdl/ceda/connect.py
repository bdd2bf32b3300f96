"""Building the client of one process from settings."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import requests

from midasdl.ceda.client import CedaClient, ClientLimits
from midasdl.ceda.credentials import Credentials
from midasdl.ceda.persist import Patience
from midasdl.ceda.session import open_session
from midasdl.ceda.token_service import MintPatience, TokenService
from midasdl.ceda.tokens import LOCK_PATIENCE_S, TokenCache, TokenSource
from midasdl.clock import Clock
from midasdl.config import Settings
from midasdl.politeness.lone_gate import Passage


@dataclass(frozen=True, slots=True)
class CedaAccess:
    """A session, the token that it carries and the client that uses both; close it when done."""

    session: requests.Session
    tokens: TokenSource
    client: CedaClient

    def close(self) -> None:
        """Let go of the connections."""
        self.session.close()


def connect(
    settings: Settings,
    credentials: Credentials,
    gate: Passage,
    clock: Clock,
    *,
    outage_s: float = 0.0,
    tell: Callable[[str], None] = lambda _: None,
    since_us: int | None = None,
) -> CedaAccess:
    """Open one process's access to CEDA; no request is made yet.

    Parameters
    ----------
    outage_s : float
        How long a token service that is away is waited for; without it the retries of the settings must do.
    tell : callable
        Takes a sentence for the person who waits for a token.
    since_us : int, optional
        When what this process belongs to has begun: a refusal of the password is heard once from then on.
    """
    session = open_session(settings.network.ca_bundle)
    patience = settings.performance.ceda_client
    timeout_s = (patience.connection_timeout_seconds, patience.request_timeout_seconds)
    mint_patience = MintPatience(Patience.from_settings(settings, random.uniform), outage_s)
    service = TokenService(
        session, settings.ceda.token_url, credentials, gate, timeout_s, clock, mint_patience, tell
    )
    cache = token_cache(settings, credentials.username)
    tokens = TokenSource(credentials, cache, service.mint, clock, LOCK_PATIENCE_S + outage_s, since_us)
    memory = settings.performance.memory
    limits = ClientLimits(*timeout_s, memory.max_file_size_in_memory, memory.download_chunk_size)
    client = CedaClient(session, settings.ceda.archive_url, tokens, gate.request, limits, clock)
    return CedaAccess(session, tokens, client)


def token_cache(settings: Settings, username: str | None) -> TokenCache:
    """The token of one user at the token service, as all processes share it."""
    return TokenCache(token_folder(settings), f"{settings.ceda.token_url}\n{username}")


def token_folder(settings: Settings) -> Path:
    """Where tokens are cached."""
    return settings.storage.token_cache or default_token_folder()


def default_token_folder() -> Path:
    """The user's private cache folder for tokens."""
    return platformdirs.user_cache_path("midasdl", appauthor=False) / "tokens"
