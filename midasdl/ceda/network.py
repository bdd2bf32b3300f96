"""The way to CEDA: which certificates are trusted, which proxy is used, and what helps with either."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from requests.utils import get_environ_proxies, select_proxy
from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from midasdl.errors import ConfigurationError
from midasdl.models import ErrorClass

CA_BUNDLE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Where every program that uses requests looks for certificates, in this order."""

TLS_HELP = (
    "If this network has certificates of its own, as behind the proxies of many universities, name their file with "
    "--ca-bundle FILE (or in REQUESTS_CA_BUNDLE); otherwise check the date of this machine. Nothing was sent."
)

PROXY_HELP = (
    "The proxy, with the user name and the password for it, is set in the environment: "
    "HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT, where signs such as @ : / # % in the password are written as "
    "%40 %3A %2F %23 %25. Hosts in NO_PROXY are reached without it. midasdl doctor shows which proxy is used."
)

HELP = {ErrorClass.TLS: TLS_HELP, ErrorClass.PROXY: PROXY_HELP}
"""What a person can do about trouble that lies on the way and not at CEDA."""

HASHED_NAME = re.compile(r"[0-9a-f]{8}\.[0-9]+")
"""How OpenSSL finds a certificate in a folder."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Certificates to trust instead of the usual ones: a file or a folder, and who named it."""

    path: Path
    named_by: str


def chosen_bundle(ca_bundle: Path | None, environment: Mapping[str, str]) -> Bundle | None:
    """The setting, else what the environment names; None where the usual certificates are trusted."""
    if ca_bundle is not None:
        return Bundle(ca_bundle, "--ca-bundle or network.ca_bundle")
    named = ((environment.get(name), name) for name in CA_BUNDLE_VARIABLES)
    return next((Bundle(Path(value), name) for value, name in named if value), None)


def trusted_bundle(ca_bundle: Path | None) -> Bundle | None:
    """The certificates that this process is to trust, after a look into them; None stands for the usual ones.

    Raises
    ------
    ConfigurationError
        There are none, or they cannot be read.
    """
    bundle = chosen_bundle(ca_bundle, os.environ)
    fault = None if bundle is None else _fault_of_bundle(bundle.path)
    if bundle is not None and fault is not None:
        raise ConfigurationError(
            f"The certificates {bundle.path}, named by {bundle.named_by}, cannot be used: {fault}.",
            "Name a file of PEM certificates with --ca-bundle FILE, or none to trust the usual ones.",
        )
    return bundle


def _fault_of_bundle(path: Path) -> str | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if path.is_dir():
            hashed = any(HASHED_NAME.fullmatch(entry.name) for entry in path.iterdir())
            return (
                None if hashed else "the folder holds no certificate under a name that openssl rehash gives"
            )
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        return "the file holds no PEM certificate, or a damaged one"
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None if context.cert_store_stats()["x509"] else "the file holds no certificate"


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for a URL, with its password; None where there is none."""
    return select_proxy(url, get_environ_proxies(url)) or None


def require_proxy(address: str | None) -> None:
    """See that a proxy can be used, before a library stumbles over its password and repeats it.

    Raises
    ------
    ConfigurationError
    """
    fault = None if address is None else _fault_of_proxy(address)
    if fault is not None:
        raise ConfigurationError(f"The proxy that the environment names cannot be used: {fault}.", PROXY_HELP)


def presentable_proxy(address: str) -> str:
    """A proxy without user name and password; call `require_proxy` first."""
    parts = _parts(address)
    whose = "" if parts.auth is None else "***@"
    return f"{parts.scheme}://{whose}{parts.netloc}"


def _fault_of_proxy(address: str) -> str | None:
    try:
        parts = _parts(address)
    except LocationParseError:
        return "it is not an address"
    if not parts.host or any("@" in (part or "") for part in (parts.path, parts.query, parts.fragment)):
        return "it is not an address"
    if str(parts.scheme).startswith("socks"):
        return None if find_spec("socks") else "a SOCKS proxy needs another package (pip install PySocks)"
    return None if parts.scheme in {"http", "https"} else "it begins with neither http:// nor https://"


def _parts(address: str) -> Url:
    return parse_url(address if "://" in address else f"http://{address}")


def proxy_refusal(status: int) -> str:
    """What it means that a proxy, and not CEDA, answers with an error that will not pass."""
    if status == 407:
        return (
            "The proxy on the way to CEDA wants a user name and a password, or others than it was given (407)"
        )
    return f"The proxy on the way to CEDA refuses to connect us ({status})"
