"""What the ledger tells whoever brings files from elsewhere: whether they are wanted, and still have to come."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import NamedTuple, Self

from midasdl.ledger import verify_statements
from midasdl.ledger.ledger import Ledger
from midasdl.models import TaskState

BATCH = 10_000

NAMES = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32000;
CREATE TABLE name (name TEXT, destination_id INTEGER, PRIMARY KEY (name, destination_id)) WITHOUT ROWID;
"""
"""Lost with the command; 32 MB of it are in memory at most."""


class Standing(NamedTuple):
    """Where a destination stands."""

    path: str
    state: TaskState


class Unfetched(NamedTuple):
    """A task whose bytes are not here yet, with every path of it."""

    task_id: int
    paths: tuple[str, ...]


class Names:
    """The file names of all destinations, in a private database that ends with the block; memory stays flat."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __enter__(self) -> Self:
        # an unnamed database would do, but some builds of SQLite keep those in memory whatever they are told
        self._folder = TemporaryDirectory(prefix="midasdl-")
        self._database = self._ledger.library.module.connect(Path(self._folder.name) / "names.db")
        self._database.executescript(NAMES)
        with self._ledger.read() as connection:
            for rows in connection.execute(verify_statements.ALL_PATHS).partitions(BATCH):
                names = ((path.rpartition("/")[2], number) for number, path in rows)
                self._database.executemany("INSERT INTO name VALUES (?, ?)", names)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
        self._folder.cleanup()

    def known(self, names: Collection[str]) -> dict[str, int | None]:
        """The names among these that destinations have: the number of the only one, None where several have it."""
        marks = ", ".join("?" * len(names))
        query = f"SELECT name, min(destination_id), count(*) FROM name WHERE name IN ({marks}) GROUP BY name"
        rows = self._database.execute(query, list(names))
        return {name: number if count == 1 else None for name, number, count in rows}


class Adoption:
    """Questions about tasks that files from elsewhere may finish."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def standing(self, destinations: Collection[int]) -> dict[int, Standing]:
        """Where some destinations stand, by their numbers."""
        with self._ledger.read() as connection:
            rows = connection.execute(verify_statements.STANDING, {"destinations": list(destinations)})
            return {number: Standing(path, TaskState(state)) for number, path, state in rows}

    def tasks_of(self, md5s: Collection[str]) -> dict[str, tuple[int, TaskState]]:
        """Number and state of the tasks that want some contents."""
        with self._ledger.read() as connection:
            rows = connection.execute(verify_statements.TASKS_OF, {"md5s": list(md5s)})
            return {md5: (number, TaskState(state)) for number, md5, state in rows}

    def unfetched(self, how_many: int) -> Iterator[list[Unfetched]]:
        """Every task that is neither done nor claimed, some at a time."""
        after = 0
        while tasks := self._next_unfetched(after, how_many):
            yield tasks
            after = tasks[-1].task_id

    def count_unfetched(self) -> int:
        """How many tasks `unfetched` would yield now."""
        with self._ledger.read() as connection:
            return int(connection.execute(verify_statements.COUNT_UNFETCHED).scalar_one())

    def _next_unfetched(self, after: int, how_many: int) -> list[Unfetched]:
        with self._ledger.read() as connection:
            numbers = connection.execute(
                verify_statements.UNFETCHED_AFTER, {"after": after, "how_many": how_many}
            )
            paths: dict[int, list[str]] = {number: [] for number in numbers.scalars()}
            for number, path in connection.execute(verify_statements.DESTINATIONS_OF, {"tasks": list(paths)}):
                paths[number].append(path)
        return [Unfetched(number, tuple(held)) for number, held in paths.items()]
