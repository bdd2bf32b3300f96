"""That md5s and paths are unique is the business of indexes, which a first load can build at its end."""

from alembic import op

revision = "0002"
down_revision = "0001"

UNIQUE = {"task": "md5", "destination": "path"}


def upgrade() -> None:
    connection = op.get_bind()
    connection.exec_driver_sql("PRAGMA legacy_alter_table = ON")  # what points to the tables goes on doing so
    for table, column in UNIQUE.items():
        made = connection.exec_driver_sql(
            "SELECT sql FROM sqlite_schema WHERE tbl_name = ? AND sql IS NOT NULL ORDER BY type DESC",
            (table,),
        ).scalars()
        definition, *indexes = made.all()
        before = f"{table}_before"
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {before}")
        connection.exec_driver_sql(without_unique(definition, column))
        connection.exec_driver_sql(f"INSERT INTO {table} SELECT * FROM {before}")
        connection.exec_driver_sql(f"DROP TABLE {before}")
        for index in [*indexes, f"CREATE UNIQUE INDEX {table}_{column} ON {table} ({column})"]:
            connection.exec_driver_sql(index)
    connection.exec_driver_sql("PRAGMA legacy_alter_table = OFF")


def without_unique(definition: str, column: str) -> str:
    """The table as 0001 has made it, without the constraint."""
    constraint = f"UNIQUE ({column})"
    return "\n".join(line for line in definition.split("\n") if line.strip(" \t,") != constraint)
