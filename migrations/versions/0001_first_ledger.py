"""The first ledger: tasks and their destinations, manifests, runs, workers, politeness."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

Big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def partial(name: str, columns: list[str], state: str) -> None:
    where = sa.text(f"state = '{state}'")
    table = name.partition("_")[0]
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def upgrade() -> None:
    op.create_table(
        "manifest",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False, comment="as it was given to init"),
        sa.Column("md5", sa.Text(), nullable=False, comment="of the manifest itself"),
        sa.Column("loaded_at", Big, nullable=False),
        sa.Column("selection", sa.Text(), nullable=False, comment="JSON; {} is everything"),
        sa.Column("lines", sa.Integer(), nullable=False, comment="all lines, blank ones and comments too"),
        sa.Column("rejected", sa.Integer(), nullable=False, comment="lines that stand in reject"),
        sa.Column(
            "repeated", sa.Integer(), nullable=False, comment="lines that say again what an earlier one said"
        ),
        sa.Column("not_selected", sa.Integer(), nullable=False, comment="good lines outside the selection"),
        sa.Column("added", sa.Integer(), nullable=False, comment="paths that were new to the ledger"),
        sa.Column("changed", sa.Integer(), nullable=False, comment="paths whose md5 changed"),
        sa.Column("unchanged", sa.Integer(), nullable=False, comment="paths that the ledger had already"),
        sa.Column(
            "gone",
            sa.Integer(),
            nullable=False,
            comment="paths of the ledger that this manifest no longer has",
        ),
        comment="each load of a manifest, and what it brought",
    )
    op.create_table(
        "politeness",
        sa.Column("host", sa.Text(), primary_key=True, comment="name and port"),
        sa.Column("next_start_at", Big, nullable=False, comment="the earliest moment for the next request"),
        sa.Column("paused_until", Big, nullable=False, comment="nobody sends before this"),
        sa.Column("pause_reason", sa.Text()),
        sa.Column("consecutive_errors", sa.Integer(), nullable=False),
        sa.Column("requests", Big, nullable=False, comment="slots handed out so far"),
        sa.Column(
            "strikes",
            sa.Integer(),
            nullable=False,
            comment="requests for patience in a row that did not say how much",
        ),
        sa.Column("successes", Big, nullable=False, comment="files that came so far"),
        sa.Column(
            "breaker_failures",
            sa.Integer(),
            nullable=False,
            comment="failures in a row, while the breaker is closed",
        ),
        sa.Column(
            "breaker_successes",
            sa.Integer(),
            nullable=False,
            comment="successes of probes, while it is half-open",
        ),
        sa.Column(
            "breaker_open_since", Big, nullable=False, comment="since when the server is away; 0: it is there"
        ),
        sa.Column("breaker_open_until", Big, nullable=False, comment="one request tries again then"),
        sa.Column("breaker_probe_until", Big, nullable=False, comment="one request is trying now"),
        sa.Column(
            "throttle_share", sa.Float(), nullable=False, comment="of the rate that the settings allow"
        ),
        sa.Column("throttle_reason", sa.Text(), comment="why it is less than 1"),
        sa.Column("throttle_changed_at", Big, nullable=False),
        sa.Column(
            "throttle_window_answers", sa.Integer(), nullable=False, comment="answers since the last step"
        ),
        sa.Column("throttle_window_errors", sa.Integer(), nullable=False, comment="errors among them"),
        sa.Column(
            "throttle_latency_us", sa.Float(), nullable=False, comment="moving average, to the first byte"
        ),
        sa.Column("throttle_usual_us", sa.Float(), nullable=False, comment="the same, over a long time"),
        sa.Column("throttle_samples", Big, nullable=False, comment="answers that this rests on"),
        comment="what everybody knows of a server: when the next request may start",
    )
    op.create_table(
        "response",
        sa.Column("run_id", sa.Integer(), primary_key=True, comment="0: a command outside of a run"),
        sa.Column("host", sa.Text(), primary_key=True),
        sa.Column("outcome", sa.Text(), primary_key=True, comment="ok, an error class, or untold"),
        sa.Column(
            "up_to_us",
            Big,
            primary_key=True,
            comment="until the first byte, rounded up to two digits; 0: there was no answer",
        ),
        sa.Column("count", Big, nullable=False, comment="requests"),
        comment="how many requests there were and what came of them; ask the view health",
    )
    op.create_table(
        "run",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("command", sa.Text(), nullable=False, comment="run or resume"),
        sa.Column("version", sa.Text(), nullable=False, comment="of midasdl"),
        sa.Column(
            "settings", sa.Text(), nullable=False, comment="JSON: the settings that resume takes up again"
        ),
        sa.Column("started_at", Big, nullable=False),
        sa.Column("ended_at", Big, comment="NULL while the run is on, or when it was killed"),
        sa.Column("exit_code", sa.SmallInteger()),
        comment="each run or resume",
    )
    op.create_table(
        "setting",
        sa.Column("name", sa.Text(), primary_key=True, comment="data_root, archive_url"),
        sa.Column("value", sa.Text(), nullable=False),
        comment="facts about the ledger itself",
    )
    op.create_table(
        "reject",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("manifest_id", sa.Integer(), sa.ForeignKey("manifest.id"), nullable=False),
        sa.Column("line_no", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False, comment="the line, control characters escaped"),
        sa.Column("reason", sa.Text(), nullable=False),
        comment="the lines of manifests that cannot be used",
    )
    op.create_table(
        "step",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("at", Big, nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column(
            "from_value",
            sa.Text(),
            comment="share, state, end of pause, profile or number before; NULL: there was none",
        ),
        sa.Column("to_value", sa.Text(), nullable=False, comment="the same from then on"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "what IN ('throttle', 'breaker', 'pause', 'profile', 'workers')", name="step_what"
        ),
        comment="changes of the throttle's share, the breaker's state, the profile and the workers; pauses begun",
    )
    op.create_table(
        "task",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("md5", sa.Text(), nullable=False, unique=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column(
            "claim_no", sa.Integer(), nullable=False, comment="raised by each claim; fences late workers out"
        ),
        sa.Column("worker_id", sa.Integer(), comment="who holds the claim, or held the last one"),
        sa.Column("not_before", Big, nullable=False, comment="a retry waits until then; 0 is at once"),
        sa.Column(
            "attempts", sa.SmallInteger(), nullable=False, comment="requests that counted against max_retries"
        ),
        sa.Column("size_bytes", Big),
        sa.Column(
            "from_cache", sa.SmallInteger(), comment="1: the bytes were on disk already, no request was made"
        ),
        sa.Column("error_class", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("http_status", sa.SmallInteger()),
        sa.Column(
            "manifest_id",
            sa.Integer(),
            sa.ForeignKey("manifest.id"),
            nullable=False,
            comment="the manifest that brought it",
        ),
        sa.Column("first_claimed_at", Big),
        sa.Column("finished_at", Big, comment="when it became done or failed"),
        sa.Column("elapsed_us", Big, comment="of the last request, with writing and checking"),
        sa.CheckConstraint("state IN ('pending', 'in_progress', 'done', 'failed')", name="task_state"),
        comment="one row for each distinct md5: bytes to obtain once",
    )
    partial("task_claimable", ["not_before", "id"], "pending")
    partial("task_claimed", ["worker_id"], "in_progress")
    partial("task_failed", ["error_class"], "failed")
    op.create_table(
        "worker",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("run_id", sa.Integer(), sa.ForeignKey("run.id")),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column(
            "process_started",
            sa.Text(),
            nullable=False,
            comment="tells a process from a later one with its pid",
        ),
        sa.Column("started_at", Big, nullable=False),
        sa.Column("heartbeat_at", Big, nullable=False),
        sa.Column(
            "lease_until", Big, nullable=False, comment="its claims and permit may be taken back after this"
        ),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("ended_at", Big),
        sa.CheckConstraint("role IN ('worker', 'coordinator', 'command')", name="worker_role"),
        sa.CheckConstraint("state IN ('alive', 'stopped', 'dead')", name="worker_state"),
        comment="the processes of each run",
    )
    partial("worker_alive", ["id"], "alive")
    op.create_table(
        "destination",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column(
            "path",
            sa.Text(),
            nullable=False,
            unique=True,
            comment="below the archive URL and below the data root",
        ),
        sa.Column("task_id", sa.Integer(), sa.ForeignKey("task.id"), nullable=False),
        sa.Column("dataset", sa.Text()),
        sa.Column("release", sa.Text(), comment="the dataset version, such as 202407"),
        sa.Column("county", sa.Text()),
        sa.Column("station_id", sa.Text()),
        sa.Column("station_name", sa.Text()),
        sa.Column("qc_version", sa.SmallInteger()),
        sa.Column("year", sa.SmallInteger()),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column(
            "manifest_id",
            sa.Integer(),
            sa.ForeignKey("manifest.id"),
            nullable=False,
            comment="the manifest that named it first",
        ),
        sa.Column("line_no", sa.Integer(), nullable=False, comment="its line in that manifest"),
        sa.CheckConstraint(
            "kind IN ('data', 'capability', 'station-metadata', 'change-log', 'station-log', 'other')",
            name="destination_kind",
        ),
        comment="one row for each path of the manifests: where the bytes of a task must be",
    )
    op.create_index("ix_destination_task_id", "destination", ["task_id"])
    op.create_table(
        "damage",
        sa.Column(
            "destination_id",
            sa.Integer(),
            sa.ForeignKey("destination.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("found", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("found_at", Big, nullable=False),
        sa.CheckConstraint("found IN ('missing', 'corrupt', 'unreadable')", name="damage_found"),
        comment="finished files that verify found missing or damaged and that were not put right since",
    )
    op.create_table(
        "permit",
        sa.Column("worker_id", sa.Integer(), sa.ForeignKey("worker.id"), primary_key=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("taken_at", Big, nullable=False),
        sa.Column("start_at", Big, nullable=False, comment="the slot: when its request may start"),
        comment="requests in flight",
    )
    op.create_table(
        "transition",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("task_id", sa.Integer(), sa.ForeignKey("task.id", ondelete="CASCADE"), nullable=False),
        sa.Column("at", Big, nullable=False),
        sa.Column("from_state", sa.Text(), nullable=False),
        sa.Column("to_state", sa.Text(), nullable=False),
        sa.Column("worker_id", sa.Integer()),
        sa.Column("reason", sa.Text()),
        comment="changes of state of tasks that did not go straight to done; ask the view history",
    )
    op.create_index("ix_transition_task_id", "transition", ["task_id"])
