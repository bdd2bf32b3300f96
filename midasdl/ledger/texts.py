"""Statements as the database takes them: put together once, not at each use.

SQLAlchemy keeps what it has compiled, and still walks a statement each time to find it again. What is sent for each
file or each request goes past that, as a text with its values.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple, cast

from sqlalchemy import Executable
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite


class Text(NamedTuple):
    """One statement.

    Attributes
    ----------
    sql : str
    fixed : dict of str to Any
        Values that stand in the statement itself.
    names : tuple of str
        Of all values, in the order of the question marks.
    """

    sql: str
    fixed: dict[str, Any]
    names: tuple[str, ...]

    def row(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """Values by their names, in the order of the question marks."""
        return tuple(map({**self.fixed, **values}.__getitem__, self.names))


@cache
def text_of(statement: Executable) -> Text:
    """The text of a statement without lists of values; the statement is a constant of some module."""
    compiled = cast("Any", statement).compile(dialect=SQLiteDialect_pysqlite())
    fixed = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
    return Text(str(compiled), fixed, tuple(compiled.positiontup))
