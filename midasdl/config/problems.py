"""What is wrong with some settings, in words: all of it together, each with what would be right."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from pydantic_core import ErrorDetails

from midasdl.config.keys import as_toml, fields, known_keys, range_of, value_of
from midasdl.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that cannot be used.

    Attributes
    ----------
    key : str
        Of the setting, or of one of those that do not go together.
    text : str
        What it is and why, without an end.
    """

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Rule:
    """Settings that must go together.

    Attributes
    ----------
    keys : tuple of str
        The rule is silent where one of them is faulty by itself.
    holds : callable
    why : str
    """

    keys: tuple[str, ...]
    holds: Callable[[Settings], bool]
    why: str


def _first_wait_fits(settings: Settings) -> bool:
    backoff = settings.performance.ceda_client.backoff
    return backoff.base_backoff_ms <= backoff.max_backoff_seconds * 1000


RULES = (
    Rule(
        (
            "performance.ceda_client.backoff.base_backoff_ms",
            "performance.ceda_client.backoff.max_backoff_seconds",
        ),
        _first_wait_fits,
        "the first wait is longer than the longest",
    ),
)
"""Combinations that cannot be meant."""


def in_words(texts: Sequence[str]) -> str:
    """One problem as a sentence, several as a list."""
    if len(texts) == 1:
        return f"This setting cannot be used: {texts[0]}."
    return "\n  ".join(["These settings cannot be used:", *texts])


def from_error(detail: ErrorDetails) -> Problem:
    """A problem of one key, as pydantic found it."""
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return Problem(key, f"{key} is not a setting{_suggestion(key)}")
    value = re.sub(r"//.*@", "//***@", repr(detail["input"]))  # a password in a URL is not repeated
    why = detail["msg"].removeprefix("Value error, ")
    return Problem(key, f"{key} = {value}: {why}{_allowed(key)}")


def from_rules(settings: Settings, faulty: Iterable[str]) -> list[Problem]:
    """The combinations among settings that cannot be meant, but for those of `faulty` keys."""
    faults = set(faulty)
    return [
        Problem(rule.keys[0], f"{_values(settings, rule.keys)}: {rule.why}")
        for rule in RULES
        if not faults & set(rule.keys) and not rule.holds(settings)
    ]


def _values(settings: Settings, keys: Iterable[str]) -> str:
    return " with ".join(f"{key} = {as_toml(value_of(settings, key))}" for key in keys)


def _allowed(key: str) -> str:
    allowed = next((range_of(field) for known, field in fields(Settings) if known == key), "")
    return f" (allowed: {allowed})" if allowed else ""


def _suggestion(key: str) -> str:
    """The known key that is nearest: the same name in another section, or a name that is spelt nearly so."""
    known = known_keys(Settings)
    moved = [each for each in known if each.rpartition(".")[2] == key.rpartition(".")[2]]
    near = moved if len(moved) == 1 else get_close_matches(key, known, n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""
