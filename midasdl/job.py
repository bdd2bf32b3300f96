"""One run from its first look at the disk to its last word."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from midasdl.admission import see_that_there_is_a_token
from midasdl.berth import NO_LIMITS, RunLimits
from midasdl.ceda.credentials import Credentials
from midasdl.ceda.network import trusted_bundle
from midasdl.config import Settings
from midasdl.config.recording import to_record
from midasdl.coordinator import Coordinator, RunReport
from midasdl.errors import ExitCode, MidasdlError, StoppedError, StorageError
from midasdl.ledger.ledger import Ledger, data_root_of
from midasdl.ledger.overview import Counts, Overview
from midasdl.ledger.runs import Recovered, RunRegistry
from midasdl.ledger.tasks import TaskQueue
from midasdl.ledger.totals import Totals
from midasdl.pacing import sit_out
from midasdl.progress.audience import Listener, Nobody
from midasdl.space import Need, Room, expected_bytes, lack_of_room, places_of, refuse_if, rooms_at
from midasdl.worker_process import WorkerOrder, store_from


@dataclass(frozen=True, slots=True)
class Prepared:
    """What there is to work on, and where.

    Attributes
    ----------
    rooms : tuple of Room
        What the disks have left to which files come.
    expected_bytes : int
        What is still to come, as far as can be told by what is there; 0 where it cannot.
    """

    recovered: Recovered
    counts: Counts
    rooms: tuple[Room, ...]
    expected_bytes: int


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended.

    Attributes
    ----------
    exit_code : ExitCode
        What the shell sees.
    run_id : int or None
        None where there was nothing to do.
    """

    exit_code: ExitCode
    report: RunReport
    counts: Counts
    elapsed_s: float
    run_id: int | None = None


class Job:
    """A ledger, the place for its files, and the settings of one run.

    Parameters
    ----------
    ledger : Ledger
        Open; the caller closes it.
    settings : Settings
    command : str
        ``run`` or ``resume``, for the record.
    """

    def __init__(self, ledger: Ledger, settings: Settings, command: str = "run") -> None:
        self._ledger = ledger
        self._settings = settings
        self._command = command
        self._registry = RunRegistry(ledger)
        self._overview = Overview(ledger)
        self.data_root = data_root_of(ledger)
        self._coordinator: Coordinator | None = None
        self._stop: int | None = None

    def stop(self, exit_code: int = ExitCode.INTERRUPTED) -> None:
        """Ask the run to end soon; may be called from any thread and from signal handlers."""
        self._stop = exit_code
        if self._coordinator is not None:
            self._coordinator.stop(exit_code)

    @property
    def is_asked_to_stop(self) -> bool:
        """Whether `stop` has been called."""
        return self._stop is not None

    def prepare(self, *, retry_failed: bool = False) -> Prepared:
        """Take back what dead processes held, see that the data root has room and can be written, and count.

        Raises
        ------
        StorageError, LedgerError
            The run is on record all the same, so that it can be resumed.
        """
        recovered = self._registry.recover()
        if retry_failed:
            TaskQueue(self._ledger).requeue()
        Totals(self._ledger).count_if_due()
        counts = self._overview.counts()
        try:
            store = store_from(self._settings, self.data_root)
            store.prepare()
            store.remove_stale_parts()
            store.remove_stale_partials(self._overview.not_done, self._ledger.clock.now_us() / 1e6)
            rooms, expected = self._require_room(counts)
        except StorageError as error:
            self._record_that_nothing_began(error)
            raise
        return Prepared(recovered, counts, rooms, expected)

    def _require_room(self, counts: Counts) -> tuple[tuple[Room, ...], int]:
        rooms = rooms_at(places_of(self.data_root))
        expected = expected_bytes(self._overview.sizes()) if counts.unfinished else 0
        if counts.unfinished:
            need = Need(self._settings.storage.min_free_bytes, expected, counts.unfinished)
            refuse_if(lack_of_room(rooms, need, rooms_at([self._ledger.path])))
        return tuple(rooms), expected

    def _record_that_nothing_began(self, error: StorageError) -> None:
        with suppress(MidasdlError):  # the ledger may be on the same disk
            run_id = self._registry.start_run(self._command, to_record(self._settings))
            self._registry.end_run(run_id, error.exit_code)

    def run(
        self,
        credentials: Callable[[], Credentials],
        listener: Listener | None = None,
        limits: RunLimits = NO_LIMITS,
    ) -> RunResult:
        """Fetch everything that is not on disk yet; call `prepare` first.

        Parameters
        ----------
        credentials : callable
            Asked only if there is anything to fetch.
        listener : Listener, optional
            Hears how the run goes.
        limits : RunLimits, optional
            When to stop though there is more to do.

        Raises
        ------
        MidasdlError
            What keeps the run from starting. What stops it later stands in the result.
        """
        started_s = self._ledger.clock.monotonic()
        if self._overview.counts().unfinished == 0:
            return self._result(RunReport(), started_s)
        access = credentials()
        trusted_bundle(self._settings.network.ca_bundle)
        run_id = self._registry.start_run(self._command, to_record(self._settings))
        exit_code = int(ExitCode.SOME_FAILED)
        try:
            report = self._sign_in_and_work(run_id, access, listener or Nobody(), limits)
            result = self._result(report, started_s, run_id)
            exit_code = result.exit_code
        except MidasdlError as error:
            exit_code = error.exit_code
            raise
        finally:
            self._registry.end_run(run_id, exit_code)
            TaskQueue(self._ledger).trim_history(self._settings.history.max_rows)
        return result

    def _sign_in_and_work(
        self, run_id: int, credentials: Credentials, listener: Listener, limits: RunLimits
    ) -> RunReport:
        def is_out_of_time() -> bool:
            return limits.deadline_s is not None and self._ledger.clock.monotonic() >= limits.deadline_s

        def is_asked_to_stop() -> bool:
            return self._stop is not None or is_out_of_time()

        pace = sit_out(self._ledger, self._settings, run_id, listener, is_asked_to_stop)
        try:
            see_that_there_is_a_token(
                self._ledger, pace.settings, run_id, credentials, listener, is_asked_to_stop
            )
        except StoppedError:
            stopped_by = "--max-time" if self._stop is None else None
            return RunReport(interrupted_by=self._stop, stopped_by=stopped_by)
        return self._run_workers(run_id, credentials, listener, limits)

    def _run_workers(
        self, run_id: int, credentials: Credentials, listener: Listener, limits: RunLimits
    ) -> RunReport:
        began_us = self._ledger.clock.now_us()

        def order(name: str) -> WorkerOrder:
            return WorkerOrder(
                self._ledger.path, run_id, name, self.data_root, self._settings, credentials, began_us
            )

        self._coordinator = Coordinator(self._ledger, order, self._settings, run_id, listener, limits)
        if self._stop is not None:
            self._coordinator.stop(self._stop)
        return self._coordinator.run()

    def _result(self, report: RunReport, started_s: float, run_id: int | None = None) -> RunResult:
        self._overview.require_that_all_adds_up()
        counts = self._overview.counts()
        elapsed_s = self._ledger.clock.monotonic() - started_s
        return RunResult(exit_code_of(report, counts), report, counts, elapsed_s, run_id)


def exit_code_of(report: RunReport, counts: Counts) -> ExitCode:
    """What a run tells the shell: trouble first, then interruption, then whether all is done."""
    if report.error is not None:
        return report.error.exit_code
    if report.interrupted_by is not None:
        return ExitCode(report.interrupted_by)
    return ExitCode.DONE if counts.failed + counts.unfinished == 0 else ExitCode.SOME_FAILED
