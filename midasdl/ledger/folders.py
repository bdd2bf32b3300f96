"""Paths of the ledger that would have to be a file and a folder at once."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, func, select

from midasdl.ledger import load_statements as sql
from midasdl.ledger.schema import destination
from midasdl.manifest import folder_conflicts

FEW = 10_000
"""So many paths of unknown shape are looked up one by one; with more, all paths are gone through in order."""

_AT_A_TIME = 500


def files_that_are_folders(connection: Connection) -> list[str]:
    """Find the paths that have other paths beneath them, in order.

    Notes
    -----
    The folders of a path of known shape have no dots in their names and every file has one, so at least one of the
    two is of unknown shape. Those are few, or there are no others.
    """
    count_others = select(func.count()).select_from(sql.OTHERS.limit(FEW + 1).subquery())
    how_many = connection.execute(count_others).scalar_one()
    if not how_many:
        return []
    if how_many > FEW:
        every = connection.execute(select(destination.c.path).order_by(destination.c.path)).scalars()
        return [file for file, _ in folder_conflicts(every)]
    files = set(connection.execute(sql.OTHERS_THAT_ARE_FOLDERS).scalars())
    others = connection.execute(sql.OTHERS).scalars().all()
    for first in range(0, len(others), _AT_A_TIME):
        above = {folder for path in others[first : first + _AT_A_TIME] for folder in _folders_of(path)}
        files.update(connection.execute(sql.THERE, {"paths": list(above)}).scalars() if above else ())
    return sorted(files)


def _folders_of(path: str) -> Iterator[str]:
    """Every folder of a path, the topmost last."""
    while folder := path.rpartition("/")[0]:
        yield folder
        path = folder
