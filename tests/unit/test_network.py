"""C4: which certificates, which proxy, and what a proxy's refusal means."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
import urllib3

from midasdl.ceda.classify import classify_exception, classify_status
from midasdl.ceda.network import (
    HELP,
    Bundle,
    chosen_bundle,
    presentable_proxy,
    proxy_for,
    require_proxy,
)
from midasdl.ceda.token_service import explain_refusal
from midasdl.ceda.verdict import FATES, Fate
from midasdl.config import resolve
from midasdl.errors import ConfigurationError, ExitCode
from midasdl.models import ErrorClass

OPTION, REQUESTS, CURL = Path("/option.pem"), "/requests.pem", "/curl.pem"


@pytest.mark.parametrize(
    ("option", "environment", "chosen"),
    [
        (OPTION, {"REQUESTS_CA_BUNDLE": REQUESTS, "CURL_CA_BUNDLE": CURL}, OPTION),
        (None, {"REQUESTS_CA_BUNDLE": REQUESTS, "CURL_CA_BUNDLE": CURL}, Path(REQUESTS)),
        (None, {"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": CURL}, Path(CURL)),
        (None, {"REQUESTS_CA_BUNDLE": ""}, None),
        (None, {}, None),
    ],
)
def test_the_bundle_that_is_named_first_is_trusted(
    option: Path | None, environment: dict[str, str], chosen: Path | None
) -> None:
    """C4: the setting, then REQUESTS_CA_BUNDLE, then CURL_CA_BUNDLE; an empty variable names nothing."""
    found = chosen_bundle(option, environment)
    assert (found and found.path) == chosen
    assert found is None or isinstance(found, Bundle)


def test_the_setting_is_absolute_and_an_empty_one_takes_another_away() -> None:
    """C4 F3: what a run records is true in every folder; the environment can take back what the file has set."""
    named = {"network": {"ca_bundle": "ca.pem"}}
    assert resolve(named).network.ca_bundle == Path.cwd() / "ca.pem"
    assert resolve({"network": {"ca_bundle": "~/ca.pem"}}).network.ca_bundle == Path.home() / "ca.pem"
    assert resolve({"network": {"ca_bundle": ""}}, named).network.ca_bundle is None


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("proxy.example:3128", "http://proxy.example:3128"),
        ("http://me:p%40ss@proxy.example:3128/", "http://***@proxy.example:3128"),
        ("https://me@proxy.example", "https://***@proxy.example"),
        ("http://[::1]:3128", "http://[::1]:3128"),
    ],
)
def test_a_proxy_is_shown_without_user_name_and_password(address: str, shown: str) -> None:
    """C4 I6."""
    require_proxy(address)
    assert presentable_proxy(address) == shown


@pytest.mark.parametrize(
    "address",
    [
        "http://me:hunter/2@proxy.example:3128",
        "http://me:12/hunter@proxy.example:3128",
        "http://me:hunter#2@proxy.example:3128",
        "http://me:12?hunter@proxy.example:3128",
        "http://:3128",
        "gopher://me:hunter@proxy.example",
    ],
)
def test_a_proxy_that_no_library_would_understand_is_refused_in_silence(address: str) -> None:
    """C4 I6 W6: a configuration error that repeats nothing of the address."""
    with pytest.raises(ConfigurationError) as raised:
        require_proxy(address)
    assert raised.value.exit_code is ExitCode.USAGE
    assert "hunter" not in f"{raised.value.message} {raised.value.hint}"


def test_the_proxy_of_a_url_is_the_one_that_requests_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """C4: by scheme, and none for the hosts in NO_PROXY."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "near.example")
    assert proxy_for("https://far.example/x") == "http://proxy.example:3128"
    assert proxy_for("https://near.example/x") is None
    assert proxy_for("http://far.example/x") is None


def refused_tunnel(status: str) -> Exception:
    """As requests packs it."""
    cause = urllib3.exceptions.ProxyError(
        "Unable to connect to proxy", OSError(f"Tunnel connection failed: {status}")
    )
    return requests.exceptions.ProxyError(urllib3.exceptions.MaxRetryError(None, "/x", cause))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        ("407 Proxy Authentication Required", ErrorClass.PROXY),
        ("407", ErrorClass.PROXY),
        ("401 Unauthorized", ErrorClass.PROXY),
        ("403 Forbidden by policy", ErrorClass.PROXY),
        ("404 Not Found", ErrorClass.PROXY),
        ("408 Request Timeout", ErrorClass.CONNECTION),
        ("429 Too Many Requests", ErrorClass.CONNECTION),
        ("502 Bad Gateway", ErrorClass.CONNECTION),
        ("503 Service Unavailable", ErrorClass.CONNECTION),
    ],
)
def test_what_a_proxy_refuses_for_good_is_told_from_what_may_pass(
    status: str, error_class: ErrorClass
) -> None:
    """C4 C9: the former stops the run, the latter is an outage like any other."""
    verdict = classify_exception(refused_tunnel(status))
    assert verdict is not None
    assert verdict.error_class is error_class
    assert "proxy" in verdict.message


def test_a_407_means_the_same_without_a_tunnel() -> None:
    """C4 C9 W6: for an address in plain http the answer is the proxy's own, for files and for tokens."""
    verdict = classify_status(407, {}, 0)
    assert verdict is not None
    assert verdict.fate is Fate.STOP
    error = explain_refusal(verdict, "researcher")
    assert error.hint == HELP[ErrorClass.PROXY]
    assert error.exit_code is ExitCode.SERVER_UNAVAILABLE


def test_there_is_help_for_whatever_lies_on_the_way() -> None:
    """C9 U1: what no file would escape stops the run, with a word on what to do."""
    on_the_way = {name for name, fate in FATES.items() if fate is Fate.STOP} - {ErrorClass.STORAGE}
    assert set(HELP) == on_the_way
