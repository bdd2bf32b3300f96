"""Pure data that every room shares: no behaviour, no input or output."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What a file of the archive is; its path tells."""

    DATA = "data"
    CAPABILITY = "capability"
    STATION_METADATA = "station-metadata"
    CHANGE_LOG = "change-log"
    STATION_LOG = "station-log"
    OTHER = "other"


class FileInfo(NamedTuple):
    """One accepted line of a manifest.

    Attributes
    ----------
    md5 : str
        32 lower-case hexadecimal digits.
    path : str
        Relative to the archive's root and to the data root, ``/`` between components, without a leading ``./``.
    file_name : str
        The last component of `path`.
    dataset, release, county, station_id, station_name : str or None
        As they stand in the path; `release` is the dataset version (``202407``), `station_id` has five digits.
    qc_version, year : int or None
    kind : Kind
        `Kind.OTHER` where the path has no shape that is known; every other field is then None.
    line_no : int
        Counted from 1 in the manifest as it was read.
    """

    md5: str
    path: str
    file_name: str
    dataset: str | None
    release: str | None
    qc_version: int | None
    county: str | None
    station_id: str | None
    station_name: str | None
    year: int | None
    kind: Kind
    line_no: int


class Reject(NamedTuple):
    """One line of a manifest that cannot be used: where it stands, what it says, why not."""

    line_no: int
    text: str
    reason: str


class TaskState(StrEnum):
    """Where a task stands. Waiting for a retry is PENDING with a not-before time.

    ``PENDING -> IN_PROGRESS -> DONE | FAILED | PENDING``; ``DONE | FAILED -> PENDING`` when requeued.
    """

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    DONE = "done"
    FAILED = "failed"


class ErrorClass(StrEnum):
    """Why a download did not succeed: the word in the ledger, in `retry --class` and in every summary."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"
    INCOMPLETE = "incomplete"
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    SERVER_ERROR = "server-error"
    UNEXPECTED_PAGE = "unexpected-page"
    NOT_FOUND = "not-found"
    REJECTED = "rejected"
    FORBIDDEN = "forbidden"
    AUTHENTICATION = "authentication"
    TLS = "tls"
    PROXY = "proxy"
    CHECKSUM = "checksum"
    STORAGE = "storage"
