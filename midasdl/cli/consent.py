"""What is asked of a person before CEDA is asked for much."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from midasdl.errors import UsageError

if TYPE_CHECKING:
    from midasdl.config import Settings


def require_consent(settings: Settings, command: str, *, sure: bool) -> None:
    """See that the profile which asks CEDA for much is meant, where it is going to be used.

    Raises
    ------
    UsageError
        It is not, or there is nobody to say so.
    """
    from midasdl.config.profiles import ASKS_FIRST
    from midasdl.config.resolution import with_profile

    if sure or not concerns_ceda(settings) or ASKS_FIRST not in profiles_of(settings):
        return
    client = with_profile(settings, ASKS_FIRST).performance.ceda_client
    pace = (
        f"The profile {ASKS_FIRST} asks CEDA for up to {client.max_concurrent_requests} files at a time, one each "
        f"{client.min_request_spacing_ms} ms"
    )
    if not sys.stdin.isatty():
        raise UsageError(
            f"{pace}, and nobody is here to say that this is meant.",
            f"Say so with: midasdl {command} --yes, or take another with: midasdl {command} --profile balanced",
        )
    from midasdl.cli.ask import agrees

    if not agrees(f"{pace}. Use it?"):
        raise UsageError("Nothing was started.", f"Go on with: midasdl {command} --profile balanced")


def profiles_of(settings: Settings) -> set[str]:
    """Every profile that a run with these settings may use."""
    return {settings.performance.profile, *(window.profile for window in settings.performance.schedule)}


def concerns_ceda(settings: Settings) -> bool:
    """Whether requests go to a host of CEDA's."""
    from midasdl.config.settings import is_ceda

    urls = (settings.ceda.archive_url, settings.ceda.listing_url, settings.ceda.token_url)
    return any(is_ceda(urlsplit(url).netloc) for url in urls)
