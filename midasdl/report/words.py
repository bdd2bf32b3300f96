"""Numbers and times as a report says them. Pure."""

from __future__ import annotations

from midasdl.clock import iso_utc


def number(value: int) -> str:
    """``1234567`` as ``1,234,567``."""
    return f"{value:,}"


def size(count: float) -> str:
    """Bytes in a unit that fits: ``12.3 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def percent(share: float) -> str:
    """A share; never rounded up to all, nor down to nothing."""
    if share in {0.0, 1.0}:
        return f"{share * 100:.0f} %"
    return f"{min(max(share * 100, 0.1), 99.9):.1f} %"


def moment(at_us: int | None) -> str:
    """A time for people: ``2026-09-08 10:11``."""
    return "" if at_us is None else iso_utc(at_us)[:16].replace("T", " ")


def span(seconds: float) -> str:
    """``40 s``, ``4 min 05 s``, ``2 h 07 min`` or ``3 d 4 h``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
