"""Rules by which the stand-in misbehaves, and the choice of the rule that hits a request.

Pure: a rule is data, the plan counts, and `delivery` and `handler` act on what was chosen.
"""

from __future__ import annotations

import difflib
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from midasdl.errors import ConfigurationError
from midasdl.simulator.routes import Route


class FaultAction(StrEnum):
    """What a fault does to the request that it hits."""

    RESET = "reset"
    """Reset the connection before any answer."""
    CLOSE = "close"
    """Close the connection without an answer."""
    TRUNCATE = "truncate"
    """Announce the full length, send `bytes` of it (default: half) and close."""
    SHORT = "short"
    """Send `bytes` of the body (default: half) as if that were all of it."""
    CORRUPT = "corrupt"
    """Send the right number of bytes, `bytes` of them wrong (default: one)."""
    STALL = "stall"
    """Send the headers and `bytes` of the body (default: none), then nothing for `seconds`, then the rest."""
    DRIP = "drip"
    """Send `bytes` of the body (default: all) one at a time, each after `seconds`, then the rest."""
    DELAY = "delay"
    """Wait `seconds` before the first byte."""
    LOGIN_PAGE = "login-page"
    """Answer 200 with the login page."""
    REDIRECT_TO_LOGIN = "redirect-to-login"
    """Answer 302 to the login page."""
    STATUS = "status"
    """Answer `status` (default: 503) with `body` or a small HTML page, and `retry_after` if given."""
    EXPIRE_TOKEN = "expire-token"  # noqa: S105 - an action, not a token
    """The token that the request carries has ended, from this request on."""
    REVOKE_TOKENS = "revoke-tokens"
    """Every token made so far is revoked, from this request on."""
    GZIP = "gzip"
    """Encode the body with gzip though nobody asked for it."""
    CHUNKED = "chunked"
    """Send the body in chunks, without announcing its length."""
    CLOSE_AFTER = "close-after"
    """Answer well, then close the keep-alive connection unannounced."""
    HTML_200 = "html-200"
    """Answer 200 with `body` or an HTML page that is not the login page."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One rule: which requests it hits, how often, and what happens to them.

    A request counts for every rule that matches it; the first rule in order that is due hits it, alone.

    Parameters
    ----------
    action : FaultAction or str
        What happens.
    route : str, optional
        Only requests of this route: ``token``, ``download``, ``listing``, ``signin`` or ``other``.
    path : str
        Only requests whose decoded URL path matches this pattern of `fnmatch`.
    after : int
        Let this many matching requests pass first.
    times : int, optional
        Hit this many requests; None for ever.
    probability : float
        Hit a request that is due with this probability.
    per_path : bool
        Count `after` and `times` for each path by itself.
    status : int
        For ``status``.
    retry_after : str, optional
        The ``Retry-After`` header of an answer made by the fault: seconds or an HTTP date.
    seconds : float
        For ``stall``, ``drip`` and ``delay``.
    bytes : int, optional
        For ``truncate``, ``short``, ``corrupt``, ``stall`` and ``drip``.
    body, content_type : str, optional
        Replace the page of ``status`` and ``html-200``.
    headers : mapping of str to str
        Further headers of the answer, whatever the action.

    Raises
    ------
    ConfigurationError
        If a value is out of its range; the message names the key.
    """

    action: str
    route: str | None = None
    path: str = "*"
    after: int = 0
    times: int | None = 1
    probability: float = 1.0
    per_path: bool = False
    status: int = 503
    retry_after: str | None = None
    seconds: float = 1.0
    bytes: int | None = None
    body: str | None = None
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, (allowed, accepts) in _CHECKS.items():
            value = getattr(self, key)
            if not accepts(value):
                raise ConfigurationError(f"fault: {key} = {value!r} is not allowed; it must be {allowed}")

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Fault:
        """Build a rule from a table of TOML or JSON; ``times = "always"`` stands for None.

        Raises
        ------
        ConfigurationError
            If a key is unknown, `action` is missing or a value is of the wrong type or out of its range.
        """
        known = [item.name for item in fields(cls)]
        for key in mapping:
            if key not in known:
                raise ConfigurationError(f"fault: there is no key {key!r}", _suggestion(key, known))
        if "action" not in mapping:
            raise ConfigurationError("fault: the key 'action' is missing", f"one of {_words(FaultAction)}")
        values = dict(mapping)
        if values.get("times") == "always":
            values["times"] = None
        if type(values.get("retry_after")) is int:
            values["retry_after"] = str(values["retry_after"])
        return cls(**values)

    def matches(self, route: str, path: str) -> bool:
        """Whether a request to `path` is of the kind that this rule counts."""
        return self.route in (None, route) and (self.path == "*" or fnmatchcase(path, self.path))


class FaultPlan:
    """The rules in order, with their counts.

    Concurrency: every method may be called from any thread; which of two simultaneous requests is
    counted first is left to chance.
    """

    def __init__(self, faults: Iterable[Fault] = (), *, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)  # noqa: S311 - chance that can be repeated, not a secret
        self._rules = [_Rule(fault) for fault in faults]

    def add(self, fault: Fault) -> None:
        """Append a rule; it counts from now."""
        with self._lock:
            self._rules.append(_Rule(fault))

    def clear(self) -> None:
        """Drop every rule."""
        with self._lock:
            self._rules.clear()

    def choose(self, route: str, path: str) -> Fault | None:
        """Count a request and return the fault that hits it, or None."""
        if not self._rules:
            return None
        chosen: _Rule | None = None
        with self._lock:
            for rule in self._rules:
                due = rule.fault.matches(route, path) and rule.is_due(path)
                if due and chosen is None and self._happens(rule.fault):
                    chosen = rule
            if chosen is None:
                return None
            chosen.hit(path)
            return chosen.fault

    def _happens(self, fault: Fault) -> bool:
        return fault.probability >= 1.0 or self._random.random() < fault.probability


class _Rule:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._seen: dict[str, int] = {}
        self._hits: dict[str, int] = {}

    def is_due(self, path: str) -> bool:
        """Count the request as seen, and tell whether the rule wants it."""
        key = self._key(path)
        self._seen[key] = seen = self._seen.get(key, 0) + 1
        spent = self.fault.times is not None and self._hits.get(key, 0) >= self.fault.times
        return seen > self.fault.after and not spent

    def hit(self, path: str) -> None:
        key = self._key(path)
        self._hits[key] = self._hits.get(key, 0) + 1

    def _key(self, path: str) -> str:
        return path if self.fault.per_path else ""


def _words(kind: type[StrEnum]) -> str:
    return ", ".join(kind)


def _suggestion(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(known)}"


def _is_text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_count(value: object, least: int = 0) -> bool:
    return type(value) is int and value >= least


def _is_number(value: object, least: float, most: float) -> bool:
    return type(value) in (int, float) and least <= value <= most  # type: ignore[operator]


def _is_headers(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(text, str) and "\n" not in text and "\r" not in text
        for pair in value.items()
        for text in pair
    )


_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "action": (f"one of {_words(FaultAction)}", lambda value: value in list(FaultAction)),
    "route": (f"one of {_words(Route)}", lambda value: value is None or value in list(Route)),
    "path": ("a pattern such as '*.csv'", lambda value: isinstance(value, str)),
    "after": ("a whole number from 0", _is_count),
    "times": ("a whole number from 1, or 'always'", lambda value: value is None or _is_count(value, 1)),
    "probability": ("a number from 0 to 1", lambda value: _is_number(value, 0, 1)),
    "per_path": ("true or false", lambda value: isinstance(value, bool)),
    "status": ("an HTTP status from 200 to 599", lambda value: _is_count(value, 200) and value <= 599),
    "retry_after": ("seconds or an HTTP date", _is_text_or_none),
    "seconds": ("a number from 0 to 86400", lambda value: _is_number(value, 0, 86400)),
    "bytes": ("a whole number from 0", lambda value: value is None or _is_count(value)),
    "body": ("text", _is_text_or_none),
    "content_type": ("text such as 'text/html'", _is_text_or_none),
    "headers": ("a table of texts without line breaks", _is_headers),
}
