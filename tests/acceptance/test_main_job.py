"""The main job: a manifest goes in, a verified archive comes out, and nothing is asked twice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest

from midasdl.simulator import Fault
from tests.acceptance.conftest import JobOnTrial
from tests.conftest import Archive


def test_real_and_made_files_arrive_whole_with_one_get_for_each_distinct_md5(
    job_on: Callable[..., JobOnTrial], real_and_made_archive: Archive
) -> None:
    """M1 M5 C11 S4 L5: md5sum agrees; the server saw one GET a content and one request for a token."""
    job = job_on(real_and_made_archive)
    job.init()

    job.command("run", "--workers", "8")

    assert job.is_complete
    routes = Counter((record.method, record.route, record.status) for record in job.simulator.requests)
    assert routes == {("GET", "download", 200): real_and_made_archive.distinct, ("POST", "token", 200): 1}
    assert len({record.path for record in job.downloads}) == real_and_made_archive.distinct
    assert job.rows("SELECT state, count(*) FROM task GROUP BY state") == [
        ("done", real_and_made_archive.distinct)
    ]
    assert job.one("SELECT count(*) FROM destination") == len(real_and_made_archive.lines) == 2009


def test_connections_are_reused(job_on: Callable[..., JobOnTrial], archive: Archive) -> None:
    """C11: a healthy run of 8 workers opens no more than 9 connections, and makes no HEAD."""
    job = job_on(archive)
    job.init()

    job.command("run", "--workers", "8")

    assert len({record.connection for record in job.simulator.requests}) <= 9
    assert {record.method for record in job.simulator.requests} == {"GET", "POST"}
    assert {record.user_agent.partition("/")[0] for record in job.simulator.requests} == {"midasdl"}


@pytest.mark.punctual
def test_a_second_run_asks_for_nothing_and_ends_at_once(job: JobOnTrial) -> None:
    """S1: 0 requests, exit 0 within two seconds."""
    job.init()
    job.command("run")
    job.simulator.clear_requests()

    began = time.monotonic()
    ended = job.command("run")

    assert time.monotonic() - began < 2
    assert job.simulator.requests == []
    assert "Nothing to do" in ended.out


def test_the_summary_tells_what_was_done_and_what_to_type_next(job: JobOnTrial) -> None:
    """P5: time, files, bytes; failures by class with advice, the error log and the command to retry."""
    job.init()
    path = job.lone_path()
    job.simulator.add_fault(Fault("status", status=404, path=f"*{path}", times=None))

    ended = job.command("run", code=1)

    assert "Fetched" in ended.out
    assert "1 x not-found" in ended.out
    assert path in ended.out
    assert "midasdl run --retry-failed" in ended.out
    (log,) = job.folder.glob("download-errors-*.log")
    assert path in log.read_text()
    assert job.rows("SELECT path, class, attempts FROM failures") == [(path, "not-found", 1)]
