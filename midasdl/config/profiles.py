"""Profiles as plain data: what some keys are where nobody gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COUNT = "performance.workers.count"
REQUESTS = "performance.ceda_client.max_concurrent_requests"
SPACING_MS = "performance.ceda_client.min_request_spacing_ms"
RETRIES = "performance.ceda_client.backoff.max_retries"
FAILURES = "performance.circuit_breaker.failure_threshold"

PROFILES: Mapping[str, Mapping[str, Any]] = {
    "conservative": {COUNT: 2, REQUESTS: 1, SPACING_MS: 500, RETRIES: 5, FAILURES: 3},
    "balanced": {COUNT: 4, REQUESTS: 3, SPACING_MS: 100, RETRIES: 3, FAILURES: 5},
    "aggressive": {COUNT: 8, REQUESTS: 6, SPACING_MS: 50, RETRIES: 2, FAILURES: 10},
    "development": {
        COUNT: 1,
        REQUESTS: 1,
        "performance.cache.verification_enabled": True,
        "performance.cache.verification_sample_rate": 1.0,
        "history.keep": "all",
        "logging.level": "debug",
    },
    "custom": {},
}
"""What is not named is as it is by default; `custom` names nothing."""

PURPOSES: Mapping[str, str] = {
    "conservative": "slow and patient, for business hours or a shared connection",
    "balanced": "what suits CEDA; the default",
    "aggressive": "as fast as is decent, for nights; asks before it is used at CEDA's hosts, or wants `--yes`",
    "development": "one worker, one request, every file read again, every transition kept and logged "
    "in `midasdl-debug.jsonl`",
    "custom": "only what you give, over the defaults",
}

ASKS_FIRST = "aggressive"
"""Used against CEDA's hosts only by somebody who says so."""

GOVERNED = frozenset(key for profile in PROFILES.values() for key in profile)
"""Every key that some profile sets."""
