"""Bringing a ledger to the newest schema, with a copy kept of how it was."""

from __future__ import annotations

import contextlib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from midasdl.clock import iso_utc
from midasdl.errors import LedgerError, LedgerTooNewError, NotALedgerError
from midasdl.ledger.brief import Brief
from midasdl.ledger.library import SqliteLibrary
from midasdl.ledger.schema import APPLICATION_ID, HEAD_REVISION
from midasdl.ledger.views import create_views, drop_views

if TYPE_CHECKING:
    from alembic.config import Config


def revision_of(brief: Brief, path: Path) -> str | None:
    """The schema revision of an open ledger; None for an empty database.

    Raises
    ------
    NotALedgerError
        When the database has tables but is not midasdl's.
    LedgerTooNewError
        When the revision is one that this midasdl does not know.
    """
    if not brief.ask("SELECT 1 FROM sqlite_schema WHERE type = 'table' LIMIT 1"):
        return None
    if brief.ask("PRAGMA application_id") != [(APPLICATION_ID,)]:
        raise NotALedgerError(
            f"{path} is an SQLite database of another program, not a ledger.",
            "Name another file with --ledger.",
        )
    revision = ", ".join(str(number) for (number,) in brief.ask("SELECT version_num FROM alembic_version"))
    if revision != HEAD_REVISION and revision not in known_revisions():
        raise LedgerTooNewError(
            f"The ledger {path} was written by a newer midasdl (schema {revision}; this one knows up to "
            f"{HEAD_REVISION}).",
            "Upgrade with: pip install --upgrade midasdl",
        )
    return revision


def bring_up_to_date(connection: Connection, path: Path, library: SqliteLibrary, now_us: int) -> None:
    """Copy an older ledger, then migrate it; an empty one is given its tables.

    Parameters
    ----------
    connection : Connection
        In an immediate transaction, with foreign keys off, so that tables may be rebuilt.

    Raises
    ------
    LedgerError
        When rows would be left that point nowhere.

    Notes
    -----
    Concurrency: of several processes the first does it, the others find it done. Crash safety: everything happens
    in the caller's transaction, or not at all; then the copy goes too.
    """
    revision = revision_of(Brief.within(connection), path)
    if revision == HEAD_REVISION:
        return
    copy = None if revision is None else back_up(path, library, revision, now_us)
    try:
        upgrade(connection)
        if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
            raise LedgerError(f"The ledger {path} cannot be upgraded: rows would point nowhere.")
    except BaseException:
        if copy is not None:
            copy.unlink()
        raise


def upgrade(connection: Connection) -> None:
    """Apply every missing migration and make the views anew.

    Crash safety: everything happens in the caller's transaction, or not at all.
    """
    from alembic import command

    config = _alembic_config()
    config.attributes["connection"] = connection
    drop_views(connection)
    command.upgrade(config, "head")
    create_views(connection)
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")


def back_up(path: Path, library: SqliteLibrary, revision: str, now_us: int) -> Path:
    """Copy a ledger beside itself, also while others use it; a copy under its final name is whole.

    Returns
    -------
    Path
        ``<name>.backup-<revision>-<time>``.
    """
    copy = path.with_name(f"{path.name}.backup-{revision}-{iso_utc(now_us).replace(':', '')}")
    part = copy.with_name(f"{copy.name}.part")
    part.unlink(missing_ok=True)
    with (
        contextlib.closing(library.module.connect(path)) as source,
        contextlib.closing(library.module.connect(part)) as target,
    ):
        source.backup(target)
    return part.replace(copy)


def known_revisions() -> set[str]:
    """Every revision that this midasdl can read."""
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory.from_config(_alembic_config()).walk_revisions()}


def _alembic_config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(files("midasdl.migrations")).replace("%", "%%"))
    return config
