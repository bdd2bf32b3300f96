"""From events to counts: the one place that derives them."""

from __future__ import annotations

from collections import Counter
from math import inf

from midasdl.models import ErrorClass
from midasdl.progress.busy import BusyFiles
from midasdl.progress.counts import counts_at_start
from midasdl.progress.eta import Eta, Left, Pace, eta_of
from midasdl.progress.events import (
    CacheHit,
    CrewChanged,
    DownloadAbandoned,
    DownloadCompleted,
    DownloadFailed,
    DownloadProgress,
    DownloadStarted,
    Event,
    FileQueued,
    PaceChanged,
    Waiting,
)
from midasdl.progress.pace import Latest, Meter
from midasdl.progress.sizes import SizeBook
from midasdl.progress.snapshot import Confidence, Phase, Reading, Snapshot

__all__ = ["Snapshot", "Tracker"]

ENDS_REMEMBERED = 10_000
"""So many ends are known by task, so that a repeated message is told from a new one."""

NOTICE_S = 30.0
"""Why nothing can be fetched is no news after this."""


class Tracker:
    """Follows one run.

    Parameters
    ----------
    total, done, failed : int
        Tasks of the ledger when the run starts.
    started_s : float
        Monotonic seconds.
    files : int, optional
        Paths of the ledger; as many as tasks where nobody says.

    Notes
    -----
    Repeated, late and lost messages change a picture only: counts never fall and never pass the total, and what was
    lost is caught up with when the ledger is read. Memory is the same for a hundred tasks and for millions.
    """

    def __init__(
        self, total: int, done: int, failed: int, started_s: float, files: int | None = None
    ) -> None:
        self._counts = counts_at_start(total, done, failed, files)
        self._started_s = started_s
        self._fetched = self._cached = self._retrying = self._claimed = self._bytes_fetched = 0
        self._failures: Counter[ErrorClass] = Counter()
        self._ended: dict[int, None] = {}
        self._busy = BusyFiles()
        self._latest_path: str | None = None
        self._notice: tuple[float, str] | None = None
        self._meter = Meter()
        self._latest = Latest()
        self._sizes: SizeBook | None = None
        self._newest: Reading | None = None
        self._read_s = started_s
        self._crew = CrewChanged(0, 0, stopping=False)

    def follow(self, event: Event, now_s: float) -> None:
        """Take in one message."""
        match event:
            case DownloadCompleted():  # by far the most, therefore first
                self._complete(event, now_s)
            case FileQueued():
                self._claimed += event.tasks
            case DownloadStarted():
                self._begin(event, now_s)
            case DownloadProgress():
                self._meter.add(now_s, self._busy.grow(event.task_id, event.size_bytes, event.held_bytes))
            case DownloadAbandoned():
                self._let_go(event.task_id, now_s)
            case CacheHit():
                self._find(event, now_s)
            case DownloadFailed():
                self._fail(event, now_s)
            case Waiting() | PaceChanged():
                lasts = isinstance(event, PaceChanged) and event.paused
                self._notice = (inf if lasts else now_s, event.why)
            case CrewChanged():
                self._crew = event

    def learn(self, reading: Reading, now_s: float, *, at_once: bool = False) -> None:
        """Take in what the ledger says; `at_once`: no message is under way that tells the same."""
        self._counts.hear(reading, now_s, at_once=at_once)
        self._take_in(reading, now_s)

    def settle(self, reading: Reading, now_s: float) -> None:
        """Every worker has ended: what the ledger says now is all there is to say."""
        self._counts.settle(reading)
        self._take_in(reading, now_s)
        self._busy.clear()
        if reading.run is not None:
            run = reading.run
            self._fetched, self._cached, self._retrying = run.fetched, run.cached, run.retrying
            self._bytes_fetched, self._failures = run.bytes_fetched, Counter(dict(run.failures))

    def idle(self) -> None:
        """Nobody is busy with any file: whoever tells who is begins anew."""
        self._busy.clear()

    def snapshot(self, now_s: float, workers: int = 0, *, ended: bool = False) -> Snapshot:
        """How things stand; `workers` are alive."""
        self._counts.believe_what_is_due(now_s)
        minute = self._meter.window(now_s)
        eta = self._eta(now_s, workers)
        return Snapshot(
            files=self._counts.files,
            tasks=self._counts.tasks,
            phase=self._phase(ended=ended),
            claimed=self._claimed,
            fetched=self._fetched,
            cached=self._cached,
            retrying=self._retrying,
            failures=tuple(self._failures.most_common()),
            bytes_fetched=self._bytes_fetched,
            bytes_done=self._counts.bytes_done.shown,
            bytes_expected=self._bytes_expected(),
            bytes_per_s=minute.bytes_per_s,
            files_per_s=minute.files_per_s,
            file_s=self._latest.file_s,
            eta_s=None if eta is None else eta.seconds,
            eta_confidence=Confidence.LOW if eta is None else eta.confidence,
            active=self._busy.at(now_s),
            latest_path=self._latest_path,
            notice=None if self._notice is None or now_s > self._notice[0] + NOTICE_S else self._notice[1],
            elapsed_s=now_s - self._started_s,
            workers=workers,
            starting=min(self._crew.starting, workers),
            servers=() if self._newest is None else self._newest.servers,
        )

    def _take_in(self, reading: Reading, now_s: float) -> None:
        """What only the ledger knows."""
        self._newest, self._read_s = reading, now_s
        self._claimed = reading.claimed
        if reading.groups is not None:
            self._sizes = SizeBook(reading.groups)

    @property
    def _is_paused(self) -> bool:
        """Whether the schedule has said so, and has not said otherwise since."""
        return self._notice is not None and self._notice[0] == inf

    def _phase(self, *, ended: bool) -> Phase:
        if ended or self._crew.stopping:
            return Phase.ENDED if ended else Phase.STOPPING
        if self._is_paused:
            return Phase.PAUSED
        is_warm = self._crew.workers > self._crew.starting or self._ended
        return Phase.WORKING if is_warm else Phase.WARMING_UP

    def _begin(self, event: DownloadStarted, now_s: float) -> None:
        if event.task_id in self._ended:
            return
        self._busy.begin(event.task_id, event.path, now_s)
        self._meter.begin(now_s)
        self._latest_path = event.path
        if not self._is_paused:
            self._notice = None

    def _complete(self, event: DownloadCompleted, now_s: float) -> None:
        counted = self._let_go(event.task_id, now_s, came=True)
        if not self._end(event.task_id):
            return
        self._counts.finish(event.files, event.size_bytes)
        self._fetched += 1
        self._bytes_fetched += event.size_bytes
        self._meter.add(now_s, max(0, event.size_bytes - counted), 1)
        self._latest.fetched(event.elapsed_us / 1e6)
        self._latest_path = event.path
        if self._sizes is not None:
            self._sizes.came(event.path, event.size_bytes)

    def _find(self, event: CacheHit, now_s: float) -> None:
        self._let_go(event.task_id, now_s)
        if not self._end(event.task_id):
            return
        self._counts.finish(event.files, event.size_bytes)
        self._cached += 1
        self._latest.cached()
        self._latest_path = event.path
        if self._sizes is not None:
            self._sizes.came(event.path, event.size_bytes)

    def _fail(self, event: DownloadFailed, now_s: float) -> None:
        self._let_go(event.task_id, now_s)
        if event.will_retry:
            self._retrying += 1
        elif self._end(event.task_id):
            self._counts.fail(event.files)
            self._failures[event.error_class] += 1
            self._latest.failed()
            if self._sizes is not None:
                self._sizes.failed(event.path)

    def _let_go(self, task_id: int, now_s: float, *, came: bool = False) -> int:
        """No worker has the file any more; what was counted of one that did not come is taken back.

        Returns
        -------
        int
            How much of it has been counted, or was here before.
        """
        self._claimed = max(0, self._claimed - 1)
        here, counted = self._busy.end(task_id)
        if counted and not came:
            self._meter.add(now_s, -counted)
        return here

    def _end(self, task_id: int) -> bool:
        """Whether this is the first news of the task's end, and there is room for it below the total."""
        if task_id in self._ended or self._counts.room <= 0:
            return False
        self._ended[task_id] = None
        if len(self._ended) > ENDS_REMEMBERED:
            del self._ended[next(iter(self._ended))]
        return True

    def _bytes_expected(self) -> int | None:
        """Never less than what is there."""
        if self._sizes is None:
            return None
        return self._counts.bytes_done.shown + round(self._sizes.expected_bytes(self._counts.room))

    def _eta(self, now_s: float, workers: int) -> Eta | None:
        """For this run's share of the work, where others work on the ledger too."""
        reading = self._newest
        if self._sizes is None or reading is None or self._latest.came_share == 0:
            return None
        tasks = self._counts.room
        if tasks and not workers:
            return None
        share = workers / max(1, workers, reading.workers)
        to_come = self._sizes.expected_bytes(tasks) * self._latest.came_share - self._busy.size_bytes
        left = Left(
            tasks * self._latest.asked_share * share,
            max(0.0, to_come) * share,
            self._sizes.guessed_share(),
            reading.not_before_s - (now_s - self._read_s),
        )
        return eta_of(left, Pace(self._meter.window_with_enough(now_s), self._latest.file_s, workers))
