"""What is known of a run at one moment: everything that shows progress is made from this."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from midasdl.models import ErrorClass
from midasdl.progress.sizes import Group


class Phase(StrEnum):
    """What a run is busy with as a whole."""

    NOT_STARTED = "not started"
    WARMING_UP = "warming up"
    """No worker is ready yet."""
    WORKING = "working"
    PAUSED = "paused"
    """The schedule says that nobody works now."""
    STOPPING = "stopping"
    """It was asked to stop: files in flight finish."""
    ENDED = "ended"


class Confidence(StrEnum):
    """How far a predicted end can be trusted."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class Active:
    """A file that a worker is busy with.

    Attributes
    ----------
    path : str
        Its first destination.
    size_bytes : int
        What has come of it so far; 0 where nobody has told, as of bodies that are small.
    seconds : float
        Since the worker turned to it.
    """

    path: str
    size_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Server:
    """What keeps anybody from asking a server at the full rate; times are seconds since 1970, UTC.

    Attributes
    ----------
    throttle_share : float
        Of the rate that the settings allow; 1 is all of it.
    breaker : str
        ``closed``: all is well; ``open``: nobody asks; ``half-open``: one request at a time tries.
    tries_again_at_s : float or None
        While it is open.
    paused_until_s : float or None
        None if nobody is waiting for a pause to end.
    """

    host: str
    throttle_share: float = 1.0
    throttle_reason: str | None = None
    breaker: str = "closed"
    unavailable_since_s: float | None = None
    tries_again_at_s: float | None = None
    paused_until_s: float | None = None
    pause_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """Files or tasks by how they stand; ``done + failed <= total``."""

    total: int = 0
    done: int = 0
    failed: int = 0

    @property
    def left(self) -> int:
        """What is neither done nor failed."""
        return self.total - self.done - self.failed

    @property
    def share_done(self) -> float:
        """Between 0 and 1; nothing to do is all done."""
        return self.done / self.total if self.total else 1.0


@dataclass(frozen=True, slots=True)
class RunTotals:
    """What one run has come to, by the ledger: the fields of `Snapshot` that are of a run."""

    fetched: int = 0
    cached: int = 0
    retrying: int = 0
    bytes_fetched: int = 0
    failures: tuple[tuple[ErrorClass, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What the ledger says at one moment: the truth about everybody's work, a second behind.

    Attributes
    ----------
    bytes_done : int
        Of distinct contents on disk.
    claimed : int
        Tasks that workers hold.
    workers : int
        Workers that are alive, of every run on the ledger.
    not_before_s : float
        So many seconds from then on the run cannot have ended: a retry falls due only then, or a pause ends.
    groups : tuple of Group or None
        What is known of sizes; None where it was not asked for this time.
    run : RunTotals or None
        Of the run that is looked at; None where none is, or where it was not asked for this time.
    """

    files: Tally
    tasks: Tally
    bytes_done: int
    claimed: int = 0
    workers: int = 0
    not_before_s: float = 0.0
    servers: tuple[Server, ...] = ()
    groups: tuple[Group, ...] | None = None
    run: RunTotals | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How a job stands.

    Attributes
    ----------
    files, tasks : Tally
        Of the ledger, earlier runs included. People count files: paths below the data root. A task is one distinct
        content, fetched once for all its paths.
    claimed : int
        Tasks that workers hold, those in `active` included.
    fetched, cached : int
        Tasks finished in this run by a request, and without one because the right bytes were on disk.
    retrying : int
        Requests of this run that failed and are tried again.
    failures : tuple of (ErrorClass, int)
        Tasks that failed for good in this run, the most frequent class first.
    bytes_fetched : int
        Of the tasks fetched in this run.
    bytes_done, bytes_expected : int
        Distinct bytes on disk, and how many there will be by what is known of sizes; None: not known yet.
    bytes_per_s, files_per_s : float
        Over the last minute; failures and what was on disk are left out. Files here are those fetched.
    file_s : float
        How long one file takes one worker, on average over the latest ones; 0 while none has come.
    eta_s : float or None
        Seconds until the end; None: not enough is known yet.
    eta_confidence : Confidence
        Of `eta_s`.
    active : tuple of Active
        What workers are busy with, the longest first.
    latest_path : str or None
        What was begun or finished last.
    notice : str or None
        Why nothing can be fetched for the moment, as a worker has said it.
    elapsed_s : float
        Of this run.
    workers, starting : int
        Processes of this run that are alive, and those of them that are not ready yet.
    servers : tuple of Server
        As the ledger has them.
    """

    files: Tally
    tasks: Tally
    phase: Phase = Phase.WARMING_UP
    claimed: int = 0
    fetched: int = 0
    cached: int = 0
    retrying: int = 0
    failures: tuple[tuple[ErrorClass, int], ...] = ()
    bytes_fetched: int = 0
    bytes_done: int = 0
    bytes_expected: int | None = None
    bytes_per_s: float = 0.0
    files_per_s: float = 0.0
    file_s: float = 0.0
    eta_s: float | None = None
    eta_confidence: Confidence = Confidence.LOW
    active: tuple[Active, ...] = ()
    latest_path: str | None = None
    notice: str | None = None
    elapsed_s: float = 0.0
    workers: int = 0
    starting: int = 0
    servers: tuple[Server, ...] = ()
