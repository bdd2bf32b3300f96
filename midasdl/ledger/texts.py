"""Statements as the database takes them: put together once, not at each use.

SQLAlchemy keeps what it has compiled, and still walks a statement each time to find it again. What is sent for each
file or each request goes past that, as a text with its values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from sqlalchemy import Engine, Executable


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


class Texts:
    """The statements that an engine's database has been sent.

    Notes
    -----
    Concurrency: threads may share one; two that need the same text at once make it twice.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[Executable, Text] = {}

    def of(self, statement: Executable) -> Text:
        """The text of a statement without lists of values."""
        known = self._known.get(statement)
        if known is None:
            compiled = cast("Any", statement).compile(self._engine)
            fixed = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
            known = self._known[statement] = Text(str(compiled), fixed, tuple(compiled.positiontup))
        return known
