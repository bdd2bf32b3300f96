"""How politely servers were asked, as far as a ledger tells. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from midasdl.clock import iso_utc
from midasdl.ledger.coverage import OneRun, OneStep

KINDS = ("pause", "throttle", "breaker")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the settings of a run allow.

    Attributes
    ----------
    rate : float or None
        Requests a second; None where nothing limits it.
    in_flight : int or None
    """

    rate: float | None
    in_flight: int | None


def limits_of(run: OneRun) -> Limits:
    """What a run was allowed, by its recorded settings; an older version may have recorded less."""
    client = run.settings.get("performance", {}).get("ceda_client", {})
    spacing_ms, permits = client.get("min_request_spacing_ms", 0), client.get("max_concurrent_requests", 0)
    return Limits(1000 / spacing_ms if spacing_ms else None, permits or None)


def loosest(limits: Iterable[Limits]) -> Limits:
    """What was allowed at most."""
    known = list(limits)
    rates, permits = [each.rate for each in known], [each.in_flight for each in known]
    return Limits(
        max((rate for rate in rates if rate is not None), default=None) if None not in rates else None,
        max((most for most in permits if most is not None), default=None) if None not in permits else None,
    )


def seconds_of(runs: Sequence[OneRun], now_us: int) -> float:
    """How long runs have lasted, all together; a time in which two were on counts once.

    A run whose end nobody recorded counts until the next begins, or until now.
    """
    lasted_us = until_us = 0
    for number, run in enumerate(runs):
        following = runs[number + 1].started_us if number + 1 < len(runs) else now_us
        ended_us = run.ended_us if run.ended_us is not None else max(following, run.started_us)
        lasted_us += max(ended_us - max(run.started_us, until_us), 0)
        until_us = max(until_us, ended_us)
    return lasted_us / 1e6


def shares_over_time(steps: Iterable[OneStep]) -> list[tuple[int, float]]:
    """The throttle's share from each of its steps on."""
    moves = [(step.at_us, step.from_value, step.to_value) for step in steps if step.what == "throttle"]
    if not moves:
        return []
    return [(moves[0][0] - 1, _share(moves[0][1])), *((at, _share(to)) for at, _, to in moves)]


def _share(text: str | None) -> float:
    """``43.75%`` as 0.4375."""
    try:
        return float((text or "100%").rstrip("%")) / 100
    except ValueError:
        return 1.0


def pauses(steps: Iterable[OneStep]) -> list[tuple[int, int, str]]:
    """From when to when everybody was to wait, and why."""
    return [
        (step.at_us, _us(step.to_value, step.at_us), f"{step.host} until {step.to_value}: {step.reason}")
        for step in steps
        if step.what == "pause"
    ]


def _us(iso: str, otherwise: int) -> int:
    try:
        return int(datetime.fromisoformat(iso).timestamp() * 1e6)
    except ValueError:
        return otherwise


def span_of(run: OneRun, now_us: int) -> tuple[int, int, str]:
    """A run, as a band below a picture."""
    ended_us = run.ended_us if run.ended_us is not None else now_us
    code = "on, or killed" if run.exit_code is None else f"exit code {run.exit_code}"
    return (
        run.started_us,
        ended_us,
        f"run {run.run_id} ({run.command}), from {iso_utc(run.started_us)}, {code}",
    )
