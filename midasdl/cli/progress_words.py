"""What pictures, lines and records of a run say in words, from a snapshot alone. Pure."""

from __future__ import annotations

import math
from datetime import datetime

from midasdl.cli.context import plural
from midasdl.progress.snapshot import Phase, Server, Snapshot


def percent(share: float) -> str:
    """``12.3 %``; ``100.0 %`` is all, and nothing less."""
    return f"{math.floor(share * 1000) / 10:.1f} %"


def span(seconds: float) -> str:
    """``12 s``, ``4 min 05 s``, ``2 h 07 min`` or ``3 d 04 h``: never two digits more than anybody needs."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02d} h"


def eta_words(snapshot: Snapshot) -> str:
    """When it will end, and how far to trust that."""
    if snapshot.tasks.left <= 0:
        return "nothing left"
    if snapshot.phase is Phase.ENDED:
        return f"{plural(snapshot.files.left, 'file')} left"
    if snapshot.eta_s is None:
        return "ETA: calculating"
    return f"ETA {span(snapshot.eta_s)} ({snapshot.eta_confidence} confidence)"


def server_words(server: Server) -> str | None:
    """What keeps anybody from asking a server at the full rate; None where nothing does."""
    if server.paused_until_s is not None:
        return f"paused until {time_of_day(server.paused_until_s)}: {server.pause_reason}"
    if server.breaker == "open" and server.tries_again_at_s is not None:
        return f"{server.host} is not available; tried again at {time_of_day(server.tries_again_at_s)}"
    if server.breaker == "half-open":
        return f"{server.host} was not available; one request is trying"
    if server.throttle_share < 1:
        return f"asked at {server.throttle_share:.0%} of the usual rate: {server.throttle_reason}"
    return None


def time_of_day(moment_s: float) -> str:
    """An instant as the clock on the wall shows it."""
    return f"{datetime.fromtimestamp(moment_s).astimezone():%H:%M:%S}"
