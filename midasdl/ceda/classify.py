"""From a response or an exception to a verdict: pure, and the only place that knows foreign errors."""

from __future__ import annotations

import errno
import http.client
import re
import socket
import ssl
from collections.abc import Iterator, Mapping

import requests
import urllib3

from midasdl.ceda.dates import seconds_since_1970
from midasdl.ceda.network import proxy_refusal
from midasdl.ceda.verdict import Verdict
from midasdl.models import ErrorClass

SIGN_IN = re.compile(r"//auth\.|/(sign|log)-?in\b|shibboleth|openid", re.IGNORECASE)
LOGIN_TITLE = re.compile(rb"<title>\s*(log|sign)[ -]?in", re.IGNORECASE)
LOGIN_FORM = re.compile(rb"csrf\w*token|type=[\"']password", re.IGNORECASE)
PAGES = (".html", ".htm", ".xml", ".kml", ".svg")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LONGEST_RETRY_AFTER_S = 3_600.0
UNAVAILABLE = frozenset({502, 503, 504})
TUNNEL = re.compile(r"Tunnel connection failed: ([0-9]{3})\b")
PASSING = frozenset({408, 425, 429})
"""Refusals of a proxy that may pass; the others of its class want a person."""
NETWORK_ERRNOS = frozenset(
    {
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH),
        *(errno.EADDRNOTAVAIL, errno.EPROTO, errno.ENOTCONN, errno.ENOBUFS),
    }
)
"""Of the system's errors that have no class of their own, those that only a connection can have."""

FOREIGN_ERRORS = (
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    urllib3.exceptions.ProxySchemeUnsupported,
    http.client.HTTPException,
    OSError,
)
"""Everything that the libraries below us raise; `classify_exception` says which of it is about the network."""

TLS_BROKE_OFF = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
TLS = (requests.exceptions.SSLError, urllib3.exceptions.SSLError, ssl.SSLError)
INCOMPLETE = (
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
    urllib3.exceptions.DecodeError,
    http.client.IncompleteRead,
)
TIMEOUT = (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
PROXY = (requests.exceptions.ProxyError, urllib3.exceptions.ProxyError)
NO_BUNDLE = "certificate bundle"
"""What requests says, as a bare OSError, of certificates that have gone since they were looked into."""

CONNECTION = (*FOREIGN_ERRORS[:-1], ConnectionError, socket.gaierror, socket.herror)
LICENCE_HELP = (
    "this account may not read it. Accept the dataset's licence on its page at https://catalogue.ceda.ac.uk/ "
    "(MIDAS Open itself needs only an account), then type: midasdl retry --class forbidden"
)


def classify_status(status: int, headers: Mapping[str, str], now_us: int) -> Verdict | None:
    """Judge a response by its status; None where the body is to be looked at (200 and 206).

    Parameters
    ----------
    headers : mapping of str to str
        Case-insensitive.
    now_us : int
        For a ``Retry-After`` that is a date.
    """
    if status in {200, 206}:
        return None
    if 300 <= status < 400:
        return _classify_redirect(status, headers.get("Location", ""))
    if status == 407:
        return Verdict(ErrorClass.PROXY, proxy_refusal(status), status)
    error_class, message = _classify_error(status)
    return Verdict(error_class, f"CEDA answered {status}: {message}", status, retry_after_s(headers, now_us))


def _classify_error(status: int) -> tuple[ErrorClass, str]:
    match status:
        case 401:
            return ErrorClass.AUTHENTICATION, "the token is not accepted"
        case 403:
            return ErrorClass.FORBIDDEN, LICENCE_HELP
        case 404 | 410:
            return (
                ErrorClass.NOT_FOUND,
                "there is no such file (a new release is sometimes published in stages)",
            )
        case 408 | 425:
            return ErrorClass.TIMEOUT, "it did not get the request in time"
        case 429:
            return ErrorClass.THROTTLED, "too many requests"
        case _ if status in UNAVAILABLE:
            return ErrorClass.UNAVAILABLE, "it is overloaded or down for the moment"
        case _ if status >= 500:
            return ErrorClass.SERVER_ERROR, "it had an error of its own"
        case _ if status < 300:
            return ErrorClass.UNEXPECTED_PAGE, "that is not a file"
        case _:
            return ErrorClass.REJECTED, "it does not accept the request"


def _classify_redirect(status: int, location: str) -> Verdict:
    target, _, query = location.partition("?")
    if query.startswith("forbidden"):
        return Verdict(ErrorClass.FORBIDDEN, f"CEDA answered {status}: {LICENCE_HELP}", status)
    if SIGN_IN.search(target):
        return Verdict(ErrorClass.AUTHENTICATION, "CEDA asks to sign in: the token is not accepted", status)
    shown = _presentable(target) or "nowhere"
    return Verdict(ErrorClass.UNEXPECTED_PAGE, f"CEDA redirects to {shown}, which is not followed", status)


def classify_beginning(beginning: bytes, content_type: str, path: str, status: int) -> Verdict | None:
    """Judge a body by its first bytes before anything is written: a web page is not data.

    Parameters
    ----------
    beginning : bytes
        The first kilobytes of the body.
    path : str
        Of the file; one that is itself a web page may look like one, only not like the login page.
    """
    text = beginning.removeprefix(BYTE_ORDER_MARK).lstrip()
    if not content_type.startswith("text/html") and text[:1] != b"<":
        return None
    is_page = path.lower().endswith(PAGES)
    if LOGIN_TITLE.search(text) or (LOGIN_FORM.search(text) and not is_page):
        return Verdict(ErrorClass.AUTHENTICATION, "CEDA sent its login page instead of the file", status)
    if is_page:
        return None
    return Verdict(ErrorClass.UNEXPECTED_PAGE, "CEDA sent a web page instead of the file", status)


def classify_exception(error: BaseException) -> Verdict | None:
    """Judge what requests, urllib3, http.client or the socket raised; None for what is none of theirs."""
    chain = tuple(_chain(error))
    text = _reason(chain[-1])
    if not isinstance(error, FOREIGN_ERRORS):
        return None
    refused = TUNNEL.match(text)
    if refused and 400 <= int(refused[1]) < 500 and int(refused[1]) not in PASSING:
        return Verdict(ErrorClass.PROXY, proxy_refusal(int(refused[1])))
    if _any(chain, TLS_BROKE_OFF):
        return Verdict(ErrorClass.CONNECTION, f"The connection to CEDA broke: {text}")
    if _any(chain, TLS) or NO_BUNDLE in text:
        return Verdict(ErrorClass.TLS, f"The connection to CEDA cannot be trusted: {text}")
    if _any(chain, INCOMPLETE):
        return Verdict(ErrorClass.INCOMPLETE, f"The body did not arrive whole: {text}")
    if _any(chain, TIMEOUT) and not _any(chain, (urllib3.exceptions.NewConnectionError,)):
        return Verdict(ErrorClass.TIMEOUT, f"CEDA did not answer in time: {text}")
    if _any(chain, CONNECTION) or (isinstance(error, OSError) and error.errno in NETWORK_ERRNOS):
        way = " through the proxy" if _any(chain, PROXY) else ""
        return Verdict(ErrorClass.CONNECTION, f"No connection to CEDA{way}: {text}")
    return None


def retry_after_s(headers: Mapping[str, str], now_us: int) -> float | None:
    """How long ``Retry-After`` asks to wait; None if it is absent, unreadable or names no time ahead.

    A date is counted from the server's own ``Date``, so that a clock of ours that is wrong does not matter.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        wait_s = float(value)
    elif (until_s := seconds_since_1970(value)) is not None:
        server_now_s = seconds_since_1970(headers.get("Date", ""))
        wait_s = until_s - (now_us / 1e6 if server_now_s is None else server_now_s)
    else:
        return None
    return min(wait_s, LONGEST_RETRY_AFTER_S) if wait_s > 0 else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was made of, down to the innermost, as the libraries pack them."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        parts = (getattr(link, "reason", None), *link.args)
        link = next((part for part in parts if isinstance(part, BaseException)), None)


def _any(chain: tuple[BaseException, ...], kinds: tuple[type[BaseException], ...]) -> bool:
    return any(isinstance(link, kinds) for link in chain)


def _reason(error: BaseException) -> str:
    """What an error says, in words that a person may see and the ledger may keep."""
    said = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    strerror = getattr(error, "strerror", None)
    return _presentable(strerror if isinstance(strerror, str) else said)[:300] or type(error).__name__


def _presentable(text: str) -> str:
    """Foreign text without object addresses, secrets and control characters."""
    text = re.sub(r"<[^>]*0x[0-9a-f]+>:? ?", "", text)
    text = re.sub(r"//\S*@", "//***@", text)
    text = re.sub(r"\b(Bearer|Basic)\s+[^\s'\"]+", r"\1 ***", text, flags=re.IGNORECASE)
    return "".join(character if character.isprintable() else "?" for character in text)
