"""A brief transaction: a few statements as texts, on the bare connection of the database module.

What SQLAlchemy does around a transaction takes several times as long as two or three small statements in it, and what
it needs for that is memory that each process has to itself. A worker that nothing happens to does without it: its
requests under a limit need two such transactions each, its record of a second's work one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

from sqlalchemy import Connection, Executable

from midasdl.ledger.texts import text_of


class Brief:
    """What can be done within it.

    Parameters
    ----------
    connection : Any
        Of the database module, in a transaction that its maker ends.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @classmethod
    def within(cls, connection: Connection) -> Self:
        """The same transaction as SQLAlchemy's, without its help."""
        return cls(connection.connection.dbapi_connection)

    def fetch(self, statement: Executable, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """All rows of a statement, as the database gives them."""
        text = text_of(statement)
        rows: list[tuple[Any, ...]] = self._connection.execute(text.sql, text.row(values)).fetchall()
        return rows

    def send(self, statement: Executable, values: Mapping[str, Any]) -> int:
        """Execute a statement that gives no rows; how many it has changed."""
        text = text_of(statement)
        changed: int = self._connection.execute(text.sql, text.row(values)).rowcount
        return changed

    def send_all(self, statement: Executable, values: Iterable[Mapping[str, Any]]) -> int:
        """Execute a statement once for each of many values; how many rows were changed in all."""
        text = text_of(statement)
        changed: int = self._connection.executemany(text.sql, map(text.row, values)).rowcount
        return changed

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a question that is no statement of SQLAlchemy's, such as a PRAGMA."""
        rows: list[tuple[Any, ...]] = self._connection.execute(sql).fetchall()
        return rows
