"""What CEDA's listing says a folder holds, and which releases of the archive there are.

A listing is ``<folder>?json`` on the listing host. It needs no account, and none is shown to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import requests
from requests.auth import AuthBase

from midasdl.ceda.classify import FOREIGN_ERRORS, classify_beginning, classify_exception, classify_status
from midasdl.ceda.persist import Patience, persist
from midasdl.ceda.session import host_of
from midasdl.ceda.verdict import FetchError, Verdict, report_on
from midasdl.clock import Clock
from midasdl.errors import SelectionError
from midasdl.models import ErrorClass
from midasdl.politeness.lone_gate import Passage
from midasdl.politeness.state import Report

LATEST = "latest"

_MD5 = re.compile(r"[0-9a-f]{32}")
_RELEASE = re.compile(r"midas-open-v([0-9]{6})-md5s\.txt")
_WANTED = re.compile(r"(?:midas-open-)?v?([0-9]{6})(?:-md5s(?:\.txt)?)?")


class ItemType(StrEnum):
    """What an item of a listing is."""

    FILE = "file"
    FOLDER = "dir"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Item:
    """One name in a folder; what the listing does not say, or says in a way nobody understands, is None.

    Attributes
    ----------
    size_bytes : int or None
    md5 : str or None
        32 lower-case hexadecimal digits.
    modified_at : datetime or None
        In UTC.
    on_disk : bool or None
        Whether it can be had at once, rather than from tape.
    """

    name: str
    type: ItemType
    size_bytes: int | None = None
    md5: str | None = None
    modified_at: datetime | None = None
    on_disk: bool | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """The manifest of one release, as the listing describes it.

    Attributes
    ----------
    version : str
        Year and month, such as ``202407``.
    name : str
        Of the file, below the archive's root.
    """

    version: str
    name: str
    size_bytes: int | None
    md5: str | None
    modified_at: datetime | None


class Anonymous(AuthBase):
    """Shows no credentials, and keeps requests from looking for some in ``.netrc``."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Leave the request as it is."""
        return request


class ListingService:
    """The place that lists folders.

    Parameters
    ----------
    session : requests.Session
        As `open_session` makes it.
    gate : Passage
        Every request passes it.
    timeout_s : tuple of float
        For the connection, and for the answer, which can take minutes.
    patience : Patience
    clock : Clock
    on_retry : callable, optional
        Told what went wrong and how many seconds are waited.
    """

    def __init__(
        self,
        session: requests.Session,
        gate: Passage,
        timeout_s: tuple[float, float],
        patience: Patience,
        clock: Clock,
        on_retry: Callable[[Verdict, float], None] = lambda _verdict, _wait_s: None,
    ) -> None:
        self._session = session
        self._gate = gate
        self._timeout_s = timeout_s
        self._patience = patience
        self._clock = clock
        self._on_retry = on_retry

    def items(self, folder_url: str) -> tuple[Item, ...]:
        """What a folder holds; asked again where it failed in a way that may pass.

        Raises
        ------
        FetchError
            With the verdict on the last answer, or on its absence.
        """
        host = host_of(folder_url)

        def once() -> tuple[Item, ...]:
            return self._pass_and_ask(folder_url, host)

        return persist(once, host, self._patience, self._gate, self._clock, self._on_retry)

    def _pass_and_ask(self, folder_url: str, host: str) -> tuple[Item, ...]:
        """One request, through the gate, where it is counted."""
        with self._gate.request(host) as ticket:
            began_s = self._clock.monotonic()
            try:
                items = self._ask(folder_url)
            except FetchError as error:
                ticket.report = self._report(error.verdict, began_s)
                raise
            ticket.report = self._report(None, began_s)
            return items

    def _report(self, verdict: Verdict | None, began_s: float) -> Report:
        was_answered = verdict is None or verdict.http_status is not None
        latency_us = int((self._clock.monotonic() - began_s) * 1e6) if was_answered else None
        return report_on(verdict, latency_us)._replace(is_only_counted=True)

    def _ask(self, folder_url: str) -> tuple[Item, ...]:
        try:
            response = self._session.get(
                f"{folder_url}?json",
                auth=Anonymous(),
                headers={"Accept": "application/json"},
                timeout=self._timeout_s,
                allow_redirects=False,
            )
        except FOREIGN_ERRORS as error:
            verdict = classify_exception(error)
            if verdict is None:
                raise
            raise FetchError(verdict) from None
        verdict = judge(response, self._clock.now_us())
        if verdict is not None:
            raise FetchError(verdict)
        items = parse_listing(_json(response))
        if items is None:
            raise FetchError(_unexpected("CEDA sent something else than a listing", response.status_code))
        return items


def judge(response: requests.Response, now_us: int) -> Verdict | None:
    """What is wrong with an answer; None where it may be a listing.

    There is no token that could be bad: to be sent to the login page is just another wrong page.
    """
    kind = response.headers.get("Content-Type", "").lower()
    status = response.status_code
    verdict = classify_status(status, response.headers, now_us)
    if verdict is not None and verdict.error_class is not ErrorClass.AUTHENTICATION:
        return verdict
    if verdict is not None:
        return _unexpected("CEDA asks to sign in for a listing, which needs no account", status)
    if classify_beginning(response.content[:2048], kind, "", status) is not None:
        return _unexpected("CEDA sent a web page instead of a listing", status)
    return None


def parse_listing(reply: object) -> tuple[Item, ...] | None:
    """The items of a listing in its order; None where it is none. Keys may be missing, further ones do not matter."""
    items = reply.get("items") if isinstance(reply, Mapping) else None
    if not isinstance(items, list):
        return None
    return tuple(item for item in map(_item, items) if item is not None)


def releases(items: Iterable[Item]) -> tuple[Release, ...]:
    """The releases among the items of the archive's root folder, oldest first."""
    found = (
        Release(match[1], item.name, item.size_bytes, item.md5, item.modified_at)
        for item in items
        if item.type is not ItemType.FOLDER and (match := _RELEASE.fullmatch(item.name))
    )
    return tuple(sorted(found, key=lambda release: release.version))


def choose(known: Iterable[Release], wanted: str) -> Release:
    """The release of a version (``202407``, ``v202407``, the file's name) or the latest.

    Raises
    ------
    SelectionError
        There is no such release; the message lists those that there are.
    """
    by_version = {release.version: release for release in known}
    if wanted == LATEST and by_version:
        return by_version[max(by_version)]
    match = _WANTED.fullmatch(wanted)
    if match is not None and match[1] in by_version:
        return by_version[match[1]]
    there = ", ".join(sorted(by_version)) or "none"
    raise SelectionError(
        f"CEDA lists no release '{wanted}'. Releases are: {there}.", "See them with: midasdl manifest list"
    )


def _item(entry: object) -> Item | None:
    name = entry.get("name") if isinstance(entry, Mapping) else None
    if not isinstance(entry, Mapping) or not isinstance(name, str) or not name:
        return None
    size = _size(entry.get("size"))
    return Item(
        name,
        _type(entry.get("type"), size),
        size,
        _md5(entry.get("md5")),
        _moment(entry.get("last_modified")),
        _on_disk(entry.get("location")),
    )


def _type(value: object, size: int | None) -> ItemType:
    """What it says it is; a nameless type with a size is a file."""
    if isinstance(value, str) and value in set(ItemType):
        return ItemType(value)
    return ItemType.OTHER if value or size is None else ItemType.FILE


def _size(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def _md5(value: object) -> str | None:
    text = value.strip().lower() if isinstance(value, str) else ""
    return text if _MD5.fullmatch(text) else None


def _moment(value: object) -> datetime | None:
    """A moment without a time zone is UTC."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        return moment and moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _on_disk(value: object) -> bool | None:
    """Locations are a list, or just one of them."""
    places = value if isinstance(value, list) else [value]
    said = [place for place in places if isinstance(place, str) and place]
    return "on_disk" in said if said else None


def _json(response: requests.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


def _unexpected(message: str, status: int) -> Verdict:
    return Verdict(ErrorClass.UNEXPECTED_PAGE, message, status)
