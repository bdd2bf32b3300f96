"""O1, O5: what is served on the port, by whom it may be asked, and what other programs make of it."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from midasdl.ledger.figures import Standing
from midasdl.metrics.figures import STATUS_SCHEMA, Ending
from midasdl.metrics.page import PAGE, policy_of
from midasdl.metrics.prometheus import exposition
from midasdl.metrics.server import MOST_CONNECTIONS, STALLED_S, StatusServer, answer_to, is_welcome
from tests.support.figures import HOST, some_figures
from tests.support.programs import require_program
from tests.unit.test_docs import ROOT, rows, section

FIGURES = some_figures()


@pytest.fixture
def server() -> Iterator[StatusServer]:
    with closing(StatusServer("127.0.0.1", 0, lambda: FIGURES, lambda: 0.0)) as running:
        yield running


def ask(server: StatusServer, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """One request, as any client makes it."""
    port = int(re.findall(r":(\d+)/", server.url)[0])
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample of an exposition, by its name and the values of its labels."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# --- Prometheus


def test_o1_names_and_types_pass_promtool() -> None:
    """O1: Prometheus's own judge finds nothing to say about names, units, types and help texts."""
    text, _ = exposition(FIGURES, "")
    judged = subprocess.run(
        [require_program("promtool"), "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (judged.returncode, judged.stdout + judged.stderr) == (0, b"")


def test_o2_every_figure_is_a_metric() -> None:
    """O2: rates, times, cache hits, errors, utilisation, depths, memory, bandwidth, states, requests, limits."""
    found = samples(exposition(FIGURES, "")[0].decode())
    expected: dict[tuple[str, tuple[str, ...]], float] = {
        ("midasdl_downloads_per_second", ()): 1.9,
        ("midasdl_download_duration_seconds_count", ()): 2,
        ("midasdl_download_duration_seconds_sum", ()): pytest.approx(0.47),
        ("midasdl_download_duration_seconds_bucket", ("0.1",)): 1,
        ("midasdl_cache_hit_ratio", ()): pytest.approx(16 / 114),
        ("midasdl_download_errors_total", ("unavailable", "retried")): 3,
        ("midasdl_download_errors_total", ("not-found", "failed")): 2,
        ("midasdl_worker_utilisation_ratio", ()): 0.97,
        ("midasdl_workers", ("requesting",)): 1,
        ("midasdl_tasks", ("pending",)): 80,
        ("midasdl_tasks", ("in_progress",)): 4,
        ("midasdl_tasks", ("done",)): 114,
        ("midasdl_files", ("done",)): 120,
        ("midasdl_size_bytes", ("expected",)): 6_000_000,
        ("midasdl_remaining_seconds", ()): 53,
        ("midasdl_failed_tasks", ("not-found",)): 2,
        ("midasdl_resident_memory_bytes", ("workers",)): 90_000_000,
        ("midasdl_bandwidth_bytes_per_second", ()): 49_000,
        ("midasdl_fetched_bytes_total", ()): 2_940_000,
        ("midasdl_finished_tasks_total", ("cached",)): 16,
        ("midasdl_task_state_seconds_total", ("pending",)): 9_000,
        ("midasdl_requests_total", (HOST, "ok")): 98,
        ("midasdl_throttle_ratio", (HOST,)): 0.5,
        ("midasdl_breaker_state", (HOST, "closed")): 1,
        ("midasdl_breaker_state", (HOST, "open")): 0,
        ("midasdl_requests_in_flight", (HOST,)): 2,
        ("midasdl_response_time_seconds", (HOST, "95")): 0.09,
        ("midasdl_paused", (HOST,)): 0,
        ("midasdl_alert", ("slow",)): 1,
    }
    assert {key: found.get(key) for key in expected} == expected


def test_o1_a_label_may_hold_anything() -> None:
    """O1: quotes, line breaks and backslashes in a name of the outside end neither label nor line."""
    hostile = 'evil"} 1\nmidasdl_tasks{state="\\x'
    figures = some_figures(standing=Standing({}, {(hostile, "ok"): 5}, 0, 0, (), ()))
    assert samples(exposition(figures, "")[0].decode())["midasdl_requests_total", (hostile, "ok")] == 5


def test_o1_prometheus_is_given_the_format_that_it_asks_for(server: StatusServer) -> None:
    open_metrics = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5"
    _, plain, body = ask(server, "GET", "/metrics")
    _, asked, text = ask(server, "GET", "/metrics", Accept=open_metrics)
    assert plain["Content-Type"].startswith("text/plain; version=0.0.4")
    assert asked["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith(b"# EOF\n")
    assert samples(body.decode())["midasdl_tasks", ("done",)] == 114


# --- the port


def test_o1_each_path_has_its_answer(server: StatusServer) -> None:
    """O1 O5: /metrics, /healthz, /status and the page; nothing else, and nothing but reading."""
    assert json.loads(ask(server, "GET", "/status")[2])["tasks"]["done"] == 114
    assert ask(server, "GET", "/healthz")[::2] == (200, b"ok: working\n")
    assert ask(server, "GET", "/")[::2] == (200, PAGE)
    assert ask(server, "GET", "/?x=1")[2] == PAGE
    assert ask(server, "HEAD", "/status")[::2] == (200, b"")
    assert ask(server, "GET", "/../etc/passwd")[0] == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(server, method, "/status")[0] == 501


def test_o1_healthz_tells_a_run_that_hangs() -> None:
    """O1: a coordinator that has shown nothing for half a minute is not well; one that has ended is."""
    assert answer_to("/healthz", "", FIGURES, STALLED_S + 1).status == 503
    assert answer_to("/healthz", "", some_figures(ending=Ending(0)), STALLED_S + 1).status == 200


@pytest.mark.parametrize(
    ("asked_for", "listening_on", "welcome"),
    [
        ("localhost:9464", "127.0.0.1", True),
        ("127.0.0.1:1234", "127.0.0.1", True),
        ("[::1]:9464", "::1", True),
        ("evil.example:9464", "127.0.0.1", False),
        ("127.0.0.1.evil.example", "127.0.0.1", False),
        ("localhost.evil.example", "localhost", False),
        ("", "127.0.0.1", False),
        (None, "127.0.0.1", False),
        ("cluster-node-7:9464", "0.0.0.0", True),
        ("10.0.0.7:9464", "10.0.0.7", True),
    ],
)
def test_o5_a_page_of_another_site_cannot_ask(
    asked_for: str | None, listening_on: str, welcome: bool
) -> None:
    """O5: a name that was made to lead to this machine is not this machine's name, unless others may look anyway."""
    assert is_welcome(asked_for, listening_on) is welcome


def test_o5_strangers_names_are_refused(server: StatusServer) -> None:
    assert ask(server, "GET", "/status", Host="evil.example")[0] == 403


def test_o5_the_page_may_load_nothing_and_its_policy_is_its_own(server: StatusServer) -> None:
    """O5: no address, no import, no markup from data; the policy names the hashes of its one style and one script."""
    _, headers, page = ask(server, "GET", "/")
    policy = headers["Content-Security-Policy"]

    assert policy == policy_of(page)
    assert len(re.findall(r"'sha256-[\w+/=]{44}'", policy)) == 2
    assert "unsafe" not in policy
    assert (page.count(b"<style>"), page.count(b"<script>")) == (1, 1)
    text = page.decode().replace("http://www.w3.org/2000/svg", "")
    for word in (
        "http:",
        "https:",
        "//cdn",
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "eval(",
        "@import",
        "onclick",
        'style="',
    ):
        assert word not in text, word
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_o1_who_says_nothing_blocks_nobody(server: StatusServer) -> None:
    """O1: as many silent clients as there is room for, and one too many: the next is heard once one has gone."""
    port = int(re.findall(r":(\d+)/", server.url)[0])
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(MOST_CONNECTIONS - 1)]
    try:
        assert ask(server, "GET", "/healthz")[0] == 200
    finally:
        for connection in silent:
            connection.close()


# --- the status


def flattened(value: Any, prefix: str = "") -> Iterator[str]:
    """The name of each field of the status; names that come from data stand in angle brackets in the document."""
    if isinstance(value, dict) and prefix not in BY_NAME:
        for name, inner in value.items():
            yield from flattened(inner, f"{prefix}.{name}" if prefix else name)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for name, inner in value[0].items():
            yield from flattened(inner, f"{prefix}[].{name}")
    else:
        yield prefix


BY_NAME = {"errors", "failures", "requests", "memory_bytes", "task_seconds"}


def test_o1_the_status_is_documented_field_by_field(server: StatusServer) -> None:
    """O1: docs/figures.md has each field of /status once, and no other; the schema's number is that of the document."""
    text = (ROOT / "docs" / "figures.md").read_text()
    table = rows(section(text, "The status"))
    status = json.loads(ask(server, "GET", "/status")[2])
    assert [row[0].strip("`") for row in table] == list(flattened(status))
    assert all(meaning for _, _, meaning in table)
    assert f"schema {STATUS_SCHEMA}" in text


def test_o1_the_metrics_are_documented_name_by_name() -> None:
    """O1: docs/figures.md has each metric with its type and labels, and no other."""
    table = rows(section((ROOT / "docs" / "figures.md").read_text(), "Metrics for Prometheus"))
    families = list(text_string_to_metric_families(exposition(FIGURES, "")[0].decode()))
    expected = []
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = [label for label in (family.samples[0].labels if family.samples else {}) if label != "le"]
        expected.append((f"`{name}`", family.type, ", ".join(labels)))
    assert [tuple(row[:3]) for row in table] == expected
