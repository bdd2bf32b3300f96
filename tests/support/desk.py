"""One worker on its desk: a real ledger, a real store and the simulator, but no process."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from midasdl.cache import CacheStore
from midasdl.ceda.connect import CedaAccess, connect
from midasdl.identity import ProcessIdentity
from midasdl.ledger import schema
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.runs import RunRegistry
from midasdl.ledger.tasks import TaskQueue
from midasdl.policy import WorkerPolicy
from midasdl.politeness.backoff import Backoff
from midasdl.politeness.gate import Gate
from midasdl.politeness.limiter import Limits
from midasdl.progress.events import Event
from midasdl.simulator import Simulator
from midasdl.worker import DownloadWorker
from tests.support.access import LOGIN, asked, settings_for
from tests.support.clock import FakeClock

MAX_RETRIES = 3
FILES = {f"data/{name}.csv": f"Conventions,G,BADC-CSV,1\n{name}\n".encode() for name in "abcde"}
TWIN = "data/twin-of-a.csv"


def md5(path: str) -> str:
    return hashlib.md5(FILES["data/a.csv" if path == TWIN else path]).hexdigest()


def line(path: str) -> str:
    return f"{md5(path)}  ./{path}"


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    root = tmp_path / "archive"
    for path, contents in {**FILES, TWIN: FILES["data/a.csv"]}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(contents)
    with Simulator(root) as running:
        yield running


class Desk:
    """One worker with all that it needs; the clock moves only when it waits."""

    def __init__(
        self, ledger: Ledger, clock: FakeClock, simulator: Simulator, folder: Path, **patience: Any
    ) -> None:
        self.ledger, self.clock, self.simulator = ledger, clock, simulator
        self.root = folder / "midas-open"
        self.events: list[Event] = []
        self.worker_id = RunRegistry(ledger).register(None, "worker", "w", ProcessIdentity.current())
        self.gate = Gate(ledger, self.worker_id, Limits(0, 4), random.uniform)
        self.access: CedaAccess = connect(
            settings_for(simulator, folder, silence_s=0.5, **patience), LOGIN, self.gate, clock
        )
        self.queue = TaskQueue(ledger)
        self.use_store("hardlink")
        self.store.prepare()

    def use_store(self, duplicates: str, min_free_bytes: int = 0) -> None:
        """Give the task to a worker that knows nothing yet of the disk, with another way of duplicates."""
        self.store = CacheStore(self.root, duplicates, min_free_bytes)
        policy = WorkerPolicy(MAX_RETRIES, Backoff(1.0, 300.0, 2.0, 0.0), 1)
        parts: list[Any] = [self.worker_id, self.queue, self.store, self.access.client, self.gate]
        self.worker = DownloadWorker(*parts, policy, self.clock, self.events.append, random.uniform)

    def close(self) -> None:
        self.access.close()

    def tasks(self) -> dict[str, Any]:
        """The row of each task, by its first path."""
        both = schema.task.join(schema.destination, schema.destination.c.task_id == schema.task.c.id)
        query = select(schema.destination.c.path, schema.task).select_from(both)
        with self.ledger.read() as connection:
            return {row.path: row for row in connection.execute(query)}

    def states(self) -> set[str]:
        return {row.state for row in self.tasks().values()}

    def gets(self) -> list[str]:
        return [
            path.removeprefix("/badc/ukmo-midas-open/") for _, path, _ in asked(self.simulator, "download")
        ]

    def said(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def desk(ledger: Ledger, clock: FakeClock, simulator: Simulator, tmp_path: Path) -> Iterator[Desk]:
    with closing(Desk(ledger, clock, simulator, tmp_path)) as opened:
        yield opened


def fill_claims(desk: Desk, count: int) -> None:
    """Let the worker hold several claims, as after a quick round."""
    desk.worker._want = count
    desk.worker._claims.extend(desk.queue.settle(desk.worker_id, [], want=count).claims)
    assert len(desk.worker._claims) == count
