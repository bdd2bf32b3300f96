"""What `midasdl auth` says: moments, spans of time, and where things come from; never a value. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midasdl.clock import iso_utc

if TYPE_CHECKING:
    from midasdl.ceda.dotenv_file import Stored
    from midasdl.ceda.sign_in import SignIn

UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def lasting(expires_at: int | None, now_us: int) -> dict[str, Any]:
    """When a token ends, as facts; each is None where the token does not tell."""
    if expires_at is None:
        return {"expires_at": None, "expires_in_s": None, "expired": None}
    left_s = (expires_at - now_us) // 1_000_000
    return {"expires_at": iso_utc(expires_at), "expires_in_s": left_s, "expired": left_s <= 0}


def sign_in_facts(signed: SignIn, now_us: int) -> dict[str, Any]:
    """For whom CEDA lets us in, and until when, as facts."""
    lasts = lasting(signed.expires_at, now_us)
    return {"username": signed.username, "by_cached_token": signed.by_cached_token, **lasts}


def accepted(facts: Mapping[str, Any]) -> str:
    """The same as a sentence."""
    whose = f"the account {facts['username']}" if facts["username"] else "the token"
    by_cache = (
        " It was cached: the password has not been tried. To try it: midasdl auth setup"
        if facts["by_cached_token"]
        else ""
    )
    return f"CEDA accepts {whose}. The token {how_long(facts)}.{by_cache}"


def how_long(facts: Mapping[str, Any]) -> str:
    """``lasts until 2026-09-08T10:11:12Z (in 2 d 3 h)``."""
    if facts["expires_at"] is None:
        return "does not say when it ends"
    if facts["expired"]:
        return f"ended {facts['expires_at']} ({span(-facts['expires_in_s'])} ago)"
    return f"lasts until {facts['expires_at']} (in {span(facts['expires_in_s'])})"


def span(seconds: int) -> str:
    """Seconds in the two units that matter: ``2 d 3 h``, ``5 min 0 s``, ``7 s``."""
    first = next((place for place, (_, length) in enumerate(UNITS) if seconds >= length), len(UNITS) - 1)
    parts = []
    for name, length in UNITS[first : first + 2]:
        count, seconds = divmod(seconds, length)
        parts.append(f"{count} {name}")
    return " ".join(parts)


def stored_lines(names: Sequence[str], file: Path, stored: Stored) -> list[str]:
    """What became of .env."""
    how = "a new file that only you can read" if stored.created else "which only you can read"
    lines = [f"Stored {enumeration(names)} in {file}, {how}."]
    if stored.tightened:
        lines.append("Until now others could read that file; its mode is 0600 from here on.")
    if stored.dropped:
        lines.append(f"Removed {enumeration(stored.dropped)} from it, which would have been used instead.")
    return lines


def status_lines(facts: Mapping[str, Any]) -> list[str]:
    """The facts of `midasdl auth status` for a person."""
    sources, dotenv = facts["sources"], facts["dotenv"]
    used = [_with_source(name, sources) for name in facts["names"]]
    others = [_with_source(name, sources) for name in sources if name not in facts["names"]]
    lines = [f"credentials   {enumeration(used) or 'none; store some with: midasdl auth setup'}"]
    if others:
        lines.append(f"not used      {enumeration(others)}")
    if facts["hidden_by_empty"]:
        empty = enumeration(facts["hidden_by_empty"])
        lines.append(f"hidden        {empty}: empty in the environment, which beats .env; unset to use it")
    mode = "private" if dotenv["private"] else "others can read it; keep it to yourself with: chmod 600 .env"
    lines.append(f".env          {mode if dotenv['exists'] else 'none in this folder'}")
    cached = facts["cached_token"]
    if facts["given_token"]:
        lines.append(f"your token    {how_long(facts['given_token'])}")
    else:
        lines.append(f"cached token  {how_long(cached) if cached else 'none; the next run gets one'}")
    return lines


def enumeration(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _with_source(name: str, sources: Mapping[str, str]) -> str:
    place = "the environment" if sources[name] == "environment" else sources[name]
    return f"{name} (from {place})"
