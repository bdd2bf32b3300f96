"""A brief transaction: a few statements as texts, on the bare connection of the database module.

What SQLAlchemy does around a transaction takes several times as long as two or three small statements in it. Requests
under a limit need two such transactions each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Executable

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

    def fetch(self, statement: Executable, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """All rows of a statement, as the database gives them."""
        text = text_of(statement)
        rows: list[tuple[Any, ...]] = self._connection.execute(text.sql, text.row(values)).fetchall()
        return rows

    def send(self, statement: Executable, values: Mapping[str, Any]) -> None:
        """Execute a statement that gives no rows."""
        text = text_of(statement)
        self._connection.execute(text.sql, text.row(values))
