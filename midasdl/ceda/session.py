"""The pooled session through which every request of a process goes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from midasdl.ceda.lean import LeanAdapter
from midasdl.ceda.network import chosen_bundle, proxy_for, require_proxy
from midasdl.ceda.secret import Secret
from midasdl.version import PROJECT_URL, __version__

USER_AGENT = f"midasdl/{__version__} (+{PROJECT_URL})"


class BearerAuth(AuthBase):
    """Puts a token on a request to one origin, and on no other.

    An auth object also keeps requests from looking into ``.netrc``.

    Parameters
    ----------
    url : str
        Of the archive; its scheme, host and port are the origin.
    token : Secret
    """

    def __init__(self, url: str, token: Secret) -> None:
        self._origin = origin_of(url)
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header where the request goes to the origin."""
        if request.url and origin_of(request.url) == self._origin:
            request.headers["Authorization"] = f"Bearer {self._token.reveal()}"
        return request


class StrictSession(requests.Session):
    """Takes a redirect for what it is: an answer, neither followed nor looked into. Trusts what it was told to."""

    def get_redirect_target(self, _: requests.Response) -> str | None:
        """There is never a next request; requests itself would prepare one and could fail over it."""
        return None

    def merge_environment_settings(  # type: ignore[override]
        self, url: str, proxies: Any, stream: Any, verify: Any, cert: Any
    ) -> Any:
        """Let the environment name proxies, and no certificates in the place of those that were chosen.

        Raises
        ------
        ConfigurationError
            The proxy for this URL cannot be used.
        """
        require_proxy(proxy_for(url))
        chosen = self.verify if verify is None else verify
        return super().merge_environment_settings(url, proxies, stream, chosen, cert)


def origin_of(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port of a URL."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def host_of(url: str) -> str:
    """The host as the ledger knows it: name, and port where it is not the usual one."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()


def open_session(ca_bundle: Path | None = None) -> requests.Session:
    """A session with one kept-alive connection to each host, no retries and no followed redirects of its own.

    Proxies come from the environment, as everywhere.

    Parameters
    ----------
    ca_bundle : Path, optional
        Certificates to trust; without it those that the environment names, else the usual ones. Whether they can be
        used is looked at once for each command, by `midasdl.ceda.network.trusted_bundle`.
    """
    bundle = chosen_bundle(ca_bundle, os.environ)
    session = StrictSession()
    session.verify = True if bundle is None else str(bundle.path)
    adapter = LeanAdapter(pool_connections=4, pool_maxsize=1, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
    return session
