"""What the ledger knows of verifying: which files are done, how far somebody has looked, what was found wrong."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from sqlalchemy import Connection

from midasdl.ledger import verify_statements as sql
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.tasks import TaskQueue

BOOKMARK = "verification"


class Wanted(NamedTuple):
    """A file that the ledger calls done, as it stood when it was read."""

    destination_id: int
    path: str
    task_id: int
    md5: str
    claim_no: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that is not as the ledger says.

    Attributes
    ----------
    found : str
        ``missing``, ``corrupt`` or ``unreadable``.
    detail : str
        What is there instead, or why it cannot be read.
    """

    wanted: Wanted
    found: str
    detail: str

    @property
    def can_be_fetched(self) -> bool:
        """Whether fetching it again helps; what the system will not read it would not let be checked either."""
        return self.found != "unreadable"


@dataclass(frozen=True, slots=True)
class Bookmark:
    """How far the last verification of everything has come.

    Attributes
    ----------
    after : str
        The path up to which everything was looked at.
    started_us : int
    looked_at : int
        Files so far.
    ended_us : int or None
        None while there is more to look at.
    """

    started_us: int
    after: str = ""
    looked_at: int = 0
    ended_us: int | None = None


class Verification:
    """Reads and records for whoever verifies."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def bookmark(self) -> Bookmark | None:
        """How far the last verification came; None where there was none."""
        kept = self._ledger.setting(BOOKMARK)
        return None if kept is None else Bookmark(**json.loads(kept))

    def count(self, *, damaged: bool, after: str = "") -> int:
        """How many files are done, from some path on; or how many were found damaged."""
        query = sql.COUNT_DAMAGED if damaged else sql.COUNT_FINISHED_AFTER
        with self._ledger.read() as connection:
            return int(connection.execute(query, {} if damaged else {"after": after}).scalar_one())

    def next_files(self, after: str, how_many: int, *, damaged: bool = False) -> list[Wanted]:
        """The next files that are done, in the order of their paths; or of those that were found damaged."""
        query = sql.DAMAGED_AFTER if damaged else sql.FINISHED_AFTER
        with self._ledger.read() as connection:
            rows = connection.execute(query, {"after": after, "how_many": how_many})
            return [Wanted(*row) for row in rows]

    def unchanged(self, files: Iterable[Wanted]) -> set[Wanted]:
        """Which of some files stand in the ledger just as they did: no run has touched them since."""
        with self._ledger.read() as connection:
            return _unchanged(connection, files)

    def record(
        self,
        looked_at: Sequence[Wanted],
        damage: Sequence[Damage],
        bookmark: Bookmark | None,
        *,
        repair: bool,
    ) -> int:
        """Keep what was found, in one transaction.

        Parameters
        ----------
        repair : bool
            Make the tasks of damaged files pending again, where they stand as they did when they were read.

        Returns
        -------
        int
            How many tasks are pending again.
        """
        with self._ledger.write() as connection:
            _forget(connection, looked_at)
            as_seen = _unchanged(connection, [item.wanted for item in damage])
            true = [item for item in damage if item.wanted in as_seen]
            put_back = self._put_back(connection, true) if repair else 0
            kept = [item for item in true if not (repair and item.can_be_fetched)]
            if kept:
                now = self._ledger.clock.now_us()
                connection.execute(sql.RECORD_DAMAGE, [_row(item, now) for item in kept])
            if bookmark is not None:
                self._ledger.set_setting(connection, BOOKMARK, json.dumps(asdict(bookmark)))
        return put_back

    def named(self, paths: Collection[str]) -> set[str]:
        """Which of some paths a manifest names."""
        with self._ledger.read() as connection:
            return set(connection.execute(sql.NAMED, {"paths": list(paths)}).scalars())

    def _put_back(self, connection: Connection, damage: Sequence[Damage]) -> int:
        """Make the tasks of some files pending again."""
        count = 0
        for found in ("missing", "corrupt"):
            tasks = {item.wanted.task_id for item in damage if item.found == found}
            count += TaskQueue(self._ledger).reopen(connection, sorted(tasks), f"found {found}")
        return count


def _unchanged(connection: Connection, files: Iterable[Wanted]) -> set[Wanted]:
    asked = set(files)
    if not asked:
        return set()
    numbers = {"destinations": [item.destination_id for item in asked]}
    return asked & {Wanted(*row) for row in connection.execute(sql.FINISHED_NOW, numbers)}


def _forget(connection: Connection, files: Sequence[Wanted]) -> None:
    if files:
        connection.execute(sql.FORGET_DAMAGE, {"destinations": [item.destination_id for item in files]})


def _row(damage: Damage, now: int) -> dict[str, object]:
    return {
        "destination": damage.wanted.destination_id,
        "new_found": damage.found,
        "new_detail": damage.detail,
        "now": now,
    }
