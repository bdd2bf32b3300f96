"""Every error that midasdl raises, as one tree.

The class says what the caller must do, the message what happened and why, the hint which command helps. The
command line prints message and hint and exits with `exit_code`; nothing else decides about exit codes.

::

    MidasdlError
    ├── StoppedError         130  somebody who waits was asked to stop
    ├── UsageError             2  the command, its options or its input cannot be used
    │   ├── ConfigurationError    a setting is unknown, of the wrong type or out of range
    │   ├── ManifestError         a manifest cannot be read, or --strict met a rejected line
    │   └── SelectionError        a selection names nothing that exists
    ├── WorkerCrashedError     1  a worker met something that midasdl did not foresee
    ├── AuthenticationError    3  CEDA does not accept us
    ├── StorageError           4  this machine's disk is full, read-only or forbidden
    ├── ServerUnavailableError 5  CEDA is away for longer than the run's patience
    └── LedgerError            6  the ledger cannot be used
        ├── LedgerMissingError    there is none where one is needed
        ├── NotALedgerError       the file is something else, or damaged
        ├── LedgerTooNewError     a newer midasdl has written it
        └── LedgerBusyError       another program kept it locked
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended, as the shell sees it."""

    DONE = 0
    SOME_FAILED = 1
    USAGE = 2
    AUTHENTICATION = 3
    STORAGE = 4
    SERVER_UNAVAILABLE = 5
    LEDGER = 6
    INTERRUPTED = 130
    TERMINATED = 143


class MidasdlError(Exception):
    """The root of the tree.

    Parameters
    ----------
    message : str
        What happened and why, as one or two sentences.
    hint : str, optional
        What to do about it, usually a command to type.
    """

    exit_code = ExitCode.SOME_FAILED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type[MidasdlError], tuple[str, str | None]]:
        return type(self), (self.message, self.hint)


class StoppedError(MidasdlError):
    """Somebody was asked to stop while it waited."""

    exit_code = ExitCode.INTERRUPTED


class UsageError(MidasdlError):
    """The command, its options or its input cannot be used."""

    exit_code = ExitCode.USAGE


class ConfigurationError(UsageError):
    """A setting is unknown, of the wrong type or out of range."""


class ManifestError(UsageError):
    """A manifest cannot be read, or `--strict` met a rejected line."""


class SelectionError(UsageError):
    """A selection names nothing that exists."""


class WorkerCrashedError(MidasdlError):
    """A worker met something that midasdl did not foresee.

    Parameters
    ----------
    trace : str
        The traceback, for whoever asks for it.
    """

    def __init__(self, message: str, hint: str | None = None, trace: str = "") -> None:
        super().__init__(message, hint)
        self.trace = trace

    def __reduce__(self) -> tuple[type[MidasdlError], tuple[str, str | None, str]]:  # type: ignore[override]
        return type(self), (self.message, self.hint, self.trace)


class AuthenticationError(MidasdlError):
    """CEDA does not accept the credentials, or there are none."""

    exit_code = ExitCode.AUTHENTICATION


class StorageError(MidasdlError):
    """The local disk is full, read-only or forbidden."""

    exit_code = ExitCode.STORAGE


class ServerUnavailableError(MidasdlError):
    """CEDA did not answer for longer than the run's patience."""

    exit_code = ExitCode.SERVER_UNAVAILABLE


class LedgerError(MidasdlError):
    """The ledger cannot be used."""

    exit_code = ExitCode.LEDGER


class LedgerMissingError(LedgerError):
    """There is no ledger where one is needed."""


class NotALedgerError(LedgerError):
    """The file is something else than a ledger, or damaged."""


class LedgerTooNewError(LedgerError):
    """A newer midasdl has written the ledger."""


class LedgerBusyError(LedgerError):
    """Another program kept the ledger locked for too long."""
