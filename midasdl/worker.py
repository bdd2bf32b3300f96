"""One worker: claim, check, ask, fetch, publish, finish, and again.

`DownloadWorker.turn` does one round and can be called without any process; `midasdl.worker_process` runs it in
one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from midasdl.cache import CacheStore
from midasdl.ceda.client import Body, CedaClient, checksum_verdict
from midasdl.ceda.network import HELP
from midasdl.ceda.sign_in import licence_missing
from midasdl.ceda.verdict import Fate, FetchError, Verdict
from midasdl.clock import Clock
from midasdl.errors import ServerUnavailableError, StoppedError, StorageError
from midasdl.ledger.outcomes import Claim, Failed, Finished, Outcome, Postponed, Released, Settled
from midasdl.ledger.tasks import TaskQueue, ends_among
from midasdl.models import ErrorClass
from midasdl.policy import MOST_CLAIMS, ROUND_S, WorkerPolicy, paths_to_try, retry_wait_s, tasks_for_a_round
from midasdl.politeness.gate import Gate
from midasdl.progress.events import (
    CacheHit,
    DownloadAbandoned,
    DownloadCompleted,
    DownloadFailed,
    DownloadStarted,
    Event,
    FileQueued,
)
from midasdl.telling import TellingSink

FIRST_IDLE_NAP_S = 0.05
LONGEST_IDLE_NAP_S = 1.0
"""Who finds nothing to claim looks again after naps that grow: others may fail or die and give work back."""

STOPPING_PAUSE_S = 2.0
"""What stops every worker is heard from the coordinator within this; nobody needs to find it out by asking too."""

FORBIDDEN_S = 2.0
"""Who is forbidden a file, and knows of none that has come, tries others for so long: longer than workers keep what
they have finished to themselves."""

FORBIDDEN_NAP_S = 0.3
"""Meanwhile nobody is in a hurry."""

LOST = "the claim was lost"


class DownloadWorker:
    """Works through the queue of a ledger.

    Parameters
    ----------
    worker_id : int
    queue : TaskQueue
    store : CacheStore
    client : CedaClient
    gate : Gate
    policy : WorkerPolicy
    send : callable
        Takes progress events; never blocks, never fails.
    uniform : callable
        Source of randomness, such as `random.uniform`.
    doze : callable, optional
        Sleeps while there is nothing to do, until somebody has a reason to look again; as `Clock.wait`, which it is
        without it.

    Attributes
    ----------
    nothing_left : bool
        Whether the last round found the queue empty for good.

    Notes
    -----
    Crash safety: what is published and not yet recorded is found by the next check of whoever claims it then.
    """

    def __init__(
        self,
        worker_id: int,
        queue: TaskQueue,
        store: CacheStore,
        client: CedaClient,
        gate: Gate,
        policy: WorkerPolicy,
        clock: Clock,
        send: Callable[[Event], None],
        uniform: Callable[[float, float], float],
        *,
        doze: Callable[[float], bool] | None = None,
    ) -> None:
        self._worker_id = worker_id
        self._queue = queue
        self._store = store
        self._client = client
        self._gate = gate
        self._policy = policy
        self._clock = clock
        self._send = send
        self._uniform = uniform
        self._doze = doze or clock.wait
        self._claims: deque[Claim] = deque()
        self._outcomes: list[Outcome] = []
        self._absent: set[int] = set()
        self.nothing_left = False
        self._want = 1
        self._ended = 0
        self._files_come = False
        self._forbidden_since_s: float | None = None
        self._idle_nap_s = FIRST_IDLE_NAP_S

    def follow(self, policy: WorkerPolicy) -> None:
        """Decide by another policy from the next task on; may be called from any thread."""
        self._policy = policy

    def run(self) -> None:
        """Work until nothing is left or the worker is asked to stop; then give every claim back.

        Raises
        ------
        AuthenticationError, StorageError, ServerUnavailableError, LedgerError
            Trouble that no other file would escape; all claims have been given back.
        """
        try:
            while self.turn():
                pass
        except StoppedError:
            pass
        finally:
            self.give_back()

    def turn(self) -> bool:
        """One round: record what is finished, claim if nothing is held, and work for about a second.

        Returns
        -------
        bool
            Whether another round makes sense.
        """
        settled = self._settle(want=0 if self._claims else min(self._want, self.quota_left))
        self._claims.extend(settled.claims)
        if settled.claims:
            self._send(FileQueued(len(settled.claims)))
        self.nothing_left = settled.nothing_left and not self._claims
        if not self._claims:
            return not self.nothing_left and not self._idle(settled)
        self._idle_nap_s = FIRST_IDLE_NAP_S
        self._store.look_around()
        started_s = self._clock.monotonic()
        worked = self._look_ahead(started_s)
        while self._claims and self._clock.monotonic() - started_s < ROUND_S:
            outcome = self._work(self._claims[0])
            self._outcomes.append(outcome)
            self._absent.discard(self._claims.popleft().task_id)
            worked += 1
        self._want = tasks_for_a_round(worked, self._clock.monotonic() - started_s)
        return not self._clock.wait(0)

    @property
    def quota_left(self) -> int:
        """How many more tasks this worker may bring to an end."""
        if self._policy.quota is None:
            return MOST_CLAIMS
        return self._policy.quota - self._ended - ends_among(self._outcomes)

    def record(self) -> None:
        """Record what is finished without claiming more, as before a long wait."""
        if self._outcomes:
            self._settle(want=0)

    def give_back(self) -> None:
        """Record what is finished and release what is not."""
        for claim in self._claims:
            self._outcomes.append(Released(claim, "stopped"))
            self._send(DownloadAbandoned(claim.task_id, "stopped"))
        self._claims.clear()
        self._absent.clear()
        try:
            self.record()
        except StorageError:
            self._record_outcomes(want=0)

    def _settle(self, want: int) -> Settled:
        """Folders first: a task is done only when its names are durable too.

        Where that fails once, the system may call it well the next time, and nobody knows: nothing is done then.
        """
        try:
            self._store.sync_folders()
        except StorageError:
            self._outcomes = [undone(outcome) for outcome in self._outcomes]
            raise
        return self._record_outcomes(want)

    def _record_outcomes(self, want: int) -> Settled:
        responses = self._gate.tally.counted()
        settled = self._queue.settle(
            self._worker_id,
            self._outcomes,
            want=want,
            share_among=self._policy.workers,
            responses=responses,
        )
        self._ended += ends_among(self._outcomes, settled.lost)
        self._outcomes = []
        self._gate.tally.forget(responses)
        for task_id in settled.lost:
            self._send(DownloadAbandoned(task_id, LOST))
        return settled

    def _idle(self, settled: Settled) -> bool:
        """Nothing can be claimed now: wait for a retry to fall due or for others; True if asked to stop."""
        nap_s = self._idle_nap_s
        if settled.next_retry_at_us is not None:
            due_s = (settled.next_retry_at_us - self._clock.now_us()) / 1e6
            nap_s = min(max(due_s, 0.01), LONGEST_IDLE_NAP_S)
        self._idle_nap_s = min(self._idle_nap_s * 2, LONGEST_IDLE_NAP_S)
        return self._doze(nap_s)

    def _look_ahead(self, started_s: float) -> int:
        """Finish what is on disk already, so that it waits behind no request, and make room for the rest.

        Returns
        -------
        int
            How many tasks were finished.
        """
        finished = 0
        self._absent.update(
            claim.task_id for claim in self._claims if self._store.has_no_folder_of(claim.paths)
        )
        for claim in list(self._claims)[: self._policy.look_ahead]:
            if self._clock.monotonic() - started_s >= ROUND_S:
                break
            outcome = None if claim.task_id in self._absent else self._take_from_disk(claim)
            if outcome is None:
                self._absent.add(claim.task_id)
                continue
            self._outcomes.append(outcome)
            self._claims.remove(claim)
            finished += 1
        self._store.make_folders_of([claim.paths[0] for claim in self._claims])
        return finished

    def _work(self, claim: Claim) -> Outcome:
        """Bring one task to an outcome; what stops every task is raised."""
        found = None if claim.task_id in self._absent else self._take_from_disk(claim)
        return self._download(claim) if found is None else found

    def _take_from_disk(self, claim: Claim) -> Outcome | None:
        """What comes of a task whose bytes are at one of its paths already; None where they are not."""
        checked = self._store.check(claim.paths, claim.md5, self._size_to_trust(claim))
        if checked.size_bytes is None:
            return None
        if checked.missing and not self._queue.holds(self._worker_id, claim):
            return Released(claim, LOST)
        self._store.complete(checked)
        self._send(CacheHit(claim.task_id, claim.paths[0], checked.size_bytes, len(claim.paths)))
        return Finished(claim, checked.size_bytes, from_cache=True)

    def _size_to_trust(self, claim: Claim) -> int | None:
        """The size by which the first path is believed; None where its bytes are read."""
        share = self._policy.reread
        if claim.size_once is None or share >= 1 or self._uniform(0.0, 1.0) < share:
            return None
        return claim.size_once

    def _download(self, claim: Claim) -> Outcome:
        self._send(DownloadStarted(claim.task_id, claim.paths[0]))
        started_s = self._clock.monotonic()
        requests, result = self._try_paths(claim)
        elapsed_us = int((self._clock.monotonic() - started_s) * 1e6)
        if result is None:
            return Released(claim, LOST)
        if isinstance(result, Verdict):
            if result.error_class is ErrorClass.FORBIDDEN and not self._has_any_file_come():
                return self._after_locked_door(claim, result, requests, elapsed_us)
            return self._after(claim, result, requests, elapsed_us)
        self._files_come = True
        self._send(
            DownloadCompleted(claim.task_id, claim.paths[0], result.size_bytes, elapsed_us, len(claim.paths))
        )
        return Finished(
            claim,
            result.size_bytes,
            from_cache=False,
            http_status=result.http_status,
            elapsed_us=elapsed_us,
            attempts_more=requests,
        )

    def _try_paths(self, claim: Claim) -> tuple[int, Body | Verdict | None]:
        """Fetch from one of the task's paths, or from the next where it is missing; the requests that it took."""
        for requests, path in enumerate(paths_to_try(claim, self._policy.max_retries), start=1):
            try:
                return requests, self._fetch_and_publish(claim, path)
            except FetchError as error:
                verdict = error.verdict
            if verdict.error_class is not ErrorClass.NOT_FOUND:
                break
        return requests, verdict

    def _fetch_and_publish(self, claim: Claim, path: str) -> Body | None:
        """One attempt; None where the claim was lost meanwhile: its paths may have got other bytes since."""
        self._store.require_room(claim.paths[0])
        with self._store.incoming(claim.md5, path) as incoming:
            telling = TellingSink(incoming, claim.task_id, self._send, self._clock)
            body = self._client.fetch(path, telling)
            if body.md5 != claim.md5:
                incoming.drop()
                raise FetchError(checksum_verdict(body, claim.md5, path))
            if not self._queue.holds(self._worker_id, claim):
                return None
            self._store.publish(incoming.whole(body.content), claim.paths, body.last_modified_s)
            return body

    def _after(self, claim: Claim, verdict: Verdict, requests: int, elapsed_us: int) -> Outcome:
        """Turn a verdict into an outcome, and let everybody wait if the server asked for it."""
        if verdict.fate is Fate.STOP:
            until_us = self._clock.now_us() + int(STOPPING_PAUSE_S * 1e6)
            self._gate.pause(self._client.host, until_us, verdict.message)
            raise ServerUnavailableError(f"{verdict.message}.", HELP.get(verdict.error_class))
        now_us = self._clock.now_us()
        cost = requests - 1 + int(verdict.costs_an_attempt and not self._is_outage(verdict))
        wait_s = retry_wait_s(claim.attempts + cost, verdict, self._policy, self._uniform)
        self._send(
            DownloadFailed(
                claim.task_id,
                claim.paths[0],
                verdict.error_class,
                verdict.message,
                wait_s is not None,
                len(claim.paths),
            )
        )
        facts = (verdict.error_class, verdict.message, verdict.http_status, elapsed_us, cost)
        if wait_s is None:
            return Failed(claim, *facts)
        return Postponed(claim, now_us + int(wait_s * 1e6), *facts)

    def _has_any_file_come(self) -> bool:
        """Whether CEDA has given this run any file, as far as its workers have recorded it."""
        self._files_come = self._files_come or self._queue.has_fetched(self._worker_id)
        return self._files_come

    def _after_locked_door(self, claim: Claim, verdict: Verdict, requests: int, elapsed_us: int) -> Outcome:
        """A licence may be missing for this file or for all: try others, and stop the run if none has come then.

        Where files have come in earlier runs and all that is left is forbidden, it is for these alone.

        Raises
        ------
        AuthenticationError
            No file has come in this run; the task is as it was.
        """
        now_s = self._clock.monotonic()
        self._forbidden_since_s = self._forbidden_since_s or now_s
        if now_s - self._forbidden_since_s >= FORBIDDEN_S:
            if self._queue.is_only_forbidden_left():
                return self._after(claim, verdict, requests, elapsed_us)
            raise licence_missing(verdict, "midasdl resume")
        self._send(
            DownloadFailed(
                claim.task_id, claim.paths[0], verdict.error_class, verdict.message, will_retry=True
            )
        )
        self._clock.wait(FORBIDDEN_NAP_S)
        retry_at_us = self._clock.now_us() + int(FORBIDDEN_S * 1e6)
        return Postponed(
            claim,
            retry_at_us,
            verdict.error_class,
            verdict.message,
            verdict.http_status,
            attempts_more=0,
        )

    def _is_outage(self, verdict: Verdict) -> bool:
        """A server that cannot be reached at all is no fault of the file."""
        return verdict.error_class is ErrorClass.CONNECTION and self._gate.is_down(self._client.host)


def undone(outcome: Outcome) -> Outcome:
    """What remains of an outcome when nothing more can be made durable: the next check finds what is there."""
    return Released(outcome.claim, "stopped") if isinstance(outcome, Finished) else outcome
