"""Loading a manifest into the ledger: one transaction that adds, updates and never forgets.

A path that is new becomes a destination, its md5 a task unless there is one. A path whose md5 changed moves to the
task of the new md5. A finished task that gained a path is pending again, so that its bytes are put there too; all
other finished work stays finished. A worker that holds a task whose paths change loses its claim.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import count, islice
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select

from midasdl.errors import ManifestError
from midasdl.ledger import load_statements as sql
from midasdl.ledger.first_load import FirstLoad
from midasdl.ledger.folders import files_that_are_folders
from midasdl.ledger.ledger import Ledger, inserted_id
from midasdl.ledger.merge import Batch, Known, LoadSummary, Seen, sort_out
from midasdl.ledger.schema import destination, manifest, reject, setting, task
from midasdl.ledger.tasks import TaskQueue
from midasdl.ledger.totals import forget_what_a_load_has_changed
from midasdl.manifest import ManifestParser, require_plausible
from midasdl.models import FileInfo, Reject, TaskState
from midasdl.selection import NearNames, Selection, explain_no_match

HIGHEST_TASK = "highest_task"
"""The setting that remembers numbers of tasks that are gone: who holds one late must never meet another by it."""

FRESH_TASK = {"state": TaskState.PENDING.value, "claim_no": 0, "not_before": 0, "attempts": 0}


class ManifestLoader:
    """One load of one manifest.

    Parameters
    ----------
    ledger : Ledger
    name : str
        Of the manifest, as the user gave it.
    selection : Selection
        Which of its files are wanted.
    strict : bool
        Load nothing if any line is rejected.
    batch_lines : int
        Lines that are handed to the database at a time.
    on_progress : callable, optional
        Called now and then with the number of lines read so far.

    Notes
    -----
    Concurrency: a run may be on; its workers wait while the transaction lasts. Crash safety: all or nothing.
    """

    def __init__(
        self,
        ledger: Ledger,
        name: str,
        selection: Selection,
        *,
        strict: bool = False,
        batch_lines: int = 2_000,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._ledger = ledger
        self._queue = TaskQueue(ledger)
        self._name = name
        self._selection = selection
        self._strict = strict
        self._batch_lines = batch_lines
        self._on_progress = on_progress
        self._seen = Seen()
        self._near_names: NearNames | None = NearNames(selection)
        self._old_and_named = 0
        self._first_load: FirstLoad | None = None
        self.summary = LoadSummary()
        self.first_reject: Reject | None = None

    def load(self, connection: Connection, parser: ManifestParser) -> LoadSummary:
        """Bring the ledger in line with the manifest, inside the caller's transaction.

        Raises
        ------
        ManifestError
            When no line can be used, or when `strict` and one cannot.
        SelectionError
            When the selection matches nothing.
        """
        self._open_manifest_row(connection)
        held_before = connection.execute(select(func.count()).select_from(destination)).scalar_one()
        first_new = _highest_id(connection, destination) + 1
        self._new_destination_ids = count(first_new)
        tasks_before = _highest_task_ever(connection)
        self._new_task_ids = count(tasks_before + 1)
        if not held_before and not _highest_id(connection, task):
            self._first_load = FirstLoad(connection, self._manifest_id, tasks_before)
        lines = iter(parser)
        while chunk := list(islice(lines, self._batch_lines)):
            self._load_chunk(connection, chunk, ledger_is_empty=not held_before)
            self._on_progress(parser.lines)
        self._refuse_if_nothing_is_wanted(parser)
        if self._first_load is not None:
            self._finish_first_load(connection, self._first_load)
        without_folders = self.summary.added
        if self.summary.added:
            self._reject_files_that_are_folders(connection)
        if self.summary.changed or self.summary.added < without_folders:
            self._ledger.set_setting(connection, HIGHEST_TASK, str(_highest_task_ever(connection)))
            connection.execute(sql.DELETE_TASKS_WITHOUT_DESTINATION)
        if held_before and self.summary.added:
            self._reopen_gainers(connection, first_new)
        forget_what_a_load_has_changed(connection, held_before=bool(held_before))
        self.summary = replace(self.summary, lines=parser.lines, gone=held_before - self._old_and_named)
        self._refuse_if_strict()
        self._close_manifest_row(connection, parser.md5)
        return self.summary

    def _load_chunk(
        self, connection: Connection, chunk: Sequence[FileInfo | Reject], *, ledger_is_empty: bool
    ) -> None:
        entries = [line for line in chunk if type(line) is FileInfo]
        rejects = [line for line in chunk if isinstance(line, Reject)] if len(entries) < len(chunk) else []
        matches = self._selection.matches
        wanted = entries if self._selection.is_everything else [entry for entry in entries if matches(entry)]
        self._look_for_near_names(entries, found=bool(wanted))
        if self._first_load is not None:
            self._first_load.add(wanted)
            self._record_rejects(connection, rejects)
            self._count(added=len(wanted), not_selected=len(entries) - len(wanted))
            return
        known = self._known(connection, wanted if ledger_is_empty else entries)
        if len(wanted) < len(entries):
            self._mark_unselected(known, entries)
        batch = sort_out(wanted, known, self._seen, self._new_destination_ids)
        self._old_and_named += batch.unchanged + len(batch.changed)
        self._write(connection, batch)
        self._record_rejects(connection, [*rejects, *batch.rejected])
        self._count(
            not_selected=len(entries) - len(wanted),
            repeated=batch.repeated,
            added=len(batch.added),
            changed=len(batch.changed),
            unchanged=batch.unchanged,
        )

    def _finish_first_load(self, connection: Connection, first_load: FirstLoad) -> None:
        for contradictions in first_load.finish():
            self._record_rejects(connection, contradictions)
            self._count(added=-len(contradictions))
        self._count(added=-first_load.repeated, repeated=first_load.repeated)

    def _look_for_near_names(self, entries: Sequence[FileInfo], *, found: bool) -> None:
        """Until something matches, collect what a person may have meant."""
        self._near_names = None if found else self._near_names
        if self._near_names is not None:
            for entry in entries:
                self._near_names.add(entry)

    def _mark_unselected(self, known: dict[str, Known], entries: Sequence[FileInfo]) -> None:
        """A path outside the selection is not gone from the manifest."""
        for entry in entries:
            held = known.get(entry.path)
            if held and held.destination_id not in self._seen and not self._selection.matches(entry):
                self._seen.add(held.destination_id)
                self._old_and_named += 1

    def _known(self, connection: Connection, entries: Sequence[FileInfo]) -> dict[str, Known]:
        rows = connection.execute(sql.KNOWN_PATHS, {"paths": [entry.path for entry in entries]})
        return {path: Known(number, md5) for number, path, md5 in rows}

    def _write(self, connection: Connection, batch: Batch) -> None:
        entries = [*batch.added, *batch.changed]
        if not entries:
            return
        tasks = self._tasks_for(connection, [entry.md5 for _, entry in entries])
        if batch.added:
            rows = [self._destination_row(number, entry, tasks[entry.md5]) for number, entry in batch.added]
            connection.execute(insert(destination), rows)
        if batch.changed:
            numbers = [number for number, _ in batch.changed]
            losers = connection.execute(sql.LOSERS, {"numbers": numbers}).scalars().all()
            moves = [{"number": number, "to_task": tasks[entry.md5]} for number, entry in batch.changed]
            connection.execute(sql.MOVE_DESTINATION, moves)
            gainers = [tasks[entry.md5] for _, entry in batch.changed]
            self._queue.reopen(connection, [*losers, *gainers], "destination changed")

    def _reopen_gainers(self, connection: Connection, first_new: int) -> None:
        """The bytes of finished tasks must go to their new paths too."""
        for first in range(first_new, next(self._new_destination_ids), self._batch_lines):
            among = {"first": first, "last": first + self._batch_lines - 1}
            gainers = connection.execute(sql.GAINERS, among).scalars().all()
            self._queue.reopen(connection, gainers, "new destination", bytes_are_there=True)

    def _tasks_for(self, connection: Connection, md5s: Sequence[str]) -> dict[str, int]:
        """The task of each md5, made where there is none."""
        tasks = {md5: number for number, md5 in connection.execute(sql.KNOWN_TASKS, {"md5s": md5s})}
        made: list[dict[str, Any]] = []
        for md5 in md5s:
            if md5 not in tasks:
                tasks[md5] = next(self._new_task_ids)
                made.append({"id": tasks[md5], "md5": md5, "manifest_id": self._manifest_id, **FRESH_TASK})
        if made:
            connection.execute(insert(task), made)
        return tasks

    def _destination_row(self, number: int, entry: FileInfo, task_id: int) -> dict[str, Any]:
        row = entry._asdict()
        del row["md5"], row["file_name"]
        return {**row, "id": number, "task_id": task_id, "manifest_id": self._manifest_id}

    def _record_rejects(self, connection: Connection, rejects: Sequence[Reject]) -> None:
        if not rejects:
            return
        self.first_reject = min(filter(None, [self.first_reject, *rejects]))
        self._count(rejected=len(rejects))
        rows = [{"manifest_id": self._manifest_id, **line._asdict()} for line in rejects]
        connection.execute(insert(reject), rows)

    def _reject_files_that_are_folders(self, connection: Connection) -> None:
        """No path can be both; what the ledger held before stays, what this manifest brought goes."""
        for file in files_that_are_folders(connection):
            new_file = connection.execute(
                sql.BROUGHT_FILE, {"brought_by": self._manifest_id, "file": file}
            ).all()
            beneath = {"brought_by": self._manifest_id, "first": f"{file}/", "last": f"{file}0"}
            new = new_file or connection.execute(sql.BROUGHT_BENEATH, beneath).all()
            reason = (
                "this file would have to be a folder for another line" if new_file else f"{file} is a file"
            )
            connection.execute(sql.DELETE_DESTINATIONS, {"numbers": [row.id for row in new]})
            self._record_rejects(
                connection, [Reject(row.line_no, f"{row.md5}  {row.path}", reason) for row in new]
            )
            self._count(added=-len(new))

    def _refuse_if_nothing_is_wanted(self, parser: ManifestParser) -> None:
        reason = parser.first_reject and parser.first_reject.reason
        require_plausible(parser.accepted, parser.rejected, parser.lines, self._name, reason)
        if self._near_names is not None and not self._selection.is_everything:
            raise explain_no_match(self._selection, self._near_names)

    def _refuse_if_strict(self) -> None:
        if not self._strict or self.first_reject is None:
            return
        raise ManifestError(
            f"{self._name}: {self.summary.rejected} of {self.summary.lines} lines cannot be used; the first is "
            f"line {self.first_reject.line_no}: {self.first_reject.reason}. Nothing was loaded (--strict).",
            "Without --strict the other lines are loaded, and these stand in the table 'reject'.",
        )

    def _count(self, **more: int) -> None:
        totals = {name: getattr(self.summary, name) + number for name, number in more.items()}
        self.summary = replace(self.summary, **totals)

    def _open_manifest_row(self, connection: Connection) -> None:
        row = {"name": self._name, "md5": "", "loaded_at": self._ledger.clock.now_us()}
        selection = {"selection": json.dumps(self._selection.to_dict(), sort_keys=True)}
        result = connection.execute(insert(manifest).values(**row, **selection, **asdict(LoadSummary())))
        self._manifest_id = inserted_id(result)

    def _close_manifest_row(self, connection: Connection, md5: str) -> None:
        """Complete the row; the rejects of an earlier load of just this manifest are replaced by these."""
        this = {"this": self._manifest_id}
        connection.execute(sql.COMPLETE_MANIFEST, {**this, "md5_now": md5, **_prefixed(asdict(self.summary))})
        connection.execute(sql.DELETE_EARLIER_REJECTS, {**this, "same_md5": md5})


def _prefixed(values: dict[str, int]) -> dict[str, int]:
    return {f"now_{name}": number for name, number in values.items()}


def _highest_id(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.coalesce(func.max(table.c.id), 0))).scalar_one())


def _highest_task_ever(connection: Connection) -> int:
    """Of the tasks that are there and of those that were deleted."""
    recorded = connection.execute(select(setting.c.value).where(setting.c.name == HIGHEST_TASK)).scalar()
    return max(_highest_id(connection, task), int(recorded or 0))
