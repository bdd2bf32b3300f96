"""Totals of what is done and of what has failed, kept by triggers: no writer can forget them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

Big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

TRIGGER = """
CREATE TRIGGER {name} AFTER UPDATE OF state, size_bytes ON task
  WHEN {row}.state IN ('done', 'failed') AND (OLD.state <> NEW.state OR OLD.size_bytes IS NOT NEW.size_bytes)
BEGIN
  INSERT INTO total (dataset, kind, state, files, tasks, bytes, contents, content_bytes)
  SELECT f.dataset, f.kind, {row}.state, {sign}1, {sign}f.is_first_there, {sign}f.size, {sign}f.is_first,
         {sign}f.is_first * f.size
    FROM (SELECT coalesce(d.dataset, '') AS dataset, d.kind, coalesce({row}.size_bytes, 0) AS size,
                 NOT EXISTS (SELECT 1 FROM destination o WHERE o.task_id = d.task_id AND o.id < d.id) AS is_first,
                 NOT EXISTS (SELECT 1 FROM destination o
                              WHERE o.task_id = d.task_id AND o.id < d.id AND o.dataset IS d.dataset) AS is_first_there
            FROM destination d
           WHERE d.task_id = {row}.id) AS f
   WHERE true
      ON CONFLICT (dataset, kind, state) DO UPDATE
     SET files = files + excluded.files, tasks = tasks + excluded.tasks, bytes = bytes + excluded.bytes,
         contents = contents + excluded.contents, content_bytes = content_bytes + excluded.content_bytes;
END"""

COUNT = """
INSERT INTO total
SELECT f.dataset, f.kind, f.state, count(*), sum(f.is_first_there), sum(f.size), sum(f.is_first),
       sum(f.is_first * f.size)
  FROM (SELECT coalesce(d.dataset, '') AS dataset, d.kind, t.state, coalesce(t.size_bytes, 0) AS size,
               NOT EXISTS (SELECT 1 FROM destination o WHERE o.task_id = d.task_id AND o.id < d.id) AS is_first,
               NOT EXISTS (SELECT 1 FROM destination o
                            WHERE o.task_id = d.task_id AND o.id < d.id AND o.dataset IS d.dataset) AS is_first_there
          FROM destination d JOIN task t ON t.id = d.task_id
         WHERE t.state IN ('done', 'failed')) AS f
 GROUP BY 1, 2, 3"""


def upgrade() -> None:
    connection = op.get_bind()
    op.create_table(
        "total",
        sa.Column("dataset", sa.Text(), primary_key=True, comment="'' where there is none"),
        sa.Column("kind", sa.Text(), primary_key=True),
        sa.Column(
            "state",
            sa.Text(),
            primary_key=True,
            comment="done or failed: kept at every change; all: of any state, made when asked for after a load",
        ),
        sa.Column("files", Big, nullable=False),
        sa.Column(
            "tasks",
            Big,
            nullable=False,
            comment="distinct contents of the dataset, each where its first path in it is",
        ),
        sa.Column("bytes", Big, nullable=False, comment="of all files"),
        sa.Column(
            "contents",
            Big,
            nullable=False,
            comment="distinct contents of the ledger, each where its first path is",
        ),
        sa.Column("content_bytes", Big, nullable=False),
        comment="sums over files, by dataset and kind, so that nobody has to walk all tasks for them",
        sqlite_with_rowid=False,
    )
    connection.exec_driver_sql(COUNT)
    connection.exec_driver_sql(TRIGGER.format(name="total_loses", row="OLD", sign="-"))
    connection.exec_driver_sql(TRIGGER.format(name="total_gains", row="NEW", sign=""))
