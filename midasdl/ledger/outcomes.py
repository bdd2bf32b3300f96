"""What a worker holds, what becomes of it, and what the ledger answers: frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from midasdl.models import ErrorClass


class Claim(NamedTuple):
    """One worker's right to one task.

    Attributes
    ----------
    paths : tuple of str
        Every destination of the task, in the manifest's order.
    attempts : int
        Requests that have counted against the retry limit so far.
    size_once : int or None
        Of the bytes, where the first of the paths held them when the task was done last, and nothing has made that
        doubtful.
    """

    task_id: int
    md5: str
    claim_no: int
    attempts: int
    paths: tuple[str, ...]
    size_once: int | None = None


class Finished(NamedTuple):
    """The bytes are durable at every destination."""

    claim: Claim
    size_bytes: int
    from_cache: bool
    http_status: int | None = None
    elapsed_us: int | None = None
    attempts_more: int = 0


@dataclass(frozen=True, slots=True)
class Postponed:
    """It failed for the moment; `retry_at_us` is when it may be claimed again."""

    claim: Claim
    retry_at_us: int
    error_class: ErrorClass
    error: str
    http_status: int | None = None
    elapsed_us: int | None = None
    attempts_more: int = 1


@dataclass(frozen=True, slots=True)
class Failed:
    """It failed for good, until a person requeues it."""

    claim: Claim
    error_class: ErrorClass
    error: str
    http_status: int | None = None
    elapsed_us: int | None = None
    attempts_more: int = 1


@dataclass(frozen=True, slots=True)
class Released:
    """The claim goes back unused."""

    claim: Claim
    reason: str


Outcome = Finished | Postponed | Failed | Released


@dataclass(frozen=True, slots=True)
class Settled:
    """What the ledger answered to a worker.

    Attributes
    ----------
    claims : tuple of Claim
        The worker's next tasks.
    lost : frozenset of int
        Tasks whose claim was no longer the worker's: their outcomes were not recorded.
    next_retry_at_us : int or None
        Where nothing was claimable: when the earliest waiting task may be claimed.
    others_busy : bool
        Where nothing was claimable: whether other workers still hold claims, which may come back.
    """

    claims: tuple[Claim, ...] = ()
    lost: frozenset[int] = field(default_factory=frozenset)
    next_retry_at_us: int | None = None
    others_busy: bool = False

    @property
    def nothing_left(self) -> bool:
        """Whether the queue is empty for good: nothing to claim, nothing waiting, nobody busy."""
        return not self.claims and self.next_retry_at_us is None and not self.others_busy
