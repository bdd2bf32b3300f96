"""Chaos runs whole jobs, as acceptance tests do."""

from tests.acceptance.conftest import job_on

__all__ = ["job_on"]
