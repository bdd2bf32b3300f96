"""C6 C7 C8 C10: a server that is away, overloaded or asks for patience costs time, not files."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest

from midasdl.simulator import Fault
from tests.acceptance.conftest import JobOnTrial
from tests.conftest import Archive

pytestmark = pytest.mark.punctual


def impatient(job: JobOnTrial) -> JobOnTrial:
    """Settings under which minutes become fractions of a second."""
    return job.with_settings(
        workers__count=4,
        ceda_client__min_request_spacing_ms=5,
        ceda_client__max_concurrent_requests=4,
        ceda_client__backoff__base_backoff_ms=50,
        circuit_breaker__timeout_seconds=0.5,
    )


def test_an_outage_in_the_middle_of_a_run_costs_no_file(
    job_on: Callable[..., JobOnTrial], small_archive: Archive
) -> None:
    """C10 C14: the breaker opens, one request at a time looks whether the server is back, and all goes on."""
    job = impatient(job_on(small_archive, first_byte_delay_s=0.02))
    job.init()
    process = job.command.start("run")
    while len(job.downloads) < 20:
        time.sleep(0.01)

    job.simulator.stop()
    while not job.one("SELECT max(breaker_open_since) FROM politeness"):
        time.sleep(0.01)
    told = job.command("status").out
    time.sleep(1.0)
    job.simulator.start()
    _, errors = process.communicate(timeout=60)

    assert "has not been available since" in told
    assert process.returncode == 0, errors
    assert job.is_complete
    assert job.rows("SELECT breaker_open_since, breaker_failures FROM politeness") == [(0, 0)]
    told_steps = job.rows("SELECT from_value, to_value, reason FROM steps WHERE what = 'breaker'")
    states = [to_value for _, to_value, _ in told_steps]
    assert [from_value for from_value, _, _ in told_steps] == ["closed", *states[:-1]]
    assert states[0] == "open"
    assert states[1:] == ["half-open", "open"] * (len(states) // 2 - 1) + ["half-open", "closed"]
    assert re.fullmatch(r"failures in a row: \d+, the last with: (connection|incomplete)", told_steps[0][2])
    assert told_steps[-1][2] == "requests that tried were answered, the last with: ok"


@pytest.mark.effect_of("run.server_patience_seconds")
def test_a_server_that_stays_away_ends_the_run_with_every_task_kept(job: JobOnTrial) -> None:
    """C10 W6: exit 5 after the patience that was set; nothing has failed, and resume goes on."""
    patient_for_a_second = impatient(job).command.with_environment(MIDASDL_RUN__SERVER_PATIENCE_SECONDS="1")
    job.init()
    patient_for_a_second("auth", "verify")
    job.simulator.stop()

    ended = patient_for_a_second("run", code=5)

    assert "not been available" in ended.err
    assert "midasdl resume" in ended.err
    assert job.rows("SELECT count(*) FROM task WHERE state <> 'pending'") == [(0,)]
    job.simulator.start()
    job.command("resume")
    assert job.is_complete


def test_one_429_with_retry_after_silences_every_worker_for_so_long(
    job_on: Callable[..., JobOnTrial], small_archive: Archive
) -> None:
    """C6: for 3 s the server hears nothing, of no worker; the file loses no attempt, the rate is halved."""
    too_many = Fault("status", status=429, retry_after="3", route="download", after=30)
    job = impatient(job_on(small_archive, faults=[too_many], first_byte_delay_s=0.02))
    job.init()

    job.command("run")

    refused = next(record for record in job.downloads if record.status == 429)
    later = [record for record in job.downloads if record.started > refused.ended + 0.1]
    in_flight = [record for record in later if record.started < refused.ended + 2.9]
    assert in_flight == []
    assert job.is_complete
    assert job.rows("SELECT sum(attempts) FROM task") == [(small_archive.distinct,)]
    assert len(job.downloads) == small_archive.distinct + 1


def test_five_hundred_and_three_without_a_word_pauses_everybody_ever_longer(
    job_on: Callable[..., JobOnTrial], small_archive: Archive
) -> None:
    """C6: 20 times the base backoff, then twice as long."""
    overloaded = Fault("status", status=503, route="download", after=30, times=2)
    job = impatient(job_on(small_archive, faults=[overloaded], first_byte_delay_s=0.02)).with_settings(
        ceda_client__backoff__jitter_factor=0, ceda_client__max_concurrent_requests=1
    )
    job.init()

    job.command("run")

    first, second = [record for record in job.downloads if record.status == 503]
    after = next(record for record in job.downloads if record.number > second.number)
    assert 1.0 <= second.started - first.ended < 1.9
    assert 2.0 <= after.started - second.ended < 2.9
    assert job.is_complete


OUTCOMES = {200: "ok", 429: "throttled", 404: "not-found", 500: "server-error"}


@pytest.mark.parametrize("limits", [0, 3], ids=["no-limits", "limits"])
def test_health_agrees_with_what_the_server_has_seen(
    job_on: Callable[..., JobOnTrial], small_archive: Archive, limits: int
) -> None:
    """C14: each request once, by its outcome, the one for a token included; half of the answers took 50 ms or more."""
    faults = [
        Fault("status", status=429, retry_after="1", route="download", after=10),
        Fault("status", status=500, route="download", after=30, times=3),
        Fault("status", status=404, route="download", after=70, times=2),
    ]
    job = impatient(job_on(small_archive, faults=faults, first_byte_delay_s=0.05)).with_settings(
        ceda_client__max_concurrent_requests=limits, ceda_client__min_request_spacing_ms=limits
    )
    job.init()

    job.command("run", code=1)

    seen = Counter(OUTCOMES[record.status] for record in job.simulator.requests)
    assert dict(job.rows("SELECT outcome, requests FROM responses WHERE run = 1")) == seen
    [(requests, rate, errors, p50_ms, p95_ms, p99_ms, active)] = job.rows(
        "SELECT requests, success_rate, errors, p50_ms, p95_ms, p99_ms, active_requests FROM health"
    )
    assert (requests, rate, active) == (seen.total(), pytest.approx(seen["ok"] / seen.total()), 0)
    assert errors == "server-error 3, not-found 2, throttled 1"
    longest_ms = max(record.ended - record.started for record in job.simulator.requests) * 1_000
    assert 50 <= p50_ms <= p95_ms <= p99_ms < 1.1 * longest_ms + 50
    assert (
        f"{requests} requests, {rate:.1%} good ({errors}); answers began after" in job.command("status").out
    )
    kept = job.rows("SELECT what, to_value, reason FROM steps")
    assert ("throttle", "50%", "CEDA answered 429: it is asked too much") in kept
    assert ("pause", "CEDA answered 429 and asked to wait for 1 s") in [(what, why) for what, _, why in kept]


@pytest.mark.slow
def test_the_rate_follows_the_health_of_the_server(
    job_on: Callable[..., JobOnTrial], archive: Archive
) -> None:
    """C7 C14: answers that take several times as long halve the rate; when they are quick again it recovers."""
    slow = Fault("delay", seconds=0.15, route="download", after=250, times=170)
    job = job_on(archive, faults=[slow], first_byte_delay_s=0.02).with_settings(
        workers__count=8, ceda_client__min_request_spacing_ms=20, ceda_client__max_concurrent_requests=8
    )
    job.init()
    process = job.command.start("run")
    while len(job.downloads) < 700 and process.poll() is None:
        time.sleep(0.2)
    told = job.command("status").out
    process.terminate()
    process.communicate(timeout=30)

    starts = [record.started for record in job.downloads]
    before, during = rate(starts[100:250]), rate(starts[340:420])
    assert during < 0.6 * before
    assert rate(starts[-100:]) > 1.2 * during
    assert "of the usual rate: answers take" in told
    kept = job.rows("SELECT from_value, to_value, reason FROM steps WHERE what = 'throttle'")
    assert all(later[0] == earlier[1] for earlier, later in pairwise(kept))
    assert kept[0][:2] == ("100%", "50%")
    assert kept[0][2].startswith("answers take")
    assert "no further trouble" in {reason for _, _, reason in kept}


def rate(starts: list[float]) -> float:
    """Starts per second."""
    return (len(starts) - 1) / (starts[-1] - starts[0])
