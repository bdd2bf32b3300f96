"""Workers that begin a moment after another of their run was refused a token."""

from __future__ import annotations

from contextlib import suppress
from multiprocessing.connection import Connection

from midasdl.ceda.connect import token_cache
from midasdl.ceda.tokens import Token, TokenSource
from midasdl.clock import SystemClock
from midasdl.errors import AuthenticationError
from midasdl.worker_process import WorkerOrder, work


def work_after_a_refusal(order: WorkerOrder, pipe: Connection) -> None:
    """Let another hear of the account that it is not accepted, and begin only then."""
    cache = token_cache(order.settings, order.credentials.username)
    other = TokenSource(order.credentials, cache, _refuse, SystemClock())
    with suppress(AuthenticationError):
        other.replace(other.current())
    work(order, pipe)


def _refuse() -> Token:
    raise AuthenticationError("CEDA does not accept the password.")
