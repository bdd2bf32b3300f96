"""Going on with a body that broke off: what may be gone on with, how to ask for the rest, what the answer is. Pure.

After RFC 9110: sections 8.8 (validators), 13.1.5 (If-Range), 14 (ranges), 15.3.7 (206) and 15.5.17 (416).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from enum import Enum
from typing import Protocol

from midasdl.ceda.dates import seconds_since_1970

STRONG_TAG = re.compile(r'"[\x21\x23-\x7e]*"')
CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII | re.IGNORECASE)
SURE_AFTER_S = 60.0
"""A date of modification this much older than the answer is strong: nothing was changed twice within its second."""


class Digest(Protocol):
    """What `hashlib` gives."""

    def update(self, data: bytes, /) -> None:
        """Take further bytes."""

    def copy(self) -> Digest:
        """Another one that has taken the same bytes."""

    def hexdigest(self) -> str:
        """Of all bytes so far."""


@dataclass(frozen=True, slots=True)
class Held:
    """The beginning of a body, which an earlier attempt left.

    Attributes
    ----------
    validator : str
        Strong: an ETag, or a date of modification, as the server wrote it.
    digest : Digest
        Of these bytes; copy it before use.
    """

    size_bytes: int
    validator: str
    digest: Digest


class Sink:
    """Where a body goes that is too large for memory. A subclass that says no more than `write` keeps nothing."""

    held: Held | None = None
    """The beginning that an earlier attempt left; `write` appends to it until `begin` is called."""

    def begin(self, validator: str | None) -> None:
        """The file comes from its first byte; with a `validator`, what has come when it breaks off may be kept."""

    def write(self, chunk: bytes, /) -> object:
        """Append."""

    def drop(self) -> None:
        """What is held is of no use."""


class Fit(Enum):
    """How an answer fits what is held."""

    WHOLE = "the file from its first byte, or no file at all"
    REST = "the bytes that are missing, and no others"
    MISFIT = "neither: what is held is of no use"


def strong_validator(headers: Mapping[str, str]) -> str | None:
    """What names the very bytes of an answer, so that the rest of just these can be asked for; None if nothing does.

    Parameters
    ----------
    headers : mapping of str to str
        Case-insensitive.
    """
    if _is_encoded(headers) or headers.get("Accept-Ranges", "").strip().lower() == "none":
        return None
    tag = headers.get("ETag")
    if tag is not None:
        return tag if STRONG_TAG.fullmatch(tag) else None
    return _strong_date(headers.get("Last-Modified", ""), headers.get("Date", ""))


def range_headers(held: Held | None) -> dict[str, str]:
    """The headers that ask for what is missing, or for the whole file if it is no longer the same."""
    if held is None:
        return {}
    return {"Range": f"bytes={held.size_bytes}-", "If-Range": held.validator}


def fit_of(held: Held | None, status: int, headers: Mapping[str, str]) -> Fit:
    """Tell how an answer fits what is held; only a 206 or 416 to a request for the rest can be but `Fit.WHOLE`."""
    if held is None or status not in {206, 416}:
        return Fit.WHOLE
    match = CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if status == 416 or match is None or _is_encoded(headers) or _is_of_another(held.validator, headers):
        return Fit.MISFIT
    first, last = int(match[1]), int(match[2])
    reaches_the_end = match[3] in {"*", str(last + 1)}
    return Fit.REST if first == held.size_bytes <= last and reaches_the_end else Fit.MISFIT


def _is_encoded(headers: Mapping[str, str]) -> bool:
    return headers.get("Content-Encoding", "").strip().lower() not in {"", "identity"}


def _is_of_another(validator: str, headers: Mapping[str, str]) -> bool:
    """Whether an answer says that it comes of other bytes: some servers look at Range and not at If-Range."""
    name = "ETag" if validator.startswith('"') else "Last-Modified"
    return headers.get(name, validator) != validator


def _strong_date(modified: str, answered: str) -> str | None:
    modified_s, answered_s = seconds_since_1970(modified), seconds_since_1970(answered)
    if modified_s is None or answered_s is None or answered_s - modified_s < SURE_AFTER_S:
        return None
    return modified if formatdate(modified_s, usegmt=True) == modified else None
