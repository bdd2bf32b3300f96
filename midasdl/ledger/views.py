"""The views that people query: plain names, UTC ISO times, everything joined.

They are made anew after every migration, so they always fit the tables.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection


def iso(column: str) -> str:
    """SQL that shows an integer time of the tables as ``2026-09-08T10:11:12Z``."""
    return f"strftime('%Y-%m-%dT%H:%M:%SZ', {column} / 1000000, 'unixepoch')"


_NOW_US = "(julianday('now') - 2440587.5) * 86400000000"
"""SQL for this moment, as tables have it."""


@dataclass(frozen=True, slots=True)
class View:
    """A question that people ask often.

    Attributes
    ----------
    purpose : str
        What a row is.
    columns : dict of str to str
        Name and meaning of each column, in the order of `query`.
    query : str
        SQL whose columns are taken by position.
    """

    purpose: str
    columns: dict[str, str]
    query: str

    def ddl(self, name: str) -> str:
        """The statement that makes the view, with its explanations inside."""
        columns = ",\n".join(
            f'  "{column}"' + (f" /* {meaning} */" if meaning else "")
            for column, meaning in self.columns.items()
        )
        return f"CREATE VIEW {name} ( /* {self.purpose} */\n{columns}\n) AS{self.query}"


_PLACE = {
    "dataset": "such as uk-hourly-weather-obs",
    "release": "the dataset version, such as 202407",
    "county": "",
    "station_id": "five digits, as text",
    "station_name": "",
    "qc_version": "1: quality controlled; 0: as received",
    "year": "",
    "kind": "data, capability, station-metadata, change-log, station-log or other",
}
_TROUBLE = {
    "path": "below the archive URL and below the data root",
    "class": "the word for midasdl retry --class",
    "message": "what happened, in words",
    "http_status": "of the last answer, if there was one",
    "attempts": "requests so far",
}

VIEWS: dict[str, View] = {
    "progress": View(
        "files and bytes for each dataset and state",
        {
            "dataset": "other: paths of unknown shape",
            "state": "pending, in_progress, done or failed",
            "files": "paths",
            "tasks": "distinct contents",
            "bytes": "of all files whose size is known",
        },
        """
        SELECT coalesce(d.dataset, 'other'), t.state, count(*), count(DISTINCT t.id), sum(t.size_bytes)
          FROM destination d JOIN task t ON t.id = d.task_id
         GROUP BY 1, 2
         ORDER BY 1, 2""",
    ),
    "failures": View(
        "every path that could not be fetched, and why; midasdl retry puts them back",
        {**_TROUBLE, "when": "", "md5": "of the manifest"},
        f"""
        SELECT d.path, t.error_class, t.error, t.http_status, t.attempts, {iso("t.finished_at")}, t.md5
          FROM task t JOIN destination d ON d.task_id = t.id
         WHERE t.state = 'failed'""",
    ),
    "waiting": View(
        "every path that failed for the moment and waits for its retry",
        {**_TROUBLE, "retry_at": "not before this", "md5": "of the manifest"},
        f"""
        SELECT d.path, t.error_class, t.error, t.http_status, t.attempts, {iso("t.not_before")}, t.md5
          FROM task t JOIN destination d ON d.task_id = t.id
         WHERE t.state = 'pending' AND t.not_before > 0""",
    ),
    "damaged": View(
        "finished files that midasdl verify found missing or damaged; verify --resume --repair puts them back",
        {
            "path": "below the data root",
            "found": "missing, corrupt or unreadable",
            "detail": "what is there instead, or why it cannot be read",
            "found_at": "",
            "md5": "of the manifest",
        },
        f"""
        SELECT d.path, g.found, g.detail, {iso("g.found_at")}, t.md5
          FROM damage g
          JOIN destination d ON d.id = g.destination_id
          JOIN task t ON t.id = d.task_id
         WHERE t.state = 'done' AND t.finished_at <= g.found_at""",
    ),
    "downloads": View(
        "one row a file, everything joined",
        {
            "path": "below the archive URL and below the data root",
            "state": "pending, in_progress, done or failed",
            "md5": "of the manifest",
            "size_bytes": "",
            **_PLACE,
            "attempts": "requests so far",
            "from_cache": "1: the bytes were on disk already, no request was made",
            "http_status": "of the last answer, if there was one",
            "error_class": "of the last trouble; NULL when done",
            "error": "the same in words",
            "first_claimed_at": "when work on it began",
            "finished_at": "when it became done or failed",
            "elapsed_ms": "of the last request, with writing and checking",
            "worker": "who has it, or had it last",
            "run": "of that worker",
            "manifest": "the manifest that named it first",
            "line_no": "its line there",
            "task_id": "the same for files with the same contents",
        },
        f"""
        SELECT d.path, t.state, t.md5, t.size_bytes, d.dataset, d.release, d.county, d.station_id,
               d.station_name, d.qc_version, d.year, d.kind, t.attempts, t.from_cache, t.http_status,
               t.error_class, t.error, {iso("t.first_claimed_at")}, {iso("t.finished_at")},
               t.elapsed_us / 1000.0, w.name, w.run_id, m.name, d.line_no, t.id
          FROM destination d
          JOIN task t ON t.id = d.task_id
          JOIN manifest m ON m.id = d.manifest_id
          LEFT JOIN worker w ON w.id = t.worker_id""",
    ),
    "stations": View(
        "one row a station and dataset: what there is and what is on disk",
        {
            "station_id": "five digits, as text",
            "station_name": "",
            "county": "",
            "dataset": "",
            "files": "all its files in the ledger",
            "done": "files on disk",
            "failed": "files that could not be fetched",
            "first_year": "of its files in the ledger",
            "last_year": "",
            "bytes": "of the files whose size is known",
        },
        """
        SELECT d.station_id, d.station_name, d.county, d.dataset, count(*), sum(t.state = 'done'),
               sum(t.state = 'failed'), min(d.year), max(d.year), sum(t.size_bytes)
          FROM destination d JOIN task t ON t.id = d.task_id
         WHERE d.station_id IS NOT NULL
         GROUP BY 1, 2, 3, 4
         ORDER BY 1, 4""",
    ),
    "throughput": View(
        "what was finished in each minute in which anything was",
        {
            "minute": "such as 2026-09-08T10:11Z",
            "files": "distinct contents that became done",
            "bytes": "of those",
            "from_cache": "of those, how many were on disk already",
            "failed": "contents that failed for good",
        },
        """
        SELECT strftime('%Y-%m-%dT%H:%MZ', finished_at / 1000000, 'unixepoch'), sum(state = 'done'),
               coalesce(sum(CASE WHEN state = 'done' THEN size_bytes END), 0),
               sum(state = 'done' AND from_cache = 1), sum(state = 'failed')
          FROM task
         WHERE finished_at IS NOT NULL
         GROUP BY 1
         ORDER BY 1""",
    ),
    "workers_now": View(
        "the workers that are alive, and what each holds",
        {
            "worker": "",
            "run": "",
            "host": "",
            "pid": "",
            "claimed": "tasks that it holds",
            "requesting_from": "the server of its request, if it has one in flight or waits for its slot",
            "first_path": "the file that it works on, or one of the next",
            "started_at": "",
            "heartbeat_at": "when the coordinator last vouched for it",
        },
        f"""
        SELECT w.name, w.run_id, w.host, w.pid, count(t.id), p.host,
               (SELECT min(d.path) FROM destination d WHERE d.task_id = min(t.id)),
               {iso("w.started_at")}, {iso("w.heartbeat_at")}
          FROM worker w
          LEFT JOIN task t ON t.worker_id = w.id AND t.state = 'in_progress'
          LEFT JOIN permit p ON p.worker_id = w.id
         WHERE w.state = 'alive' AND w.role = 'worker'
         GROUP BY w.id
         ORDER BY w.id""",
    ),
    "history": View(
        "each change of state of each task",
        {
            "task_id": "",
            "seq": "rising with time for each task: ORDER BY task_id, seq",
            "at": "",
            "at_us": "the same in microseconds since 1970",
            "from_state": "NULL when it was loaded",
            "to_state": "",
            "worker": "",
            "reason": "loaded, claimed, finished, requeued, stopped, worker died, ... or an error class",
        },
        # a task that went straight to done has no rows in transition: its three moments stand in manifest and task
        f"""
        SELECT task_id, seq, {iso("at_us")}, at_us, from_state, to_state, w.name, reason
          FROM (SELECT task_id, id + 2 AS seq, at AS at_us, from_state, to_state, worker_id, reason
                  FROM transition
                UNION ALL
                SELECT t.id, 0, m.loaded_at, NULL, 'pending', NULL, 'loaded'
                  FROM task t JOIN manifest m ON m.id = t.manifest_id
                UNION ALL
                SELECT id, 1, first_claimed_at, 'pending', 'in_progress', worker_id, 'claimed'
                  FROM task WHERE claim_no = 1 AND state IN ('in_progress', 'done')
                   AND NOT EXISTS (SELECT 1 FROM transition x
                                    WHERE x.task_id = task.id AND x.to_state = 'in_progress')
                UNION ALL
                SELECT id, 2, finished_at, 'in_progress', 'done', worker_id, 'finished'
                  FROM task WHERE claim_no = 1 AND state = 'done'
                   AND NOT EXISTS (SELECT 1 FROM transition x
                                    WHERE x.task_id = task.id AND x.to_state = 'done')) AS moves
          LEFT JOIN worker w ON w.id = moves.worker_id""",
    ),
    "time_in_state": View(
        "how long each task has spent in each state it has left, as far as its history is kept",
        {"task_id": "", "state": "", "seconds": ""},
        # where the oldest moves were trimmed away, nobody knows when the first claim ended the first wait
        """
        SELECT stays.task_id, stays.state, sum(left_at - at_us) / 1000000.0
          FROM (SELECT task_id, seq, to_state AS state, at_us,
                       lead(at_us) OVER (PARTITION BY task_id ORDER BY seq) AS left_at
                  FROM history) AS stays
          JOIN task t ON t.id = stays.task_id
         WHERE left_at IS NOT NULL AND (seq > 0 OR left_at = t.first_claimed_at)
         GROUP BY 1, 2""",
    ),
    "health": View(
        "one row a server: how it has answered, and what keeps anybody from asking it",
        {
            "host": "name and port",
            "requests": "of the last run; before the first run, of commands",
            "success_rate": "the share of them that brought what was asked for; 1 is all",
            "errors": "the others by class, the most frequent first; the view responses has them one by one",
            "p50_ms": "half of the answers began within this; every time is rounded up to two digits",
            "p95_ms": "95 of 100 answers",
            "p99_ms": "99 of 100 answers",
            "active_requests": "in flight now, of everybody; not counted where nothing is limited",
            "consecutive_errors": "up to now, over all workers",
            "breaker": "closed: all is well; open: nobody asks; half-open: one request tries",
            "unavailable_since": "NULL while the breaker is closed",
            "tries_again_at": "while it is open: when one request tries",
            "paused_until": "NULL if nobody is waiting for a pause to end",
            "pause_reason": "",
            "throttle_share": "of the rate that the settings allow; 1 is all of it",
            "throttle_reason": "why it is less than 1",
        },
        # a percentile of rounded times is the rounded percentile: rounding keeps their order
        f"""
        WITH counted AS (SELECT host, outcome, up_to_us, count FROM response
                          WHERE run_id = (SELECT coalesce(max(id), 0) FROM run)),
             outcomes AS (SELECT host, outcome, sum(count) AS requests FROM counted GROUP BY 1, 2),
             errors AS (SELECT host, group_concat(outcome || ' ' || requests, ', ') AS words
                          FROM (SELECT * FROM outcomes WHERE outcome <> 'ok'
                                 ORDER BY host, requests DESC, outcome)
                         GROUP BY host),
             totals AS (SELECT host, sum(count) AS requests,
                               sum(CASE WHEN outcome = 'ok' THEN count ELSE 0 END) AS ok
                          FROM counted GROUP BY host),
             ranked AS (SELECT host, up_to_us, sum(sum(count)) OVER (PARTITION BY host) AS answers,
                               sum(sum(count)) OVER (PARTITION BY host ORDER BY up_to_us) AS so_far
                          FROM counted WHERE up_to_us > 0 GROUP BY host, up_to_us),
             latencies AS (SELECT host,
                                  min(CASE WHEN so_far * 100 >= answers * 50 THEN up_to_us END) AS p50_us,
                                  min(CASE WHEN so_far * 100 >= answers * 95 THEN up_to_us END) AS p95_us,
                                  min(CASE WHEN so_far * 100 >= answers * 99 THEN up_to_us END) AS p99_us
                             FROM ranked GROUP BY host)
        SELECT hosts.host, coalesce(t.requests, 0), 1.0 * t.ok / t.requests, e.words,
               l.p50_us / 1000.0, l.p95_us / 1000.0, l.p99_us / 1000.0,
               (SELECT count(*) FROM permit
                 WHERE permit.host = hosts.host AND permit.start_at <= {_NOW_US}),
               coalesce(p.consecutive_errors, 0),
               CASE WHEN coalesce(p.breaker_open_since, 0) = 0 THEN 'closed'
                    WHEN p.breaker_probe_until <> 0 OR p.breaker_successes <> 0 THEN 'half-open'
                    ELSE 'open' END,
               CASE WHEN p.breaker_open_since > 0 THEN {iso("p.breaker_open_since")} END,
               CASE WHEN p.breaker_open_since > 0 THEN {iso("p.breaker_open_until")} END,
               CASE WHEN p.paused_until > {_NOW_US} THEN {iso("p.paused_until")} END,
               CASE WHEN p.paused_until > {_NOW_US} THEN p.pause_reason END,
               coalesce(p.throttle_share, 1.0), p.throttle_reason
          FROM (SELECT host FROM politeness UNION SELECT host FROM response) AS hosts
          LEFT JOIN politeness p ON p.host = hosts.host
          LEFT JOIN totals t ON t.host = hosts.host
          LEFT JOIN errors e ON e.host = hosts.host
          LEFT JOIN latencies l ON l.host = hosts.host
         ORDER BY hosts.host""",
    ),
    "responses": View(
        "how the requests of the latest runs went: one row a run, server and outcome",
        {
            "run": "NULL: commands outside of any run",
            "host": "name and port",
            "outcome": "ok, an error class, or untold: given up on this side, as when the disk is full",
            "requests": "written down about once a second; a worker that is killed takes its last second along",
            "answered": "of those, how many had an answer to measure",
            "slowest_ms": "until the first byte of the slowest answer, rounded up to two digits",
        },
        """
        SELECT nullif(run_id, 0), host, outcome, sum(count),
               sum(CASE WHEN up_to_us > 0 THEN count ELSE 0 END), nullif(max(up_to_us), 0) / 1000.0
          FROM response
         GROUP BY run_id, host, outcome
         ORDER BY run_id DESC, host, 4 DESC, outcome""",
    ),
    "steps": View(
        "why it is slow: each change of throttle, breaker, profile and number of workers, and each pause begun",
        {
            "step": "rising with time",
            "at": "",
            "host": "name and port",
            "what": "throttle, breaker, pause, profile or workers",
            "from_value": "share, state, end of the pause, profile or number before; NULL: there was none",
            "to_value": "the same from then on",
            "reason": "",
        },
        f"""
        SELECT id, {iso("at")}, host, what, from_value, to_value, reason
          FROM step
         ORDER BY id""",
    ),
    "runs": View(
        "every run, the latest first",
        {
            "run": "",
            "command": "run or resume",
            "version": "of midasdl",
            "started_at": "",
            "ended_at": "NULL while the run is on, or when it was killed",
            "exit_code": "as midasdl --help lists them",
            "seconds": "",
        },
        f"""
        SELECT id, command, version, {iso("started_at")}, {iso("ended_at")}, exit_code,
               (ended_at - started_at) / 1000000.0
          FROM run ORDER BY id DESC""",
    ),
}


def create_views(connection: Connection) -> None:
    """Make every view anew.

    Crash safety: runs inside the caller's transaction.
    """
    drop_views(connection)
    for name, view in VIEWS.items():
        connection.exec_driver_sql(view.ddl(name))


def drop_views(connection: Connection) -> None:
    """Remove every view, so that a migration may rebuild the tables beneath."""
    for name in reversed(VIEWS):
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")


def spoilt_views(connection: Connection) -> list[str]:
    """The views that are not what `create_views` has made of them."""
    rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_schema WHERE type = 'view'")
    there: dict[str, str] = dict(map(tuple, rows))
    return [name for name, view in VIEWS.items() if there.get(name) != view.ddl(name)]
