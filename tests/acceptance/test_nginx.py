"""I5: an independent judge, nginx, finds nothing to reject."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from midasdl.simulator import Fault
from tests.acceptance.conftest import JobOnTrial
from tests.conftest import Archive
from tests.support.nginx import judging

pytestmark = pytest.mark.punctual

RATE = 50
PERMITS = 3


@pytest.mark.slow
def test_nginx_rejects_not_one_request_of_two_runs_with_eight_workers_each(
    job_on: Callable[..., JobOnTrial], archive: Archive
) -> None:
    """C5 C8 I5: limit_req at exactly the configured rate, limit_conn at the permits, retries included."""
    trouble = [
        Fault("status", status=500, route="download", probability=0.02, times=None),
        Fault("reset", route="download", probability=0.01, times=None),
        Fault("truncate", route="download", probability=0.01, times=None),
    ]
    job = job_on(archive, faults=trouble, first_byte_delay_s=0.01)
    with judging(job.folder / "nginx", job.simulator.base_url, rate=RATE, connections=PERMITS) as judge:
        urls = {name: judge.rewrite(url) for name, url in job.simulator.environment().items()}
        command = job.with_settings(
            workers__count=8,
            ceda_client__min_request_spacing_ms=1000 // RATE,
            ceda_client__max_concurrent_requests=PERMITS,
            ceda_client__backoff__base_backoff_ms=100,
            ceda_client__backoff__max_retries=10,
        ).command.with_environment(**urls)
        job.init()
        runs = [command.start("run"), command.start("run")]
        for run in runs:
            _, errors = run.communicate(timeout=200)
            assert run.returncode == 0, errors

        assert judge.rejections == []
        assert judge.requests > archive.distinct, "no retry was provoked"
    assert job.is_complete
