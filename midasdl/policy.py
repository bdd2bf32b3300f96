"""What a worker decides by: how many tasks it takes, where it asks for them, and when again. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from midasdl.ceda.classify import LONGEST_RETRY_AFTER_S
from midasdl.ceda.verdict import Fate, Verdict
from midasdl.ledger.outcomes import Claim
from midasdl.politeness.backoff import Backoff
from midasdl.politeness.limiter import CLOCK_SLACK_US

MOST_CLAIMS = 256
"""More at once gain nothing in the ledger, nor among the folders to flush."""

ROUND_S = 1.0
"""A claim takes about this much work, and finished work is recorded about this often."""

CAUTION = 4.0
"""A server that has errors of its own is left alone this many times longer."""


@dataclass(frozen=True, slots=True)
class WorkerPolicy:
    """What a worker decides by.

    Attributes
    ----------
    max_retries : int
        Retries after the first request.
    backoff : Backoff
    workers : int
        Of its run; near the end of the queue nobody takes more than a fair share.
    look_ahead : int
        Files that are looked for on disk before the first of them is asked for.
    reread : float
        Share of the files that were done once of which more than the size is looked at.
    quota : int or None
        Tasks that this worker may bring to an end; None: any number.
    """

    max_retries: int
    backoff: Backoff
    workers: int
    look_ahead: int = 0
    reread: float = 1.0
    quota: int | None = None


def paths_to_try(claim: Claim, max_retries: int) -> tuple[str, ...]:
    """The paths from which a task's bytes may come, in this attempt's order and as far as its requests go.

    Each attempt begins with another one: what is damaged or missing at one path may be well at the next.
    """
    if len(claim.paths) == 1:
        return claim.paths
    turn = claim.attempts % len(claim.paths)
    return (claim.paths[turn:] + claim.paths[:turn])[: max(1, max_retries + 1 - claim.attempts)]


def retry_wait_s(
    attempts: int, verdict: Verdict, policy: WorkerPolicy, uniform: Callable[[float, float], float]
) -> float | None:
    """Seconds until a task may be tried again, or None if it has failed for good.

    Parameters
    ----------
    attempts : int
        Requests for the task that have counted so far; there are never more than ``1 + max_retries`` of them.
    """
    if attempts > policy.max_retries or verdict.fate is Fate.FAIL:
        return None
    wait_s = policy.backoff.wait_s(attempts, uniform)
    if verdict.fate is Fate.RETRY_LATER:
        wait_s = min(wait_s * CAUTION, policy.backoff.longest_s)
    return max(wait_s, verdict.retry_after_s or 0.0)


def longest_wait_us(policy: WorkerPolicy) -> int:
    """The longest that `retry_wait_s` ever says, and a clock's correction; a retry further ahead is impossible."""
    return int(max(policy.backoff.longest_s, LONGEST_RETRY_AFTER_S) * 1e6) + CLOCK_SLACK_US


def tasks_for_a_round(worked: int, seconds: float) -> int:
    """How many tasks to claim next, so that they last for about one round."""
    return max(1, min(MOST_CLAIMS, round(worked * ROUND_S / max(seconds, 1e-3))))
