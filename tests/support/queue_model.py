"""What a ledger's queue should do, in plain dictionaries and without any SQL.

The model knows tasks by their md5 and says after each step what the ledger must hold. It also keeps the disk, since a
ledger that calls a task done makes a promise about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from midasdl.ceda.verdict import Verdict
from midasdl.ledger.outcomes import Claim, Failed, Finished, Outcome, Postponed, Released
from midasdl.models import ErrorClass
from midasdl.policy import WorkerPolicy, paths_to_try, retry_wait_s
from midasdl.politeness.backoff import Backoff

Move = tuple[int, str | None, str, str]
"""When, from, to, why."""

Line = tuple[str, str]
"""md5 and path."""

POLICY = WorkerPolicy(max_retries=2, backoff=Backoff(1.0, 300.0, 2.0, 0.0), workers=2)
TROUBLES = {
    "published": None,
    "slow": Verdict(ErrorClass.TIMEOUT, "no answer"),
    "wrong bytes": Verdict(ErrorClass.CHECKSUM, "wrong bytes"),
    "told to wait": Verdict(ErrorClass.THROTTLED, "slow down", 429, retry_after_s=3_600.0),
    "missing": Verdict(ErrorClass.NOT_FOUND, "it is not there", 404),
    "stopped": None,
}
"""What can become of a claim, and the verdict where it is one."""


@dataclass
class ModelTask:
    """One content to obtain."""

    md5: str
    moves: list[Move]
    claim_no: int = 0
    holder: int | None = None
    not_before: int = 0
    attempts: int = 0
    error_class: str | None = None

    @property
    def state(self) -> str:
        return self.moves[-1][2]

    def move(self, now: int, to: str, why: str) -> None:
        self.moves.append((now, self.state, to, why))
        self.holder = self.holder if to == "in_progress" else None

    def is_held_by(self, worker: int, claim_no: int) -> bool:
        return self.state == "in_progress" and (self.holder, self.claim_no) == (worker, claim_no)


@dataclass
class Loaded:
    """What a load should report."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    repeated: int = 0
    rejected: int = 0
    gone: int = 0


@dataclass
class QueueModel:
    """Tasks in the order in which they came, and the paths at which their bytes must be.

    Attributes
    ----------
    paths, disk : dict of str to str
        Path to md5: as it should be in the end, and as it is.
    ever : dict of str to set of str
        Each md5 that any manifest gave a path.
    """

    longest_wait_us: int
    tasks: dict[str, ModelTask] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    disk: dict[str, str] = field(default_factory=dict)
    ever: dict[str, set[str]] = field(default_factory=dict)

    # --- manifests

    def load(self, manifest: Sequence[Line], now: int) -> Loaded:
        """Merge a manifest: what is first said of a path holds, and no path is ever forgotten."""
        summary, said, before = Loaded(), dict[str, str](), dict(self.paths)
        for md5, path in manifest:
            if path in said:
                summary.repeated += said[path] == md5
                summary.rejected += said[path] != md5
            said.setdefault(path, md5)
        added = {path: md5 for path, md5 in said.items() if path not in before}
        changed = {path: md5 for path, md5 in said.items() if before.get(path, md5) != md5}
        for path, md5 in [*added.items(), *changed.items()]:
            self.ever.setdefault(path, set()).add(md5)
            self.tasks.setdefault(md5, ModelTask(md5, [(now, None, "pending", "loaded")]))
        losers = [before[path] for path in changed if self.tasks[before[path]].state == "in_progress"]
        self.paths |= {**added, **changed}
        self.reopen([*losers, *changed.values()], now, "destination changed")
        self.tasks = {md5: task for md5, task in self.tasks.items() if md5 in self.paths.values()}
        self.reopen(added.values(), now, "new destination")
        summary.added, summary.changed = len(added), len(changed)
        summary.unchanged = len(said) - len(added) - len(changed)
        summary.gone = len(before.keys() - said.keys())
        return summary

    # --- claims

    def claim(self, worker: int, want: int, share_among: int, now: int) -> list[tuple[str, int, int]]:
        """(md5, claim number, attempts) of the tasks that the worker must be given."""
        due = self.due(now)
        if not due and self.forget_impossible_waits(now):
            due = self.due(now)
        if want > 1:
            parts = 2 * share_among if share_among > 1 else 1
            want = max(1, min(want, len(due) // parts))
        given = []
        for task in due[:want]:
            task.claim_no += 1
            task.move(now, "in_progress", "claimed")
            task.holder = worker
            given.append((task.md5, task.claim_no, task.attempts))
        return given

    def due(self, now: int) -> list[ModelTask]:
        """What may be claimed: fresh tasks first, then those that have waited longest."""
        waiting = [task for task in self.tasks.values() if task.state == "pending" and task.not_before <= now]
        return sorted(waiting, key=lambda task: task.not_before)

    def forget_impossible_waits(self, now: int) -> bool:
        """A retry further ahead than any rule allows was set by a clock that went wrong."""
        wrong = [
            task
            for task in self.tasks.values()
            if task.state == "pending" and task.not_before > now + self.longest_wait_us
        ]
        for task in wrong:
            task.not_before = now
        return bool(wrong)

    def paths_of(self, md5: str) -> tuple[str, ...]:
        """Every path of a content, in the order in which they came."""
        return tuple(path for path, wanted in self.paths.items() if wanted == md5)

    @property
    def next_retry_at_us(self) -> int | None:
        return min((task.not_before for task in self.tasks.values() if task.state == "pending"), default=None)

    def is_live(self, worker: int, claim: Claim) -> bool:
        """Whether a claim is still what it was when it was given."""
        task = self.tasks.get(claim.md5)
        return task is not None and task.is_held_by(worker, claim.claim_no)

    # --- outcomes

    def settle(self, worker: int, outcomes: Iterable[Outcome], now: int) -> set[str]:
        """Record outcomes; the md5s of those whose claim is lost, of which nothing may be recorded."""
        lost = []
        for outcome in outcomes:
            if self.is_live(worker, outcome.claim):
                self.record(self.tasks[outcome.claim.md5], outcome, now)
            else:
                lost.append(outcome)
        for outcome in lost:
            if isinstance(outcome, Finished):
                now_owned = {self.paths[path] for path in outcome.claim.paths} - {outcome.claim.md5}
                self.reopen(now_owned, now, "written by a late worker")
        return {outcome.claim.md5 for outcome in lost}

    def record(self, task: ModelTask, outcome: Outcome, now: int) -> None:
        """Change a task as its holder says."""
        match outcome:
            case Finished():
                task.not_before, task.error_class = 0, None
                task.move(now, "done", "finished")
            case Failed():
                task.not_before, task.error_class = 0, str(outcome.error_class)
                task.move(now, "failed", str(outcome.error_class))
            case Postponed():
                task.not_before, task.error_class = outcome.retry_at_us, str(outcome.error_class)
                task.move(now, "pending", str(outcome.error_class))
            case Released():
                task.move(now, "pending", outcome.reason)
        task.attempts += getattr(outcome, "attempts_more", 0)

    def publish(self, claim: Claim) -> None:
        """Put a content at every path that the worker was told of, whoever they belong to by now."""
        self.disk |= dict.fromkeys(claim.paths, claim.md5)

    # --- putting back

    def reopen(self, md5s: Iterable[str], now: int, why: str) -> None:
        """What was known of the paths of done and claimed tasks no longer holds."""
        for md5 in dict.fromkeys(md5s):
            task = self.tasks[md5]
            if task.state in {"done", "in_progress"}:
                task.not_before = task.attempts = 0
                task.move(now, "pending", why)

    def take_back(self, workers: Iterable[int], now: int, why: str) -> int:
        """The claims of workers that are gone."""
        gone = set(workers)
        theirs = [task for task in self.tasks.values() if task.state == "in_progress" and task.holder in gone]
        for task in theirs:
            task.move(now, "pending", why)
        return len(theirs)

    def requeue(self, classes: Iterable[str], now: int) -> int:
        """Failures of some classes, with a fresh set of attempts."""
        wanted = set(classes)
        put_back = [
            task for task in self.tasks.values() if task.state == "failed" and task.error_class in wanted
        ]
        for task in put_back:
            task.not_before = task.attempts = 0
            task.move(now, "pending", "requeued")
        return len(put_back)


def judged(claim: Claim, trouble: str, now: int) -> Outcome:
    """The outcome that a worker makes of what happened to a claim, by the worker's own rules."""
    verdict = TROUBLES[trouble]
    if trouble == "stopped":
        return Released(claim, "stopped")
    if verdict is None:
        return Finished(claim, 10, from_cache=False, attempts_more=1)
    requests = len(paths_to_try(claim, POLICY.max_retries)) if trouble == "missing" else 1
    cost = requests - 1 + int(verdict.costs_an_attempt)
    wait_s = retry_wait_s(claim.attempts + cost, verdict, POLICY, lambda low, _: low)
    if wait_s is None:
        return Failed(claim, verdict.error_class, verdict.message, attempts_more=cost)
    return Postponed(claim, now + int(wait_s * 1e6), verdict.error_class, verdict.message, attempts_more=cost)
