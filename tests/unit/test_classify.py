"""C3, C9: what each answer of CEDA, and each exception on the way, means."""

from __future__ import annotations

import errno
import http.client
import inspect
import pickle
import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import ModuleType
from typing import Any

import pytest
import requests
import urllib3
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from midasdl.ceda.classify import (
    LONGEST_RETRY_AFTER_S,
    classify_beginning,
    classify_exception,
    classify_status,
    retry_after_s,
)
from midasdl.ceda.verdict import FATES, Fate, FetchError, Verdict
from midasdl.models import ErrorClass
from midasdl.simulator.pages import error_page, login_page, maintenance_page

NOW = 1_790_000_000_000_000
RETRYABLE = {408, 425, 429, 502, 503, 504}
SIGN_IN = "https://auth.ceda.ac.uk/account/signin/?r=https%3A//dap.ceda.ac.uk/badc/x.csv"


def judged(status: int, **headers: str) -> Verdict:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    verdict = classify_status(status, CaseInsensitiveDict(named), NOW)
    assert verdict is not None
    return verdict


def expected_fate(status: int) -> Fate:
    """The table of C9, written down once more."""
    if status == 401:
        return Fate.REAUTHENTICATE
    if status == 407:
        return Fate.STOP
    if status in RETRYABLE:
        return Fate.RETRY
    return Fate.FAIL if 400 <= status < 500 else Fate.RETRY_LATER


@pytest.mark.parametrize("status", range(300, 600))
def test_c9_every_status_has_the_fate_of_its_class(status: int) -> None:
    verdict = judged(status)
    assert verdict.fate is expected_fate(status)
    assert verdict.http_status == status
    assert verdict.message


@pytest.mark.parametrize("status", [200, 206])
def test_c9_only_200_and_206_let_the_body_be_looked_at(status: int) -> None:
    assert classify_status(status, {}, NOW) is None


@pytest.mark.parametrize("status", [201, 202, 203, 204, 205, 207, 226])
def test_c9_other_successes_are_no_files_and_are_asked_again_later(status: int) -> None:
    assert judged(status).error_class is ErrorClass.UNEXPECTED_PAGE


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (400, ErrorClass.REJECTED),
        (403, ErrorClass.FORBIDDEN),
        (404, ErrorClass.NOT_FOUND),
        (410, ErrorClass.NOT_FOUND),
        (416, ErrorClass.REJECTED),
        (429, ErrorClass.THROTTLED),
        (500, ErrorClass.SERVER_ERROR),
        (503, ErrorClass.UNAVAILABLE),
        (520, ErrorClass.SERVER_ERROR),
    ],
)
def test_c9_the_ledger_gets_the_word_for_the_status(status: int, error_class: ErrorClass) -> None:
    assert judged(status).error_class is error_class


def test_c9_every_error_class_has_a_fate_and_only_throttling_is_free() -> None:
    assert set(FATES) == set(ErrorClass)
    free = {kind for kind in ErrorClass if not Verdict(kind, "").costs_an_attempt}
    assert free == {ErrorClass.THROTTLED}


@pytest.mark.parametrize(
    "location",
    [
        SIGN_IN,
        "https://services.ceda.ac.uk/account/login?next=/x",
        "/account/signin/?r=/badc/x.csv",
        "https://example.org/Shibboleth.sso/WAYF",
        "/openid/begin",
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_c3_a_redirect_to_a_sign_in_page_is_an_authentication_failure(status: int, location: str) -> None:
    assert judged(status, Location=location).error_class is ErrorClass.AUTHENTICATION


@pytest.mark.parametrize(
    "location",
    [
        "https://data.ceda.ac.uk/badc/x/dyfed/01210_login/x.csv",
        "https://data.ceda.ac.uk/badc/cataloging-information.csv",
        "https://cdn.example.org/x.csv?from=/account/signin/",
        "",
    ],
)
def test_c3_other_redirects_do_not_stop_the_run(location: str) -> None:
    """Login is also a village in Wales."""
    verdict = judged(302, Location=location)
    assert verdict.error_class is ErrorClass.UNEXPECTED_PAGE
    assert "?" not in verdict.message


@pytest.mark.parametrize(
    "answer",
    [(403, {}), (302, {"Location": "https://data.ceda.ac.uk/badc/ukmo-midas-open/data?forbidden"})],
    ids=["403", "redirect"],
)
def test_c3_a_missing_licence_says_which_and_where_and_the_command(
    answer: tuple[int, dict[str, str]],
) -> None:
    verdict = judged(answer[0], **answer[1])
    assert verdict.error_class is ErrorClass.FORBIDDEN
    for words in ("licence", "https://catalogue.ceda.ac.uk/", "midasdl retry --class forbidden"):
        assert words in verdict.message


LOGIN = login_page("3f9a").encode()


@pytest.mark.parametrize(
    ("beginning", "content_type", "path", "error_class"),
    [
        (LOGIN[:2048], "text/html; charset=utf-8", "data/a.csv", ErrorClass.AUTHENTICATION),
        (LOGIN[:2048], "text/csv", "data/a.csv", ErrorClass.AUTHENTICATION),
        (b"\n\n  " + LOGIN[:2048], "", "data/a.csv", ErrorClass.AUTHENTICATION),
        (b"\xef\xbb\xbf" + LOGIN[:2048], "", "data/a.csv", ErrorClass.AUTHENTICATION),
        (LOGIN[:2048], "text/html", "docs/index.html", ErrorClass.AUTHENTICATION),
        (b"<html><input type='password'>", "text/html", "data/a.csv", ErrorClass.AUTHENTICATION),
        (maintenance_page().encode(), "text/html", "data/a.csv", ErrorClass.UNEXPECTED_PAGE),
        (error_page(500, "x").encode(), "application/octet-stream", "data/a.csv", ErrorClass.UNEXPECTED_PAGE),
        (b"no markup", "text/html", "data/a.csv", ErrorClass.UNEXPECTED_PAGE),
        (b'<?xml version="1.0"?><e/>', "", "data/a.csv", ErrorClass.UNEXPECTED_PAGE),
        (maintenance_page().encode(), "text/html", "docs/index.html", None),
        (b"<html><form>csrfmiddlewaretoken", "text/html", "docs/FORM.HTM", None),
        (b"<kml/>", "", "stations.kml", None),
        (b"Conventions,G,BADC-CSV,1\n", "text/csv", "data/a.csv", None),
        (b"Conventions,G,BADC-CSV,1\nlogin,csrftoken\n", "text/plain", "data/a.csv", None),
        (b"", "text/csv", "data/a.csv", None),
        (b"", "", "data/a.csv", None),
    ],
)
def test_c3_a_web_page_is_data_only_where_the_manifest_has_one(
    beginning: bytes, content_type: str, path: str, error_class: ErrorClass | None
) -> None:
    verdict = classify_beginning(beginning, content_type, path, 200)
    assert (verdict and verdict.error_class) is error_class


# --- exceptions


def exception_classes(module: ModuleType) -> list[type[Exception]]:
    """Everything that a library defines in order to raise it."""
    package = module.__name__.partition(".")[0]
    return [
        kind
        for kind in vars(module).values()
        if inspect.isclass(kind)
        and issubclass(kind, Exception)
        and not issubclass(kind, Warning)
        and kind.__module__.partition(".")[0] == package
    ]


def made(kind: type[Exception]) -> Exception:
    """An exception of a class, however many parameters it wants."""
    wanted = [
        parameter
        for parameter in list(inspect.signature(kind.__init__).parameters.values())[1:]
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    if issubclass(kind, requests.exceptions.JSONDecodeError):
        return kind("trouble", "doc", 0)
    values: dict[str, Any] = {
        "defects": [],
        "partial": 1,
        "expected": 2,
        "reason": socket.gaierror(-2, "trouble"),
    }
    if kind.__name__ == "InvalidChunkLength":
        return kind(urllib3.HTTPResponse(b""), b"x")
    return kind(*(values.get(parameter.name, "trouble") for parameter in wanted))


LIBRARY_CLASSES = exception_classes(requests.exceptions) + exception_classes(urllib3.exceptions)


@pytest.mark.parametrize("kind", LIBRARY_CLASSES, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_c9_every_exception_of_requests_and_urllib3_has_a_verdict(kind: type[Exception]) -> None:
    verdict = classify_exception(made(kind))
    assert verdict is not None
    assert verdict.error_class in {
        ErrorClass.CONNECTION,
        ErrorClass.TIMEOUT,
        ErrorClass.INCOMPLETE,
        ErrorClass.TLS,
    }


def test_c9_the_walk_over_the_libraries_finds_their_exceptions() -> None:
    assert len(LIBRARY_CLASSES) > 45
    assert requests.exceptions.ProxyError in LIBRARY_CLASSES
    assert urllib3.exceptions.ProxySchemeUnsupported in LIBRARY_CLASSES


SOCKET_ERRORS = [
    (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), ErrorClass.CONNECTION),
    (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), ErrorClass.CONNECTION),
    (ConnectionAbortedError(errno.ECONNABORTED, "aborted"), ErrorClass.CONNECTION),
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), ErrorClass.CONNECTION),
    (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), ErrorClass.CONNECTION),
    (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), ErrorClass.CONNECTION),
    (socket.herror(1, "Unknown host"), ErrorClass.CONNECTION),
    (OSError(errno.ENETUNREACH, "Network is unreachable"), ErrorClass.CONNECTION),
    (OSError(errno.ENETDOWN, "Network is down"), ErrorClass.CONNECTION),
    (OSError(errno.EHOSTUNREACH, "No route to host"), ErrorClass.CONNECTION),
    (OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"), ErrorClass.CONNECTION),
    (TimeoutError("timed out"), ErrorClass.TIMEOUT),
    (OSError(errno.ETIMEDOUT, "Connection timed out"), ErrorClass.TIMEOUT),
    (http.client.RemoteDisconnected("Remote end closed connection"), ErrorClass.CONNECTION),
    (http.client.BadStatusLine("rubbish"), ErrorClass.CONNECTION),
    (http.client.IncompleteRead(b"12", 3), ErrorClass.INCOMPLETE),
    (ssl.SSLCertVerificationError(1, "certificate verify failed"), ErrorClass.TLS),
    (ssl.SSLError(1, "wrong version number"), ErrorClass.TLS),
    (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), ErrorClass.CONNECTION),
    (ssl.SSLZeroReturnError(6, "closed"), ErrorClass.CONNECTION),
]


def as_urllib3_packs(error: Exception) -> Exception:
    return urllib3.exceptions.ProtocolError(f"Connection broken: {error!r}", error)


def as_requests_packs(error: Exception) -> Exception:
    reason = (
        urllib3.exceptions.SSLError(error) if isinstance(error, ssl.SSLError) else as_urllib3_packs(error)
    )
    return requests.exceptions.ConnectionError(urllib3.exceptions.MaxRetryError(None, "/x", reason))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "pack", [lambda error: error, as_urllib3_packs, as_requests_packs], ids=["raw", "urllib3", "requests"]
)
@pytest.mark.parametrize(("error", "error_class"), SOCKET_ERRORS, ids=lambda value: repr(value)[:40])
def test_c9_a_socket_error_means_the_same_however_it_is_packed(
    error: Exception, error_class: ErrorClass, pack: Any
) -> None:
    verdict = classify_exception(pack(error))
    assert verdict is not None
    assert verdict.error_class is error_class
    words = getattr(error, "strerror", None) or str(error)
    assert words in verdict.message, "the innermost reason is what a person needs"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        PermissionError(errno.EACCES, "Permission denied"),
        ValueError("a mistake of ours"),
        KeyError("x"),
    ],
)
def test_c9_what_is_not_the_networks_gets_no_verdict(error: Exception) -> None:
    assert classify_exception(error) is None


@pytest.mark.parametrize(
    "text",
    [
        "<urllib3.connection.HTTPSConnection object at 0x7f3a5c0d1e50>: Failed to resolve",
        "Max retries exceeded (Caused by NewConnectionError('<x.HTTPConnection object at 0x7f3a5c0d1e50>: Failed'))",
        "Please check proxy URL: http://me:hunter2@proxy.example:3128",
        "Invalid header value: 'Bearer hunter2'",
        "Authorization: Basic hunter2==",
        "bad status line \x1b[31mhunt\r\n",
    ],
)
def test_i6_messages_show_no_addresses_no_secrets_and_no_control_characters(text: str) -> None:
    verdict = classify_exception(requests.exceptions.ConnectionError(text))
    assert verdict is not None
    assert "0x" not in verdict.message
    assert "hunter2" not in verdict.message
    assert verdict.message.isprintable()
    assert len(verdict.message) < 400


def test_c9_an_exception_without_words_is_named_by_its_class() -> None:
    verdict = classify_exception(requests.exceptions.ReadTimeout())
    assert verdict is not None
    assert "ReadTimeout" in verdict.message


def test_c9_a_fetch_error_survives_the_way_between_processes() -> None:
    verdict = Verdict(ErrorClass.THROTTLED, "too many", 429, 3.0)
    copied = pickle.loads(pickle.dumps(FetchError(verdict)))
    assert copied.verdict == verdict
    assert str(copied) == "too many"


# --- Retry-After


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(NOW / 1e6, UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("0", None),
        (in_seconds(90), 90.0),
        (in_seconds(-3_600), None),
        ("Wed, 21 Oct 2015 07:28:00 -0000", None),
        ("99999999999", LONGEST_RETRY_AFTER_S),
        (in_seconds(90_000), LONGEST_RETRY_AFTER_S),
        ("9" * 500, LONGEST_RETRY_AFTER_S),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("Mon, 99 Foo 2020 99:99:99 GMT", None),
    ],
)
def test_c6_retry_after_is_understood_as_seconds_and_as_a_date(value: str, wait_s: float | None) -> None:
    assert retry_after_s({"Retry-After": value}, NOW) == wait_s


@pytest.mark.parametrize("ours_is_fast_by_s", [-86_400, 0, 86_400])
def test_c6_a_date_is_counted_from_the_servers_own_clock(ours_is_fast_by_s: int) -> None:
    headers = {"Retry-After": in_seconds(90), "Date": in_seconds(0)}
    assert retry_after_s(headers, NOW + ours_is_fast_by_s * 1_000_000) == 90.0


def test_c6_retry_after_reaches_the_verdict_under_any_spelling() -> None:
    assert judged(503, **{"retry-after": "7"}).retry_after_s == 7.0
    assert judged(429, Retry_After="7").retry_after_s == 7.0


@given(st.text(max_size=40))
def test_c6_no_retry_after_can_break_the_client(value: str) -> None:
    wait_s = retry_after_s({"Retry-After": value, "Date": value[::-1]}, NOW)
    assert wait_s is None or 0 < wait_s <= LONGEST_RETRY_AFTER_S
