"""Every statement that loading a manifest sends, by name and with its purpose."""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache

from sqlalchemy import bindparam, delete, exists, literal_column, select, update

from midasdl.ledger.merge import LoadSummary
from midasdl.ledger.schema import destination, manifest, reject, task

KNOWN_PATHS = (
    select(destination.c.id, destination.c.path, task.c.md5)
    .join(task)
    .where(destination.c.path.in_(bindparam("paths", expanding=True)))
)
"""What the ledger holds of some paths."""

KNOWN_TASKS = select(task.c.id, task.c.md5).where(task.c.md5.in_(bindparam("md5s", expanding=True)))
"""The tasks of some md5s."""

MOVE_DESTINATION = (
    update(destination).where(destination.c.id == bindparam("number")).values(task_id=bindparam("to_task"))
)
"""The path has another md5 now."""

LOSERS = (
    select(destination.c.task_id)
    .distinct()
    .where(destination.c.id.in_(bindparam("numbers", expanding=True)))
    .join(task)
    .where(task.c.state == literal_column("'in_progress'"))
)
"""The tasks that somebody works on just now and that are about to lose a path."""

GAINERS = (
    select(destination.c.task_id)
    .distinct()
    .where(destination.c.id.between(bindparam("first"), bindparam("last")))
    .join(task)
    .where(task.c.state.in_([literal_column("'done'"), literal_column("'in_progress'")]))
)
"""The finished or claimed tasks of some new destinations."""

DELETE_TASKS_WITHOUT_DESTINATION = delete(task).where(~exists().where(destination.c.task_id == task.c.id))
"""Nobody wants these bytes any more."""

_BROUGHT = select(destination.c.id, destination.c.line_no, destination.c.path, task.c.md5).join(task)

BROUGHT_FILE = _BROUGHT.where(
    destination.c.manifest_id == bindparam("brought_by"), destination.c.path == bindparam("file")
)
"""A path, if this manifest brought it."""

BROUGHT_BENEATH = _BROUGHT.where(
    destination.c.manifest_id == bindparam("brought_by"),
    destination.c.path > bindparam("first"),
    destination.c.path < bindparam("last"),
)
"""The paths below a folder that this manifest brought."""

DELETE_DESTINATIONS = delete(destination).where(destination.c.id.in_(bindparam("numbers", expanding=True)))
"""Paths that turned out to be unusable."""

COMPLETE_MANIFEST = (
    update(manifest)
    .where(manifest.c.id == bindparam("this"))
    .values(md5=bindparam("md5_now"), **{f.name: bindparam(f"now_{f.name}") for f in fields(LoadSummary)})
)
"""A manifest has been read to its end."""

DELETE_EARLIER_REJECTS = delete(reject).where(
    reject.c.manifest_id.in_(
        select(manifest.c.id).where(
            manifest.c.md5 == bindparam("same_md5"), manifest.c.id < bindparam("this")
        )
    )
)
"""The same manifest was loaded before: its rejects are not listed twice."""

OTHERS = select(destination.c.path).where(destination.c.kind == literal_column("'other'"))
"""The paths of unknown shape."""

_beneath = destination.alias("beneath")

OTHERS_THAT_ARE_FOLDERS = OTHERS.where(
    exists().where(
        _beneath.c.path > destination.c.path.concat("/"), _beneath.c.path < destination.c.path.concat("0")
    )
)
"""Those of them that have another path beneath them."""

THERE = select(destination.c.path).where(destination.c.path.in_(bindparam("paths", expanding=True)))
"""Which of some paths there are."""

# --- the first load: in plain SQL, because a million lines are too many for anything finer


@lru_cache(maxsize=8)
def fresh_tasks(count: int, manifest_id: int, tasks_before: int) -> str:
    """Some tasks that nobody has touched; takes all their lines' numbers, then all their md5s."""
    values = "{0} + ?{1}, ?{2}, 'pending', 0, 0, 0, {3}"
    rows = (values.format(tasks_before, no, no + count, manifest_id) for no in range(1, count + 1))
    columns = "id, md5, state, claim_no, not_before, attempts, manifest_id"
    return f"INSERT INTO task ({columns}) VALUES ({'), ('.join(rows)})"


@lru_cache(maxsize=8)
def fresh_destinations(count: int, manifest_id: int, tasks_before: int) -> str:
    """Their destinations; takes the values of one column after the other, the numbers of their lines first."""
    more = "path, dataset, release, county, station_id, station_name, qc_version, year, kind"
    rows = (
        f"?{no}, {tasks_before} + ?{no}, ?{no}, {manifest_id}, "
        + ", ".join(f"?{no + count * column}" for column in range(1, len(more.split(",")) + 1))
        for no in range(1, count + 1)
    )
    return f"INSERT INTO destination (id, task_id, line_no, manifest_id, {more}) VALUES ({'), ('.join(rows)})"


MAKE_LATER = "CREATE TEMP TABLE later (id INTEGER PRIMARY KEY, first_id INTEGER NOT NULL)"
"""A place for rows that have something in common with an earlier one."""

DROP_LATER = "DROP TABLE later"

_FIND_LATER = """
INSERT INTO later
SELECT id, first_id FROM (SELECT id, min(id) OVER (PARTITION BY {column}) AS first_id FROM {table})
 WHERE id > first_id"""

FIND_LATER_LINES_OF_A_PATH = _FIND_LATER.format(table="destination", column="path")
FIND_LATER_TASKS_OF_AN_MD5 = _FIND_LATER.format(table="task", column="md5")

_LATER_LINES = """
  FROM later
  JOIN destination d ON d.id = later.id JOIN task t ON t.id = d.task_id
  JOIN destination first_d ON first_d.id = later.first_id JOIN task first_t ON first_t.id = first_d.task_id"""

COUNT_REPEATED = f"SELECT count(*) {_LATER_LINES} WHERE t.md5 = first_t.md5"
"""How many lines say just what an earlier one said."""

CONTRADICTIONS = f"""
SELECT d.line_no, t.md5, d.path {_LATER_LINES} WHERE t.md5 <> first_t.md5 ORDER BY later.id"""
"""Lines that give a path another md5 than an earlier one did."""

DELETE_LATER_LINES = "DELETE FROM destination WHERE id IN (SELECT id FROM later)"

DELETE_TASKS_OF_LATER_LINES = "DELETE FROM task WHERE id IN (SELECT id + ? FROM later)"

SHARE_FIRST_TASK = """
UPDATE destination SET task_id = (SELECT first_id FROM later WHERE later.id = destination.task_id)
 WHERE task_id IN (SELECT id FROM later)"""
"""Destinations of the same md5 have the same task."""

DELETE_LATER_TASKS = "DELETE FROM task WHERE id IN (SELECT id FROM later)"
