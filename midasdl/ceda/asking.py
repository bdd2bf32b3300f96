"""Sending the GET for a file: what all requests of a client have in common is prepared once."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import requests
from requests.cookies import extract_cookies_to_jar

from midasdl.ceda.lean import LeanAdapter, ShortWay
from midasdl.ceda.lean_answer import LeanResponse
from midasdl.ceda.ranges import Held, range_headers
from midasdl.ceda.secret import Secret
from midasdl.ceda.session import BearerAuth

PLAIN_PATH = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_.~-]*/)*[A-Za-z0-9_-][A-Za-z0-9_.~-]*")
"""Stands in a URL as it is, and means the same there."""


class Asker:
    """Sends requests for files of one archive, as its session would without redirects and hooks.

    Parameters
    ----------
    session : requests.Session
    archive_url : str
    timeout_s : tuple of float
        To connect, and of silence.

    Notes
    -----
    Concurrency: belongs to one thread, and answers to one request at a time: plain requests are one object, which
    says where it goes next.
    """

    def __init__(self, session: requests.Session, archive_url: str, timeout_s: tuple[float, float]) -> None:
        self._session = session
        self._archive_url = archive_url
        self._timeout_s = timeout_s
        self._adapter = session.get_adapter(archive_url)
        self._way: dict[str, Any] = {}
        self._short_way: ShortWay | None = None
        self._pattern: requests.PreparedRequest | None = None
        self._token: Secret | None = None
        self._has_cookies = False

    def get(self, path: str, token: Secret, held: Held | None) -> requests.Response:
        """One request for a file, or for what is missing of it; the body is still to be read."""
        if self._pattern is None or self._token is not token:
            self._prepare_for_all(token)
        is_plain = held is None and not self._has_cookies and PLAIN_PATH.fullmatch(path) is not None
        response = self._short_way.ask(path) if is_plain and self._short_way is not None else None
        if response is None:
            response = self._send(path, token, held, is_plain=is_plain)
        if type(response) is not LeanResponse and hasattr(response.raw, "_original_response"):
            extract_cookies_to_jar(self._session.cookies, response.request, response.raw)  # type: ignore[no-untyped-call]
            self._pattern = None
        return response

    def _prepare_for_all(self, token: Secret) -> None:
        """Prepare what requests with the same token have in common."""
        self._pattern, self._token = self._prepare("", token, {}), token
        self._has_cookies = bool(self._session.cookies)
        way = self._way or self._session.merge_environment_settings(self._archive_url, {}, True, None, None)
        self._way = {**way, "timeout": self._timeout_s}
        if isinstance(self._adapter, LeanAdapter):
            self._short_way = self._adapter.short_way(self._pattern, **self._way)

    def _send(self, path: str, token: Secret, held: Held | None, *, is_plain: bool) -> requests.Response:
        request = self._pattern if is_plain else None
        if request is None:
            request = self._prepare(quote(path, safe="/"), token, range_headers(held))
        else:
            request.url = f"{self._archive_url}/{path}"
        return self._adapter.send(request, **self._way)

    def _prepare(self, quoted: str, token: Secret, headers: dict[str, str]) -> requests.PreparedRequest:
        request = requests.Request(
            "GET",
            f"{self._archive_url}/{quoted}",
            headers=headers,
            auth=BearerAuth(self._archive_url, token),
        )
        return self._session.prepare_request(request)
