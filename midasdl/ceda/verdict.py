"""What an answer, or the lack of one, means for a download: pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from midasdl.errors import MidasdlError
from midasdl.models import ErrorClass
from midasdl.politeness.breaker import Answer
from midasdl.politeness.state import Report


class Fate(Enum):
    """What is to happen to a file whose request did not succeed."""

    RETRY = "wait a little and try again"
    RETRY_LATER = "wait longer and try again"
    FAIL = "it will not get better by asking again"
    REAUTHENTICATE = "get another token and ask once more"
    STOP = "no file can be fetched until a person has acted"


FATES: dict[ErrorClass, Fate] = {
    ErrorClass.TIMEOUT: Fate.RETRY,
    ErrorClass.CONNECTION: Fate.RETRY,
    ErrorClass.INCOMPLETE: Fate.RETRY,
    ErrorClass.THROTTLED: Fate.RETRY,
    ErrorClass.UNAVAILABLE: Fate.RETRY,
    ErrorClass.CHECKSUM: Fate.RETRY,
    ErrorClass.SERVER_ERROR: Fate.RETRY_LATER,
    ErrorClass.UNEXPECTED_PAGE: Fate.RETRY_LATER,
    ErrorClass.NOT_FOUND: Fate.FAIL,
    ErrorClass.REJECTED: Fate.FAIL,
    ErrorClass.FORBIDDEN: Fate.FAIL,
    ErrorClass.AUTHENTICATION: Fate.REAUTHENTICATE,
    ErrorClass.TLS: Fate.STOP,
    ErrorClass.PROXY: Fate.STOP,
    ErrorClass.STORAGE: Fate.STOP,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a request did not bring the file.

    Attributes
    ----------
    error_class : ErrorClass
    message : str
        For the person who reads the ledger.
    http_status : int or None
    retry_after_s : float or None
        How long the server asked everybody to wait.
    """

    error_class: ErrorClass
    message: str
    http_status: int | None = None
    retry_after_s: float | None = None

    @property
    def fate(self) -> Fate:
        """What is to happen to the file."""
        return FATES[self.error_class]

    @property
    def costs_an_attempt(self) -> bool:
        """Whether it counts against the retries of the file; being told to slow down is not the file's fault."""
        return self.error_class is not ErrorClass.THROTTLED


DOWN = frozenset({ErrorClass.TIMEOUT, ErrorClass.CONNECTION, ErrorClass.UNAVAILABLE})
UNSURE = frozenset({ErrorClass.SERVER_ERROR, ErrorClass.THROTTLED, ErrorClass.TLS, ErrorClass.PROXY})
HEALTHY = frozenset(
    {
        ErrorClass.NOT_FOUND,
        ErrorClass.REJECTED,
        ErrorClass.FORBIDDEN,
        ErrorClass.AUTHENTICATION,
        ErrorClass.CHECKSUM,
    }
)


def report_on(verdict: Verdict | None, latency_us: int | None) -> Report:
    """What a request says about the server, for everybody who shares the ledger; None is a file that came."""
    if verdict is None:
        return Report("ok", Answer.GOOD, is_error=False, latency_us=latency_us)
    name = verdict.error_class
    answer = Answer.DOWN if name in DOWN else Answer.UNSURE if name in UNSURE else Answer.GOOD
    return Report(
        name,
        answer,
        is_error=name not in HEALTHY,
        latency_us=latency_us,
        asks_to_wait=verdict.http_status in {429, 503},
        http_status=verdict.http_status,
        retry_after_us=None if verdict.retry_after_s is None else int(verdict.retry_after_s * 1e6),
    )


class FetchError(MidasdlError):
    """A request did not bring the file; `verdict` says why and what next."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict

    def __reduce__(self) -> tuple[type[FetchError], tuple[Verdict]]:  # type: ignore[override]
        return type(self), (self.verdict,)
