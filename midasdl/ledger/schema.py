"""The tables of the ledger, with a comment for every column that does not explain itself.

Times in tables are integers: microseconds since 1970, UTC. The views (`midasdl.ledger.views`) show them as ISO
text. The comments are kept inside the database file, so that ``.schema`` in the ``sqlite3`` shell explains the
ledger to whoever opens it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateColumn, CreateTable
from sqlalchemy.sql.compiler import DDLCompiler

from midasdl.models import Kind, TaskState

HEAD_REVISION = "0003"
"""The newest migration; a test compares it with `migrations/versions`."""

APPLICATION_ID = 0x4D494441
"""Marks an SQLite file as a ledger of midasdl (``MIDA``)."""

WORKER_ROLES = ("worker", "coordinator", "command")
WORKER_STATES = ("alive", "stopped", "dead")
DAMAGES = ("missing", "corrupt", "unreadable")
STEP_KINDS = ("throttle", "breaker", "pause", "profile", "workers")

Big = BigInteger().with_variant(Integer, "sqlite")


@compiles(CreateColumn, "sqlite")
def _comment_inside_sqlite(element: CreateColumn, compiler: DDLCompiler, **options: Any) -> str | None:
    """SQLite has no COMMENT statement but keeps the text of CREATE TABLE: put the comments there."""
    rendered: str | None = compiler.visit_create_column(element, **options)  # type: ignore[no-untyped-call]
    comment = element.element.comment
    return rendered if rendered is None or not comment else f"{rendered} /* {comment} */"


@compiles(CreateTable, "sqlite")
def _purpose_inside_sqlite(element: CreateTable, compiler: DDLCompiler, **options: Any) -> str:
    """The same for what a table is for."""
    rendered: str = compiler.visit_create_table(element, **options)  # type: ignore[no-untyped-call]
    comment = element.element.comment
    return rendered.replace("(", f"( /* {comment} */", 1) if comment else rendered


def one_of(column: str, words: object, name: str) -> CheckConstraint:
    """A CHECK that `column` holds one of `words` (an enumeration of strings)."""
    listed = ", ".join(f"'{word}'" for word in words)  # type: ignore[attr-defined]
    return CheckConstraint(f"{column} IN ({listed})", name=name)


metadata = MetaData()

setting = Table(
    "setting",
    metadata,
    Column("name", Text, primary_key=True, comment="data_root, archive_url"),
    Column("value", Text, nullable=False),
    comment="facts about the ledger itself",
)

manifest = Table(
    "manifest",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, comment="as it was given to init"),
    Column("md5", Text, nullable=False, comment="of the manifest itself"),
    Column("loaded_at", Big, nullable=False),
    Column("selection", Text, nullable=False, comment="JSON; {} is everything"),
    Column("lines", Integer, nullable=False, comment="all lines, blank ones and comments too"),
    Column("rejected", Integer, nullable=False, comment="lines that stand in reject"),
    Column("repeated", Integer, nullable=False, comment="lines that say again what an earlier one said"),
    Column("not_selected", Integer, nullable=False, comment="good lines outside the selection"),
    Column("added", Integer, nullable=False, comment="paths that were new to the ledger"),
    Column("changed", Integer, nullable=False, comment="paths whose md5 changed"),
    Column("unchanged", Integer, nullable=False, comment="paths that the ledger had already"),
    Column("gone", Integer, nullable=False, comment="paths of the ledger that this manifest no longer has"),
    comment="each load of a manifest, and what it brought",
)

reject = Table(
    "reject",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("manifest_id", ForeignKey("manifest.id"), nullable=False),
    Column("line_no", Integer, nullable=False),
    Column("text", Text, nullable=False, comment="the line, control characters escaped"),
    Column("reason", Text, nullable=False),
    comment="the lines of manifests that cannot be used",
)

run = Table(
    "run",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("command", Text, nullable=False, comment="run or resume"),
    Column("version", Text, nullable=False, comment="of midasdl"),
    Column("settings", Text, nullable=False, comment="JSON: the settings that resume takes up again"),
    Column("started_at", Big, nullable=False),
    Column("ended_at", Big, comment="NULL while the run is on, or when it was killed"),
    Column("exit_code", SmallInteger),
    comment="each run or resume",
)

worker = Table(
    "worker",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", ForeignKey("run.id")),
    Column("role", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process_started", Text, nullable=False, comment="tells a process from a later one with its pid"),
    Column("started_at", Big, nullable=False),
    Column("heartbeat_at", Big, nullable=False),
    Column("lease_until", Big, nullable=False, comment="its claims and permit may be taken back after this"),
    Column("state", Text, nullable=False),
    Column("ended_at", Big),
    one_of("role", WORKER_ROLES, "worker_role"),
    one_of("state", WORKER_STATES, "worker_state"),
    Index(
        "worker_alive",
        "id",
        sqlite_where=text("state = 'alive'"),
    ),
    comment="the processes of each run",
)

task = Table(
    "task",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("md5", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("claim_no", Integer, nullable=False, comment="raised by each claim; fences late workers out"),
    Column("worker_id", Integer, comment="who holds the claim, or held the last one"),
    Column("not_before", Big, nullable=False, comment="a retry waits until then; 0 is at once"),
    Column("attempts", SmallInteger, nullable=False, comment="requests that counted against max_retries"),
    Column("size_bytes", Big),
    Column("from_cache", SmallInteger, comment="1: the bytes were on disk already, no request was made"),
    Column("error_class", Text),
    Column("error", Text),
    Column("http_status", SmallInteger),
    Column("manifest_id", ForeignKey("manifest.id"), nullable=False, comment="the manifest that brought it"),
    Column("first_claimed_at", Big),
    Column("finished_at", Big, comment="when it became done or failed"),
    Column("elapsed_us", Big, comment="of the last request, with writing and checking"),
    one_of("state", TaskState, "task_state"),
    Index("task_md5", "md5", unique=True),
    Index(
        "task_claimable",
        "not_before",
        "id",
        sqlite_where=text("state = 'pending'"),
    ),
    Index(
        "task_claimed",
        "worker_id",
        sqlite_where=text("state = 'in_progress'"),
    ),
    Index(
        "task_failed",
        "error_class",
        sqlite_where=text("state = 'failed'"),
    ),
    comment="one row for each distinct md5: bytes to obtain once",
)

destination = Table(
    "destination",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("path", Text, nullable=False, comment="below the archive URL and below the data root"),
    Column("task_id", ForeignKey("task.id"), nullable=False, index=True),
    Column("dataset", Text),
    Column("release", Text, comment="the dataset version, such as 202407"),
    Column("county", Text),
    Column("station_id", Text),
    Column("station_name", Text),
    Column("qc_version", SmallInteger),
    Column("year", SmallInteger),
    Column("kind", Text, nullable=False),
    Column(
        "manifest_id", ForeignKey("manifest.id"), nullable=False, comment="the manifest that named it first"
    ),
    Column("line_no", Integer, nullable=False, comment="its line in that manifest"),
    one_of("kind", Kind, "destination_kind"),
    Index("destination_path", "path", unique=True),
    comment="one row for each path of the manifests: where the bytes of a task must be",
)

transition = Table(
    "transition",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("task_id", ForeignKey("task.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("at", Big, nullable=False),
    Column("from_state", Text, nullable=False),
    Column("to_state", Text, nullable=False),
    Column("worker_id", Integer),
    Column("reason", Text),
    comment="changes of state of tasks that did not go straight to done; ask the view history",
)

politeness = Table(
    "politeness",
    metadata,
    Column("host", Text, primary_key=True, comment="name and port"),
    Column("next_start_at", Big, nullable=False, comment="the earliest moment for the next request"),
    Column("paused_until", Big, nullable=False, comment="nobody sends before this"),
    Column("pause_reason", Text),
    Column("consecutive_errors", Integer, nullable=False),
    Column("requests", Big, nullable=False, comment="slots handed out so far"),
    Column(
        "strikes",
        Integer,
        nullable=False,
        comment="requests for patience in a row that did not say how much",
    ),
    Column("successes", Big, nullable=False, comment="files that came so far"),
    Column(
        "breaker_failures", Integer, nullable=False, comment="failures in a row, while the breaker is closed"
    ),
    Column(
        "breaker_successes", Integer, nullable=False, comment="successes of probes, while it is half-open"
    ),
    Column(
        "breaker_open_since",
        Big,
        nullable=False,
        comment="since when the server is away; 0: it is there",
    ),
    Column("breaker_open_until", Big, nullable=False, comment="one request tries again then"),
    Column("breaker_probe_until", Big, nullable=False, comment="one request is trying now"),
    Column("throttle_share", Float, nullable=False, comment="of the rate that the settings allow"),
    Column("throttle_reason", Text, comment="why it is less than 1"),
    Column("throttle_changed_at", Big, nullable=False),
    Column("throttle_window_answers", Integer, nullable=False, comment="answers since the last step"),
    Column("throttle_window_errors", Integer, nullable=False, comment="errors among them"),
    Column("throttle_latency_us", Float, nullable=False, comment="moving average, to the first byte"),
    Column("throttle_usual_us", Float, nullable=False, comment="the same, over a long time"),
    Column("throttle_samples", Big, nullable=False, comment="answers that this rests on"),
    comment="what everybody knows of a server: when the next request may start",
)

permit = Table(
    "permit",
    metadata,
    Column("worker_id", ForeignKey("worker.id"), primary_key=True),
    Column("host", Text, nullable=False),
    Column("taken_at", Big, nullable=False),
    Column("start_at", Big, nullable=False, comment="the slot: when its request may start"),
    comment="requests in flight",
)

step = Table(
    "step",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("host", Text, nullable=False),
    Column("at", Big, nullable=False),
    Column("what", Text, nullable=False),
    Column(
        "from_value",
        Text,
        comment="share, state, end of pause, profile or number before; NULL: there was none",
    ),
    Column("to_value", Text, nullable=False, comment="the same from then on"),
    Column("reason", Text, nullable=False),
    one_of("what", STEP_KINDS, "step_what"),
    comment="changes of the throttle's share, the breaker's state, the profile and the workers; pauses begun",
)

response = Table(
    "response",
    metadata,
    Column("run_id", Integer, primary_key=True, comment="0: a command outside of a run"),
    Column("host", Text, primary_key=True),
    Column("outcome", Text, primary_key=True, comment="ok, an error class, or untold"),
    Column(
        "up_to_us",
        Big,
        primary_key=True,
        comment="until the first byte, rounded up to two digits; 0: there was no answer",
    ),
    Column("count", Big, nullable=False, comment="requests"),
    comment="how many requests there were and what came of them; ask the view health",
)

damage = Table(
    "damage",
    metadata,
    Column("destination_id", ForeignKey("destination.id", ondelete="CASCADE"), primary_key=True),
    Column("found", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("found_at", Big, nullable=False),
    one_of("found", DAMAGES, "damage_found"),
    comment="finished files that verify found missing or damaged and that were not put right since",
)

total = Table(
    "total",
    metadata,
    Column("dataset", Text, primary_key=True, comment="'' where there is none"),
    Column("kind", Text, primary_key=True),
    Column(
        "state",
        Text,
        primary_key=True,
        comment="done or failed: kept at every change; all: of any state, made when asked for after a load",
    ),
    Column("files", Big, nullable=False),
    Column(
        "tasks",
        Big,
        nullable=False,
        comment="distinct contents of the dataset, each where its first path in it is",
    ),
    Column("bytes", Big, nullable=False, comment="of all files"),
    Column(
        "contents",
        Big,
        nullable=False,
        comment="distinct contents of the ledger, each where its first path is",
    ),
    Column("content_bytes", Big, nullable=False),
    comment="sums over files, by dataset and kind, so that nobody has to walk all tasks for them",
    sqlite_with_rowid=False,
)
