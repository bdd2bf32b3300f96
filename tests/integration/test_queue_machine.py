"""Promises about the queue under anything that can happen to it, in any order (I1 to I4, L1 to L3, L5, M5, M7, W3).

Hypothesis does random things to a ledger and to a model of plain dictionaries, and compares them after each step.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from midasdl.identity import ProcessIdentity
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.load import ManifestLoader
from midasdl.ledger.outcomes import Claim, Finished, Outcome
from midasdl.ledger.overview import Overview
from midasdl.ledger.runs import LEASE_S, Recovered, RunRegistry
from midasdl.ledger.tasks import LONGEST_WAIT_US, TaskQueue
from midasdl.ledger.totals import Totals, progress_rows
from midasdl.manifest import ManifestParser
from midasdl.models import ErrorClass
from midasdl.selection import Selection
from tests.support.clock import FakeClock
from tests.support.queue_model import POLICY, TROUBLES, QueueModel, judged

HERE, ELSEWHERE = "here", "elsewhere"
MD5S = st.sampled_from([letter * 32 for letter in "abcd"])
MANIFESTS = st.lists(st.tuples(MD5S, st.sampled_from("pqrstuv")), min_size=1, max_size=5)
WHICH = st.integers(0, 5)
ROUNDS = st.lists(
    st.tuples(
        WHICH,
        st.lists(st.sampled_from(list(TROUBLES)), max_size=3),
        st.sampled_from([2, 1, 3, 4, 0]),
        st.integers(1, 3),
    ),
    min_size=2,
    max_size=4,
)
"""Which worker, what becomes of what it holds, how many tasks it wants, and among how many they are shared."""


@dataclass
class Process:
    """A worker: what it is, and what it believes that it holds."""

    number: int
    identity: ProcessIdentity
    lease_until: int
    queue: TaskQueue
    state: str = "alive"
    runs: bool = True
    held: list[Claim] = field(default_factory=list)
    published: list[Claim] = field(default_factory=list)


class QueueMachine(RuleBasedStateMachine):
    """Two runs on one ledger, their workers, the disk, and the things that happen to them."""

    def __init__(self, template: Path, places: Iterator[Path]) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.model = QueueModel(LONGEST_WAIT_US)
        path = shutil.copy(template, next(places))
        self.ledgers = [Ledger.open(path, self.clock) for _ in range(2)]
        self.registry = RunRegistry(self.ledgers[0])
        self.workers: list[Process] = []
        self.given: list[tuple[int, Claim]] = []
        self.unreported: set[str] = set()
        self.loads = 0
        self.trimmed = False
        self.pids: dict[int, str] = {}
        self.starts = count(1)
        self.world = [
            patch("midasdl.identity.start_mark", self.pids.get),
            patch("midasdl.identity.host_name", lambda: HERE),
        ]
        for each in self.world:
            each.start()

    # --- what happens

    @initialize(keep_all=st.tuples(st.booleans(), st.booleans()))
    def begin(self, keep_all: tuple[bool, bool]) -> None:
        self.queues = [
            TaskQueue(ledger, keep_all_history=keep)
            for ledger, keep in zip(self.ledgers, keep_all, strict=True)
        ]
        self.load([(letter * 32, path) for letter, path in zip("abc", "pqr", strict=True)])
        for run in range(2):
            self.start_worker(HERE, run)

    @precondition(lambda self: self.loads < 5)
    @rule(manifest=MANIFESTS)
    def load(self, manifest: list[tuple[str, str]]) -> None:
        self.loads += 1
        expected = self.model.load(manifest, self.clock.now_us())
        with self.ledgers[0].write() as connection:
            lines = [f"{md5}  {path}\n".encode() for md5, path in manifest]
            loader = ManifestLoader(self.ledgers[0], "m", Selection())
            summary = loader.load(connection, ManifestParser(lines))
        assert {name: getattr(summary, name) for name in vars(expected)} == vars(expected)
        Overview(self.ledgers[0]).require_that_all_adds_up()

    @precondition(lambda self: self.loads < 8)
    @rule(which=WHICH)
    def load_another_path(self, which: int) -> None:
        """Of a content that is there, in whatever state."""
        md5s = list(self.model.tasks)
        self.load([(md5s[which % len(md5s)], f"new/{self.loads}")])

    @precondition(lambda self: len(self.alive) < 3)
    @rule(host=st.sampled_from([HERE, HERE, ELSEWHERE]), run=st.integers(0, 1))
    def start_worker(self, host: str, run: int) -> None:
        """Numbers of processes are used again, as the system does."""
        pid = next(number for number in count(100) if host == ELSEWHERE or number not in self.pids)
        identity = ProcessIdentity(host, pid, f"start {next(self.starts)}")
        if host == HERE:
            self.pids[pid] = identity.started
        number = self.registry.register(None, "worker", "w", identity)
        self.workers.append(Process(number, identity, self.lease_from_now(), self.queues[run]))

    @precondition(lambda self: self.alive)
    @rule(rounds=ROUNDS)
    def work(self, rounds: list[tuple[int, list[str], int, int]]) -> None:
        """A worker that lost a claim does not know it and goes on as if it had it."""
        for which, troubles, want, share_among in rounds:
            worker = self.one_of(self.alive, which)
            pairs = zip(worker.held, troubles, strict=False)
            outcomes = [self.outcome(worker, claim, name) for claim, name in pairs]
            worker.held = worker.held[len(outcomes) :]
            self.settle(worker, outcomes, want, share_among)

    @precondition(lambda self: self.holders)
    @rule(which=WHICH, outcome=st.sampled_from([*TROUBLES, "not yet", "not yet"]))
    def work_on_one(self, which: int, outcome: str) -> None:
        """Its bytes may be on disk for some time before that is recorded."""
        worker = self.one_of(self.holders, which)
        claim = worker.held[0]
        if outcome == "not yet":
            self.put_on_disk(worker, claim)
        else:
            del worker.held[0]
            self.settle(worker, [self.outcome(worker, claim, outcome)], 0)

    @precondition(lambda self: self.given)
    @rule(trouble=st.sampled_from(list(TROUBLES)))
    def write_without_a_claim(self, trouble: str) -> None:
        """Whoever writes with a claim that is not his, or no longer, or with another number, changes nothing."""
        for holder, claim in self.given[-6:]:
            for worker, number in ((holder, 0), (holder + 1, 0), (holder, -1), (holder, 1)):
                forged = claim._replace(claim_no=claim.claim_no + number)
                if not self.model.is_live(worker, forged):
                    self.write_in_vain(worker, judged(forged, trouble, self.clock.now_us()))

    @rule(
        seconds=st.sampled_from([0.000001, 1.0, 60.0, LEASE_S - 1, LEASE_S + 1, 3_600.0]),
        jump=st.sampled_from([0.0, 0.0, 0.0, -60.0, -172_800.0, 172_800.0]),
        vouching=st.sampled_from([None, 0, 1]),
    )
    def time_passes(self, seconds: float, jump: float, vouching: int | None) -> None:
        """Somebody may set the clock meanwhile; then the coordinator of one run renews its leases."""
        self.clock.advance(seconds)
        self.clock.jump(jump)
        beating = [worker for worker in self.alive if vouching == self.queues.index(worker.queue)]
        assert self.registry.beat([worker.number for worker in beating]) == len(beating)
        for worker in beating:
            worker.lease_until, worker.state = self.lease_from_now(), "alive"

    @precondition(lambda self: self.alive)
    @rule(which=WHICH, seen=st.sampled_from([None, "dead", "stopped"]))
    def end_a_worker(self, which: int, seen: str | None) -> None:
        """Killed with its coordinator, or before the eyes of it, which takes back at once."""
        worker = self.one_of(self.alive, which)
        self.end(worker)
        if seen is not None:
            expected = self.retired([worker], seen)
            assert self.registry.retire([worker.number], dead=seen == "dead") == expected

    @precondition(lambda self: self.gone)
    @rule()
    def recover(self) -> None:
        assert self.registry.recover() == self.retired(self.gone, "dead")

    @precondition(lambda self: any(task.state == "failed" for task in self.model.tasks.values()))
    @rule(classes=st.lists(st.sampled_from([ErrorClass.TIMEOUT, ErrorClass.CHECKSUM, ErrorClass.NOT_FOUND])))
    def retry(self, classes: list[ErrorClass]) -> None:
        expected = self.model.requeue(map(str, classes), self.clock.now_us())
        assert self.queues[1].requeue(classes) == expected

    @precondition(lambda self: self.given)
    @rule(keep=st.integers(0, 6))
    def trim(self, keep: int) -> None:
        self.queues[0].trim_history(keep)
        self.trimmed = True

    # --- what must be true after each step

    @invariant()
    def the_ledger_holds_what_the_model_holds(self) -> None:
        """I3, I4, L1: states, claims, waits, attempts and paths; nothing lost, nothing made up."""
        columns = "md5, state, claim_no, not_before, attempts, iif(state = 'in_progress', worker_id, NULL)"
        assert self.query(f"SELECT {columns} FROM task ORDER BY id") == [
            (task.md5, task.state, task.claim_no, task.not_before, task.attempts, task.holder)
            for task in self.model.tasks.values()
        ]
        paths = self.query("SELECT path, md5 FROM destination JOIN task ON task.id = task_id")
        assert dict(paths) == self.model.paths

    @invariant()
    def every_way_is_a_chain(self) -> None:
        """L1: each move begins where the one before ended, as far back as the history was kept."""
        ways: dict[str, list[Any]] = {md5: [] for md5 in self.model.tasks}
        query = "SELECT md5, at_us, from_state, to_state, reason FROM history JOIN task ON task.id = task_id"
        for md5, *move in self.query(f"{query} ORDER BY task_id, seq"):
            ways[md5].append(tuple(move))
        for task in self.model.tasks.values():
            first, *others = ways[task.md5]
            assert first == task.moves[0]
            assert others == task.moves[len(task.moves) - len(others) :]
            assert self.trimmed or len(others) == len(task.moves) - 1

    @invariant()
    def no_task_costs_more_requests_than_it_may(self) -> None:
        """C8: whatever happens in between."""
        assert all(task.attempts <= 1 + POLICY.max_retries for task in self.model.tasks.values())

    @invariant()
    def what_is_done_is_there(self) -> None:
        """I1, I2: done means done at every path, unless somebody has just written late and has yet to say so."""
        assert all(md5 in self.model.ever[path] for path, md5 in self.model.disk.items())
        late = {path for worker in self.alive for claim in worker.published for path in claim.paths}
        for path, md5 in self.model.paths.items():
            if self.model.tasks[md5].state == "done" and path not in late | self.unreported:
                assert self.model.disk[path] == md5

    # --- the end

    def teardown(self) -> None:
        try:
            if hasattr(self, "queues"):
                self.work_off_what_is_left()
        finally:
            for each in self.world:
                each.stop()
            for ledger in self.ledgers:
                ledger.close()

    def work_off_what_is_left(self) -> None:
        """L4, L5, I7: after everybody has died, one worker that starts anew brings every task to its end."""
        for worker in self.alive:
            self.end(worker)
        last_lease = max(worker.lease_until for worker in self.workers)
        self.clock.advance(max(0, last_lease - self.clock.now_us()) / 1e6 + 1)
        self.recover()
        self.start_worker(HERE, run=1)
        worker = self.workers[-1]
        for _ in range(4 * len(self.model.tasks) + 4):
            settled = self.settle(worker, [self.outcome(worker, each, "published") for each in worker.held])
            if settled.nothing_left:
                break
            if settled.next_retry_at_us is not None:
                self.clock.advance(max(0, settled.next_retry_at_us - self.clock.now_us()) / 1e6 + 0.000001)
        assert settled.nothing_left
        assert {task.state for task in self.model.tasks.values()} <= {"done", "failed"}
        self.the_ledger_holds_what_the_model_holds()
        self.what_is_done_is_there()
        Overview(self.ledgers[0]).require_that_all_adds_up()

    @invariant()
    def the_sums_are_what_a_count_finds(self) -> None:
        """I4: whatever has changed a task or its paths, by file, dataset, kind and state."""
        assert Totals(self.ledgers[0]).disagreement() is None
        with self.ledgers[0].read() as connection:
            counted = connection.exec_driver_sql("SELECT dataset, state, files, tasks FROM progress").all()
            assert [row[:4] for row in progress_rows(connection)] == [tuple(row) for row in counted]

    # --- helpers

    @property
    def alive(self) -> list[Process]:
        return [worker for worker in self.workers if worker.runs]

    @property
    def holders(self) -> list[Process]:
        return [worker for worker in self.alive if worker.held]

    @property
    def gone(self) -> list[Process]:
        """Whose claims may be taken back."""
        now = self.clock.now_us()
        holding = {task.holder for task in self.model.tasks.values()}
        return [
            worker
            for worker in self.workers
            if (worker.state == "alive" or worker.number in holding)
            and (worker.lease_until < now or (worker.identity.host == HERE and not worker.runs))
        ]

    def one_of(self, workers: list[Process], which: int) -> Process:
        return workers[which % len(workers)]

    def lease_from_now(self) -> int:
        return self.clock.now_us() + int(LEASE_S * 1e6)

    def settle(
        self, worker: Process, outcomes: Sequence[Outcome], want: int = 4, share_among: int = 1
    ) -> Any:
        now = self.clock.now_us()
        lost = self.model.settle(worker.number, outcomes, now)
        settled = worker.queue.settle(worker.number, outcomes, want=want, share_among=share_among)
        assert settled.lost == {each.claim.task_id for each in outcomes if each.claim.md5 in lost}
        worker.published = [
            each for each in worker.published if each not in [outcome.claim for outcome in outcomes]
        ]
        if want == 0:
            return settled
        expected = self.model.claim(worker.number, want, share_among, now)
        given = [(claim.md5, claim.claim_no, claim.attempts) for claim in settled.claims]
        assert given == expected
        assert all(claim.paths == self.model.paths_of(claim.md5) for claim in settled.claims)
        if not given:
            busy = any(task.state == "in_progress" for task in self.model.tasks.values())
            assert (settled.next_retry_at_us, settled.others_busy) == (self.model.next_retry_at_us, busy)
        worker.held = [*worker.held, *settled.claims]
        self.given += [(worker.number, claim) for claim in settled.claims]
        return settled

    def write_in_vain(self, worker: int, outcome: Outcome) -> None:
        before = self.facts()
        assert self.model.settle(worker, [outcome], self.clock.now_us()) == {outcome.claim.md5}
        assert self.queues[0].settle(worker, [outcome], want=0).lost == {outcome.claim.task_id}
        assert isinstance(outcome, Finished) or self.facts() == before

    def outcome(self, worker: Process, claim: Claim, trouble: str) -> Outcome:
        """What becomes of a claim; whose bytes are on disk already, that is finished."""
        if claim in worker.published:
            trouble = "published"
        elif trouble == "published":
            self.put_on_disk(worker, claim)
        return judged(claim, trouble, self.clock.now_us())

    def put_on_disk(self, worker: Process, claim: Claim) -> None:
        self.model.publish(claim)
        worker.published.append(claim)
        self.unreported -= set(claim.paths)

    def end(self, worker: Process) -> None:
        """A process is gone; what it wrote late over other bytes, nobody will ever report."""
        worker.runs = False
        if worker.identity.host == HERE:
            del self.pids[worker.identity.pid]
        written = {path for claim in worker.published for path in claim.paths}
        self.unreported |= {path for path in written if self.model.disk[path] != self.model.paths[path]}

    def retired(self, workers: Sequence[Process], state: str) -> Recovered:
        """What the model says comes back from workers that are gone."""
        why = "worker died" if state == "dead" else "stopped"
        tasks = self.model.take_back([worker.number for worker in workers], self.clock.now_us(), why)
        were_alive = [worker for worker in workers if worker.state == "alive"]
        for worker in were_alive:
            worker.state = state
        return Recovered(len(were_alive), tasks, 0)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self.ledgers[1].read() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql)]

    def facts(self) -> list[list[tuple[Any, ...]]]:
        return [self.query(f"SELECT * FROM {table}") for table in ("task", "destination", "transition")]


@pytest.mark.parametrize(
    "examples",
    [
        pytest.param(40, id="short"),
        pytest.param(4_000, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(3_600)]),
    ],
)
def test_whatever_happens_in_whatever_order_the_queue_keeps_its_promises(
    tmp_path_factory: pytest.TempPathFactory, examples: int
) -> None:
    """I1, I2, I3, I4, L1, L2, L3, L5, M5, M7, W3: claims, fences, sums and history, against plain dictionaries."""
    folder = tmp_path_factory.mktemp("queue")
    template = folder / "template.db"
    Ledger.create(template).close()
    places = (folder / f"{number}.db" for number in count())
    run_state_machine_as_test(
        lambda: QueueMachine(template, places),
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
