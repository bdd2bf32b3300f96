"""Sending the GET for a file: what all requests of a client have in common is prepared once."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import requests
from requests.cookies import extract_cookies_to_jar

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
        self._way: dict[str, Any] | None = None
        self._pattern: requests.PreparedRequest | None = None
        self._token: Secret | None = None
        self._has_cookies = False

    def get(self, path: str, token: Secret, held: Held | None) -> requests.Response:
        """One request for a file, or for what is missing of it; the body is still to be read."""
        request = self._prepared(path, token, held)
        if self._way is None:
            way = self._session.merge_environment_settings(self._archive_url, {}, True, None, None)
            self._way = {**way}
        response = self._adapter.send(request, timeout=self._timeout_s, **self._way)
        if hasattr(response.raw, "_original_response"):  # others have no cookies
            extract_cookies_to_jar(self._session.cookies, request, response.raw)  # type: ignore[no-untyped-call]
            self._pattern = None
        return response

    def _prepared(self, path: str, token: Secret, held: Held | None) -> requests.PreparedRequest:
        if self._pattern is None or self._token is not token:
            self._pattern, self._token = self._prepare("", token, {}), token
            self._has_cookies = bool(self._session.cookies)
        if held is not None or self._has_cookies or not PLAIN_PATH.fullmatch(path):
            return self._prepare(quote(path, safe="/"), token, range_headers(held))
        self._pattern.url = f"{self._archive_url}/{path}"
        return self._pattern

    def _prepare(self, quoted: str, token: Secret, headers: dict[str, str]) -> requests.PreparedRequest:
        request = requests.Request(
            "GET",
            f"{self._archive_url}/{quoted}",
            headers=headers,
            auth=BearerAuth(self._archive_url, token),
        )
        return self._session.prepare_request(request)
