"""The life of a task: claim, finish, postpone, fail, release, take back, requeue.

A claim belongs to one worker and carries a number. Every later write names task, worker and number; where that
changes no row the claim has been lost, and the worker drops the task (invariant I3).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection

from midasdl.ledger import health_statements, statements, verify_statements
from midasdl.ledger.brief import Brief
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.outcomes import Claim, Failed, Finished, Outcome, Postponed, Released, Settled
from midasdl.ledger.responses import Responses, add_responses
from midasdl.models import ErrorClass, TaskState

RUNS_WITH_RESPONSES = 100
"""Of so many runs it is kept how their requests went."""

SHARES_LEFT = 2
"""Near the end a worker takes only such a part of its fair share, and comes back for more: files differ in size, and
who has drawn the large ones would keep the others waiting with nothing to do."""

LONGEST_WAIT_US = 86_400_000_000
"""Where nobody says otherwise: no settings allow a longer backoff."""


IN_ORDER = itemgetter(4, 0)
"""Of the rows that `statements.CLAIMED` describes: those that wait for no retry first, then as in the manifest."""


class TaskQueue:
    """Tasks of a ledger, as workers see them.

    Parameters
    ----------
    keep_all_history : bool
        Record the transitions of tasks that go straight to done as rows too.
    longest_wait_us : int
        No task waits longer for its retry; an instant further ahead means that the clock was set back.
    """

    def __init__(
        self, ledger: Ledger, *, keep_all_history: bool = False, longest_wait_us: int = LONGEST_WAIT_US
    ) -> None:
        self._ledger = ledger
        self._keep_all_history = keep_all_history
        self._longest_wait_us = longest_wait_us

    def settle(
        self,
        worker_id: int,
        outcomes: Sequence[Outcome],
        *,
        want: int,
        share_among: int = 1,
        responses: Sequence[Responses] = (),
    ) -> Settled:
        """Record what became of a worker's claims and hand it the next ones, in one transaction.

        Parameters
        ----------
        worker_id : int
        outcomes : sequence of Outcome
            Of claims that this worker holds.
        want : int
            How many tasks the worker would like next; 0 claims nothing.
        share_among : int
            Number of workers; near the end of the queue nobody takes more than a fair share.
        responses : sequence of Responses
            The worker's requests since it last told.

        Returns
        -------
        Settled

        Notes
        -----
        Concurrency: safe from any number of processes. Crash safety: a worker that dies before the commit has
        settled nothing; its claims are taken back and the next check finds the published files.
        """
        with self._ledger.brief() as brief:
            now = self._ledger.clock.now_us()
            held = _held_by(brief, worker_id)
            claims = [outcome.claim for outcome in outcomes]
            if held.issuperset([(claim.task_id, claim.claim_no) for claim in claims]):
                lost = self._record(brief, worker_id, outcomes, held, now)
                add_responses(brief, worker_id, responses)
                return self._next(brief, worker_id, want, share_among, now, lost)
        with self._ledger.write() as connection:  # a claim was lost: others' tasks may have to be done again
            now = self._ledger.clock.now_us()
            brief = Brief.within(connection)
            lost = self._record(brief, worker_id, outcomes, _held_by(brief, worker_id), now)
            self._reopen_overwritten(connection, outcomes, lost)
            add_responses(brief, worker_id, responses)
            return self._next(brief, worker_id, want, share_among, now, lost)

    def holds(self, worker_id: int, claim: Claim) -> bool:
        """Whether a claim is still the worker's."""
        fence = {"task": claim.task_id, "worker": worker_id, "claim": claim.claim_no}
        return bool(self._ledger.look(statements.HELD, fence))

    def has_fetched(self, worker_id: int) -> bool:
        """Whether any worker of the same run has recorded a file that came from the server."""
        with self._ledger.read() as connection:
            found = connection.execute(statements.FETCHED_IN_RUN_OF, {"worker": worker_id}).first()
        return found is not None

    def is_only_forbidden_left(self) -> bool:
        """Whether the archive was open before, and nothing is left but files that it does not give."""
        with self._ledger.read() as connection:
            forbidden = {"forbidden": ErrorClass.FORBIDDEN.value}
            return bool(connection.execute(statements.IS_ONLY_FORBIDDEN_LEFT, forbidden).scalar_one())

    def requeue(self, classes: Iterable[ErrorClass] = tuple(ErrorClass)) -> int:
        """Put failed tasks of some error classes back to pending, with a fresh set of attempts.

        Returns
        -------
        int
            How many tasks were put back.
        """
        parameters = {"classes": [str(name) for name in classes], "now": self._ledger.clock.now_us()}
        with self._ledger.write() as connection:
            connection.execute(statements.RECORD_REQUEUED, parameters)
            return connection.execute(statements.REQUEUE, parameters).rowcount

    def claim_these(self, worker_id: int, tasks: Sequence[int]) -> tuple[Claim, ...]:
        """Claim some tasks because their bytes were found elsewhere, failed ones too; others' claims stay theirs."""
        now = self._ledger.clock.now_us()
        these = {"tasks": list(tasks), "now": now}
        with self._ledger.write() as connection:
            connection.execute(verify_statements.RECORD_PUT_BACK, these)
            connection.execute(verify_statements.PUT_BACK, these)
            rows = connection.execute(verify_statements.CLAIM_THESE, {**these, "worker": worker_id}).all()
            return self._as_claims(Brief.within(connection), worker_id, [tuple(row) for row in rows], now)

    def take_back(self, connection: Connection, workers: Sequence[int], reason: str) -> int:
        """Make the claims of workers that are gone pending again, inside the caller's transaction.

        Returns
        -------
        int
            How many tasks were taken back.
        """
        parameters = {"workers": list(workers), "why": reason, "now": self._ledger.clock.now_us()}
        connection.execute(statements.RECORD_FIRST_CLAIMS_OF, parameters)
        connection.execute(statements.RECORD_TAKEN_BACK, parameters)
        return connection.execute(statements.TAKE_BACK, parameters).rowcount

    def reopen(
        self, connection: Connection, tasks: Sequence[int], reason: str, *, bytes_are_there: bool = False
    ) -> int:
        """Make tasks pending that are done or claimed, inside the caller's transaction; others are left alone.

        Parameters
        ----------
        bytes_are_there : bool
            Nothing has happened to the destinations that they had: they only gained one.

        Returns
        -------
        int
            How many tasks were reopened. A worker that holds one of them loses its claim.
        """
        if not tasks:
            return 0
        parameters = {"tasks": list(tasks), "why": reason, "now": self._ledger.clock.now_us()}
        connection.execute(statements.RECORD_FIRST_CLAIMS_OF_REOPENED, parameters)
        connection.execute(statements.RECORD_FINISHED_OF_REOPENED, parameters)
        connection.execute(statements.RECORD_REOPENED, parameters)
        if not bytes_are_there:
            connection.execute(statements.FORGET_SIZES, parameters)
        return connection.execute(statements.REOPEN, parameters).rowcount

    def trim_history(self, keep: int) -> None:
        """Keep only the newest `keep` transitions and steps, and how requests went in the latest runs."""
        with self._ledger.write() as connection:
            connection.execute(statements.TRIM_HISTORY, {"keep": keep})
            connection.execute(health_statements.TRIM_STEPS, {"keep": keep})
            connection.execute(health_statements.TRIM_RESPONSES, {"runs": RUNS_WITH_RESPONSES})

    def _next(
        self, brief: Brief, worker_id: int, want: int, share_among: int, now: int, lost: frozenset[int]
    ) -> Settled:
        """The worker's next claims, or why there are none, beside those that it has lost."""
        if want <= 0:
            return Settled(lost=lost)
        claims = self._claim(brief, worker_id, want, share_among, now)
        if not claims and self._forget_impossible_waits(brief, now):
            claims = self._claim(brief, worker_id, want, share_among, now)
        if claims:
            return Settled(claims=claims, lost=lost)
        [(next_retry_at_us,)] = brief.fetch(statements.NEXT_RETRY_AT, {})
        [(others_busy,)] = brief.fetch(statements.ANY_IN_PROGRESS, {})
        return Settled(lost=lost, next_retry_at_us=next_retry_at_us, others_busy=bool(others_busy))

    def _claim(
        self, brief: Brief, worker_id: int, want: int, share_among: int, now: int
    ) -> tuple[Claim, ...]:
        if want > 1:
            some = {"now": now, "how_many": want * share_among * SHARES_LEFT}
            [(claimable,)] = brief.fetch(statements.COUNT_CLAIMABLE, some)
            want = fair_share(claimable, want, share_among)
        some = {"now": now, "how_many": want, "worker": worker_id}
        rows = brief.fetch(statements.CLAIM, some)
        return self._as_claims(brief, worker_id, rows, now) if rows else ()

    def _as_claims(
        self, brief: Brief, worker_id: int, rows: Sequence[tuple[Any, ...]], now: int
    ) -> tuple[Claim, ...]:
        """Claims with their paths, kept in the history where they are not a task's first.

        Parameters
        ----------
        rows : sequence of tuple
            What `CLAIMED` names.
        """
        paths: dict[int, list[str]] = {row[0]: [] for row in rows}
        held = brief.fetch(statements.DESTINATIONS_OF_HOLDER, {"worker": worker_id})
        for task_id, path in held:
            if task_id in paths:  # the worker may hold others already
                paths[task_id].append(path)
        claims = tuple(
            [
                Claim(task_id, md5, claim_no, attempts, tuple(paths[task_id]), size_bytes)
                for task_id, md5, claim_no, attempts, _, size_bytes in sorted(rows, key=IN_ORDER)
            ]
        )
        for claim in claims:
            if claim.claim_no > 1 or self._keep_all_history:
                self._keep(
                    brief, worker_id, claim, (TaskState.PENDING, TaskState.IN_PROGRESS, "claimed"), now
                )
        return claims

    def _forget_impossible_waits(self, brief: Brief, now: int) -> bool:
        """Whether any retry was waiting for an instant of a clock that has been set back; it is due now."""
        parameters = {"latest": now + self._longest_wait_us, "now": now}
        return brief.send(statements.FORGET_IMPOSSIBLE_WAITS, parameters) > 0

    def _reopen_overwritten(
        self, connection: Connection, outcomes: Sequence[Outcome], lost: frozenset[int]
    ) -> None:
        """Who lost a claim because its path has other bytes by now may have put the old ones there late."""
        for outcome in outcomes:
            if isinstance(outcome, Finished) and outcome.claim.task_id in lost:
                was = {"paths": outcome.claim.paths, "written": outcome.claim.md5}
                owners = connection.execute(statements.OWNERS_OF, was).scalars().all()
                self.reopen(connection, owners, "written by a late worker")

    def _record(
        self,
        brief: Brief,
        worker_id: int,
        outcomes: Sequence[Outcome],
        held: Container[tuple[int, int]],
        now: int,
    ) -> frozenset[int]:
        """Record what became of claims; the tasks whose claim was lost.

        Nearly all go straight to done: those whose claim is still held are recorded together, fenced like every
        other. In a transaction that writes, nobody can take a claim between the look and the statement.
        """
        lost: set[int] = set()
        together: list[dict[str, Any]] = []
        for outcome in outcomes:
            key = (outcome.claim.task_id, outcome.claim.claim_no)
            if isinstance(outcome, Finished) and key in held and self._goes_straight(outcome):
                together.append(_finish(worker_id, outcome, now))
            elif not self._record_one(brief, worker_id, outcome, now):
                lost.add(outcome.claim.task_id)
        if together:
            brief.send_all(statements.FINISH, together)
        return frozenset(lost)

    def _goes_straight(self, outcome: Outcome) -> bool:
        """Whether nothing of a task but its row has to tell how it came to be done."""
        return isinstance(outcome, Finished) and outcome.claim.claim_no == 1 and not self._keep_all_history

    def _record_one(self, brief: Brief, worker_id: int, outcome: Outcome, now: int) -> bool:
        statement, _, to_state, reason = _as_statement(outcome)
        if brief.send(statement, _parameters(worker_id, outcome, now)) == 0:
            return False
        if not self._goes_straight(outcome):
            brief.send(statements.RECORD_FIRST_CLAIM, {"task": outcome.claim.task_id})
            self._keep(brief, worker_id, outcome.claim, (TaskState.IN_PROGRESS, to_state, reason), now)
        return True

    def _keep(
        self,
        brief: Brief,
        worker_id: int,
        claim: Claim,
        move: tuple[TaskState, TaskState, str],
        now: int,
    ) -> None:
        from_state, to_state, reason = move
        brief.send(
            statements.RECORD_TRANSITION,
            {
                "task": claim.task_id,
                "now": now,
                "new_from_state": from_state,
                "new_to_state": to_state,
                "worker": worker_id,
                "new_reason": reason,
            },
        )


def _held_by(brief: Brief, worker_id: int) -> frozenset[tuple[Any, ...]]:
    """Tasks and numbers of the claims that are still a worker's."""
    return frozenset(brief.fetch(statements.HELD_BY, {"worker": worker_id}))


def ends_among(outcomes: Iterable[Outcome], lost: Container[int] = ()) -> int:
    """How many outcomes bring a task to its end."""
    ends = (outcome for outcome in outcomes if isinstance(outcome, Finished | Failed))
    return sum(outcome.claim.task_id not in lost for outcome in ends)


def fair_share(claimable: int, want: int, share_among: int) -> int:
    """How many of the tasks at hand one of `share_among` workers may take.

    Parameters
    ----------
    claimable : int
        Counted no further than ``want * share_among * SHARES_LEFT``.

    Returns
    -------
    int
        `want` while there is plenty, less towards the end, at least 1.
    """
    shares = share_among * SHARES_LEFT if share_among > 1 else 1
    return max(1, min(want, claimable // shares))


def _finish(worker_id: int, outcome: Finished, now: int) -> dict[str, Any]:
    """The values of `statements.FINISH`."""
    return {
        "task": outcome.claim.task_id,
        "worker": worker_id,
        "claim": outcome.claim.claim_no,
        "new_size_bytes": outcome.size_bytes,
        "new_from_cache": int(outcome.from_cache),
        "new_http_status": outcome.http_status,
        "new_elapsed_us": outcome.elapsed_us,
        "attempts_more": outcome.attempts_more,
        "now": now,
    }


def _as_statement(outcome: Outcome) -> tuple[Any, dict[str, Any], TaskState, str]:
    """The statement that records an outcome, its values, the new state and the reason for the history."""
    match outcome:
        case Finished():
            values = {
                "new_size_bytes": outcome.size_bytes,
                "new_from_cache": int(outcome.from_cache),
            } | _effort(outcome)
            return statements.FINISH, values, TaskState.DONE, "finished"
        case Postponed():
            values = {"new_not_before": outcome.retry_at_us} | _trouble(outcome)
            return statements.POSTPONE, values, TaskState.PENDING, outcome.error_class
        case Failed():
            return statements.FAIL, _trouble(outcome), TaskState.FAILED, outcome.error_class
        case Released():
            return statements.RELEASE, {}, TaskState.PENDING, outcome.reason


def _parameters(worker_id: int, outcome: Outcome, now: int) -> dict[str, Any]:
    """Fence and values of the statement that records an outcome."""
    fence = {"task": outcome.claim.task_id, "worker": worker_id, "claim": outcome.claim.claim_no}
    return {**fence, **_as_statement(outcome)[1], "now": now}


def _effort(outcome: Finished | Postponed | Failed) -> dict[str, Any]:
    return {
        "new_http_status": outcome.http_status,
        "new_elapsed_us": outcome.elapsed_us,
        "attempts_more": outcome.attempts_more,
    }


def _trouble(outcome: Postponed | Failed) -> dict[str, Any]:
    return {"new_error_class": outcome.error_class, "new_error": outcome.error} | _effort(outcome)
