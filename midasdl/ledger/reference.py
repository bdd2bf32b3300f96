"""The reference of the ledger as Markdown, from the schema and the views themselves.

``python -m midasdl.ledger.reference > docs/ledger.md`` writes the page; a test sees that it is up to date.
"""

from __future__ import annotations

import sys

from sqlalchemy import CheckConstraint, Column, Table
from sqlalchemy.dialects import sqlite

from midasdl.ledger.schema import HEAD_REVISION, metadata
from midasdl.ledger.views import VIEWS, View

INTRODUCTION = f"""\
# The ledger: tables and views

The ledger (`progress.db`) is an SQLite database. Asking it is safe at any time, also while a run is on:

```
sqlite3 -readonly progress.db "SELECT * FROM progress"
midasdl sql "SELECT * FROM progress"
```

Ask the views first: they show times as UTC text (`2026-09-08T10:11:12Z`) and have everything joined; the
[cookbook](cookbook.md) has examples. Times in tables are whole microseconds since 1970, UTC. Only midasdl writes to
the ledger; a transaction that is left open in a shell which may write stops every worker.

This page is made from schema {HEAD_REVISION} by `python -m midasdl.ledger.reference`.
"""


def reference() -> str:
    """The whole page; the same for the same version of midasdl."""
    views = "\n".join(_view(name, view) for name, view in VIEWS.items())
    tables = "\n".join(_table(table) for table in metadata.tables.values())
    return f"{INTRODUCTION}\n## Views\n\n{views}\n## Tables\n\n{tables}"


def _view(name: str, view: View) -> str:
    lines = [f"| `{column}` | {meaning} |" for column, meaning in view.columns.items()]
    return _section(name, view.purpose, ["| column | meaning |", "|---|---|", *lines])


def _table(table: Table) -> str:
    lines = [f"| `{column.name}` | {_type(column)} | {_rules(column)} |" for column in table.columns]
    return _section(table.name, str(table.comment), ["| column | type | meaning |", "|---|---|---|", *lines])


def _section(name: str, purpose: str, lines: list[str]) -> str:
    return "\n".join([f"### {name}", "", f"{purpose[0].upper()}{purpose[1:]}.", "", *lines, ""])


def _type(column: Column[object]) -> str:
    type_ = column.type.compile(dialect=sqlite.dialect())
    return type_ if column.nullable else f"{type_}, never NULL"


def _rules(column: Column[object]) -> str:
    """The comment, what it points to, and the words that the database accepts."""
    points_to = [f"points to `{key.target_fullname}`" for key in column.foreign_keys]
    checks = [
        f"one of {check.sqltext.text.partition(' IN ')[2].strip('()').replace(chr(39), '`')}"
        for check in column.table.constraints
        if isinstance(check, CheckConstraint) and str(check.sqltext).startswith(f"{column.name} IN ")
    ]
    return "; ".join(filter(None, [column.comment, *points_to, *checks]))


if __name__ == "__main__":
    sys.stdout.write(reference())
