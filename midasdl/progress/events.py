"""The messages that workers send: named tuples, because nothing else is made and pickled as quickly."""

from __future__ import annotations

from typing import NamedTuple

from midasdl.models import ErrorClass


class FileQueued(NamedTuple):
    """A worker has claimed so many tasks, and will turn to them one after the other."""

    tasks: int


class DownloadStarted(NamedTuple):
    """A worker turns to a file; `path` is its first destination."""

    task_id: int
    path: str


class DownloadProgress(NamedTuple):
    """A large body is on its way: so much of it is here, of which `held_bytes` were before this attempt."""

    task_id: int
    size_bytes: int
    held_bytes: int = 0


class DownloadCompleted(NamedTuple):
    """A file was fetched and published, at `files` destinations."""

    task_id: int
    path: str
    size_bytes: int
    elapsed_us: int
    files: int


class CacheHit(NamedTuple):
    """The right bytes were on disk already."""

    task_id: int
    path: str
    size_bytes: int
    files: int


class DownloadFailed(NamedTuple):
    """A request did not bring the file, for `files` destinations; `will_retry`: it is tried again."""

    task_id: int
    path: str
    error_class: ErrorClass
    message: str
    will_retry: bool
    files: int = 1


class DownloadAbandoned(NamedTuple):
    """The worker dropped a file: its claim was lost, or it was asked to stop."""

    task_id: int
    reason: str


class Waiting(NamedTuple):
    """Nothing can be fetched for the moment; `why` is a sentence for a person."""

    why: str


class CrewChanged(NamedTuple):
    """The coordinator's own news: so many workers are alive, and `starting` of them are not ready yet."""

    workers: int
    starting: int
    stopping: bool


class PaceChanged(NamedTuple):
    """Another profile holds, or another number of workers works; `why` is a sentence for a person.

    Attributes
    ----------
    what : str
        ``profile`` or ``workers``.
    before : str or None
        Profile, ``pause`` or number; None when a run begins.
    after : str
    paused : bool
        Nobody works until it changes again.
    """

    what: str
    before: str | None
    after: str
    why: str
    paused: bool = False


Event = (
    FileQueued
    | DownloadStarted
    | DownloadProgress
    | DownloadCompleted
    | CacheHit
    | DownloadFailed
    | DownloadAbandoned
    | Waiting
    | CrewChanged
    | PaceChanged
)
