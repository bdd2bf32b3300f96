"""The process that owns the workers: starts them, follows them, replaces the dead, ends them.

It decides nothing about files, and how many workers there are to be it is told by `midasdl.pacing`. Everything that it
knows of the work it reads from the ledger; from its workers it hears progress, and that they live.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from midasdl.berth import NO_LIMITS, Berth, RunLimits, shares_of
from midasdl.channel import SEND_EVERY_S, Bye, Hello, News
from midasdl.clock import Clock
from midasdl.config import Settings
from midasdl.ears import Ears
from midasdl.errors import ExitCode, MidasdlError, WorkerCrashedError
from midasdl.identity import ProcessIdentity
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.runs import BEAT_S, Recovered, RunRegistry
from midasdl.pacing import PaceKeeper
from midasdl.processes import process_context, start
from midasdl.progress.audience import Listener
from midasdl.progress.events import CrewChanged
from midasdl.worker_process import LOOK, REST, STOP, WorkerOrder, work

MADE_READY = "midasdl.rehearsal"
"""The module that the process has imported which workers are forked off."""

TICK_S = SEND_EVERY_S + 0.05
"""How soon the coordinator notices a signal or a due restart; longer than the time between two words of a worker, so
that hardly anything else wakes it."""

RECOVER_EVERY_S = 2.0
"""How soon the claims of a process of another run that died on this host come back."""

SILENCE_S = 30.0
"""A worker that lives sends something every second; one that is silent for this long is stuck and is killed."""

STOP_PATIENCE_S = 4.0
"""Workers that were asked to stop are killed after this."""

MOST_CRASHES = 5
"""Deaths in a row, without any file finished between them, after which a run gives up."""


@dataclass(slots=True)
class RunReport:
    """How a run went, as far as the ledger does not tell.

    Attributes
    ----------
    error : MidasdlError or None
        What stopped the run early.
    deaths : int
        Workers that died and, where allowed, were replaced.
    stopped_by : str or None
        The option that ended it early: ``--max-time`` or ``--limit``.
    """

    recovered: Recovered = field(default_factory=Recovered)
    error: MidasdlError | None = None
    interrupted_by: int | None = None
    deaths: int = 0
    stopped_by: str | None = None


class Coordinator:
    """Runs workers until nothing is left, or until it is asked to stop.

    Parameters
    ----------
    ledger : Ledger
        The coordinator's own.
    order : callable
        The `WorkerOrder` for a worker of a given name.
    settings : Settings
    run_id : int
    listener : Listener
        Hears every progress event, and a few times a second how many workers live; what it raises is not its
        workers' concern.
    limits : RunLimits, optional

    Notes
    -----
    Concurrency: `run` belongs to one thread; `stop` may be called from any thread and from signal handlers.
    """

    def __init__(
        self,
        ledger: Ledger,
        order: Callable[[str], WorkerOrder],
        settings: Settings,
        run_id: int,
        listener: Listener,
        limits: RunLimits = NO_LIMITS,
    ) -> None:
        self._come_what_may = suppress(Exception)
        self._ledger = ledger
        self._clock: Clock = ledger.clock
        self._registry = RunRegistry(ledger)
        self._order = order
        self._workers = settings.performance.workers
        self._keeper = PaceKeeper(ledger, settings, lambda event: self._tell(listener.follow, event))
        self._run_id = run_id
        self._listener = listener
        self._limits = limits
        self._context = process_context(MADE_READY)
        self._ears = Ears(self._clock.nap)
        self._berths: list[Berth] = []
        self._stop_signal: int | None = None
        self._stopping_since_s: float | None = None
        self._crashes_in_a_row = 0
        self._crew: CrewChanged | None = None
        self._next_beat_s = self._next_recovery_s = self._looked_s = 0.0
        self.report = RunReport()

    def stop(self, exit_code: int = ExitCode.INTERRUPTED) -> None:
        """Ask the run to end soon; only sets a flag."""
        self._stop_signal = exit_code

    def run(self) -> RunReport:
        """Work until nothing is left; every worker has ended when this returns."""
        me = self._registry.register(self._run_id, "coordinator", "coordinator", ProcessIdentity.current())
        quotas = shares_of(self._limits.tasks, self._keeper.most_workers)
        self._berths = [
            Berth(f"worker-{number}", quota=quota) for number, quota in enumerate(quotas, start=1)
        ]
        try:
            with self._ledger.patience.meanwhile(self._look_for_the_stuck):
                self._keep_pace()
                while not self._is_over():
                    self._tick(me)
        finally:
            self._kill_all()
            self._ears.close()
            self._registry.retire([me], dead=False)
        return self.report

    def _tick(self, me: int) -> None:
        now_s = self._clock.monotonic()
        self._listen()
        self._end_if_asked(now_s)
        self._start_due(now_s)
        self._keep_pace()
        self._kill_silent()
        recovery_is_due = now_s >= self._next_recovery_s
        if recovery_is_due or now_s >= self._next_beat_s:
            ours = [me, *(berth.worker_id for berth in self._berths if berth.worker_id)]
            self._registry.beat(ours)
            self._next_beat_s = now_s + BEAT_S
        if recovery_is_due:
            self._registry.recover(ours)
            self._next_recovery_s = now_s + RECOVER_EVERY_S
        self._tick_listener()

    def _on_and_off(self) -> tuple[list[Berth], list[Berth]]:
        """Those who are to work, and those who are to rest."""
        able = [berth for berth in self._berths if not berth.is_spent]
        return able[: self._keeper.wanted], able[self._keeper.wanted :]

    def _is_over(self) -> bool:
        """Whether everybody has ended who is to work; in a pause those who rest will be called again."""
        on, off = self._on_and_off()
        at_rest = all(berth.ended or berth.is_empty for berth in off)
        will_be_called = self._keeper.wanted == 0 and not all(berth.ended for berth in off)
        return all(berth.ended for berth in on) and at_rest and not will_be_called

    def _keep_pace(self) -> None:
        """Tell workers of other settings, call in those who are wanted, and let the others rest."""
        if self._stopping_since_s is not None:
            return
        pids = [berth.process.pid for berth in self._berths if berth.process is not None]
        if self._keeper.look([pid for pid in pids if pid is not None]):
            self._send_all(self._keeper.pace.settings)
        on, off = self._on_and_off()
        for berth in on:
            if berth.is_empty:
                self._start(berth)
        for berth in off:
            berth.restart_at_s = None
            if berth.process is not None and not berth.is_to_rest:
                berth.is_to_rest = True
                self._send(berth, REST)

    def _send_all(self, word: object) -> None:
        for berth in self._berths:
            self._send(berth, word)

    def _send(self, berth: Berth, word: object) -> None:
        """Say something to a worker; one that has just died is found out elsewhere."""
        if berth.pipe is not None:
            with suppress(OSError):
                berth.pipe.send(word)

    def _start(self, berth: Berth) -> None:
        ours, theirs = self._context.Pipe()
        order = replace(self._order(berth.name), settings=self._keeper.pace.settings, quota=berth.quota)
        process = self._context.Process(
            target=work, args=(order, theirs), name=f"midasdl {berth.name}", daemon=False
        )
        start(process)
        theirs.close()
        self._ears.open_for(ours)
        berth.process, berth.pipe, berth.worker_id = process, ours, None
        berth.silent_s, berth.restart_at_s, berth.is_to_rest = 0.0, None, False

    def _start_due(self, now_s: float) -> None:
        for berth in self._berths:
            if berth.restart_at_s is not None and now_s >= berth.restart_at_s:
                self._start(berth)

    def _listen(self) -> None:
        """Take in what workers say; a closed pipe means that its worker has ended."""
        pipes = {berth.pipe: berth for berth in self._berths if berth.pipe is not None}
        if not pipes:
            self._clock.wait(TICK_S)
            return
        listening_since_s = self._clock.monotonic()
        heard = self._ears.wait(TICK_S)
        self._looked_s = self._clock.monotonic()
        listened_s = min(self._looked_s - listening_since_s, 2 * TICK_S)
        for berth in pipes.values():
            berth.silent_s += listened_s
        for pipe in heard:
            berth = pipes[pipe]
            berth.silent_s = 0.0
            try:
                self._hear(berth, pipe.recv())
            except (EOFError, OSError):
                self._bury(berth)

    def _hear(self, berth: Berth, message: Any) -> None:
        match message:
            case Hello(worker_id):
                berth.worker_id = worker_id
            case News(events):
                for event in events:
                    self._tell(self._listener.follow, event)
                self._crashes_in_a_row = 0 if events else self._crashes_in_a_row
            case Bye(MidasdlError() as error):
                self._hear_of_trouble(berth, error)
            case Bye(quota_is_spent=True):
                self._let_go(berth, dead=False)
                berth.ended = berth.is_spent = True
                self.report.stopped_by = self.report.stopped_by or "--limit"
            case Bye(is_at_rest=True) if berth.is_to_rest and self._stopping_since_s is None:
                self._let_go(berth, dead=False)
            case Bye():
                self._end(berth)

    def _tell(self, tell: Callable[[Any], None], news: Any) -> None:
        """A picture that fails changes nothing (invariant I8)."""
        with self._come_what_may:
            tell(news)

    def _tick_listener(self) -> None:
        alive = [berth for berth in self._berths if berth.process is not None]
        starting = sum(berth.worker_id is None for berth in alive)
        crew = CrewChanged(len(alive), starting, self._stopping_since_s is not None)
        if crew != self._crew:
            self._crew = crew
            self._tell(self._listener.follow, crew)
        self._tell(self._listener.tick, len(alive))

    def _hear_of_trouble(self, berth: Berth, error: MidasdlError) -> None:
        if isinstance(error, WorkerCrashedError):
            self._bury(berth, error)
            return
        self.report.error = self.report.error or error
        self._end(berth)
        self._ask_all_to_stop()

    def _end(self, berth: Berth) -> None:
        """The worker has said goodbye: nothing is left, neither for it nor for a successor or one that rests.

        Who waits for others to give something back need not wait any longer.
        """
        self._let_go(berth, dead=False)
        berth.ended = True
        for other in self._berths:
            if other.process is None:
                other.restart_at_s, other.ended = None, True
            else:
                self._send(other, LOOK)

    def _bury(self, berth: Berth, error: MidasdlError | None = None) -> None:
        """The worker died: what it held comes back at once, and another takes its place after a while."""
        self._let_go(berth, dead=True)
        if self._stopping_since_s is not None:
            berth.ended = True
            return
        self.report.deaths += 1
        if berth.is_to_rest:
            return
        self._crashes_in_a_row += 1
        if self._crashes_in_a_row >= MOST_CRASHES * max(self._keeper.wanted, 1):
            self.report.error = error or WorkerCrashedError(
                "Workers die again and again before they finish a file."
            )
            berth.ended = True
            self._ask_all_to_stop()
        elif self._workers.restart_on_failure:
            berth.restart_at_s = self._clock.monotonic() + self._workers.restart_delay_ms / 1000
        else:
            berth.ended = berth.is_spent = True

    def _let_go(self, berth: Berth, *, dead: bool) -> None:
        if berth.pipe is not None:
            self._ears.shut_for(berth.pipe)
            berth.pipe.close()
        if berth.process is not None:
            if dead:
                berth.process.kill()
            berth.process.join(timeout=STOP_PATIENCE_S)
        berth.process = berth.pipe = None
        if berth.worker_id is not None:
            self._registry.retire([berth.worker_id], dead=dead)
            if berth.quota is not None:
                berth.quota -= self._registry.ended_by(berth.worker_id)
        berth.worker_id = None

    def _look_for_the_stuck(self) -> None:
        """While the ledger is locked, see who has nothing to say: it may be the one who keeps it locked.

        Who has not said hello may wait for the lock, and is silent then.
        """
        now_s = self._clock.monotonic()
        if now_s - self._looked_s < TICK_S:
            return
        looked_after_s = min(now_s - self._looked_s, 2 * TICK_S)
        self._looked_s = now_s
        for berth in self._berths:
            if berth.pipe is not None and berth.worker_id is not None:
                berth.silent_s = 0.0 if berth.pipe.poll() else berth.silent_s + looked_after_s
        self._kill_silent()

    def _kill_silent(self) -> None:
        """Time in which the coordinator was held up itself (Ctrl-Z) is nobody's silence."""
        for berth in self._berths:
            if berth.process is not None and berth.silent_s > SILENCE_S:
                berth.process.kill()

    def _end_if_asked(self, now_s: float) -> None:
        if self._stop_signal is not None and self.report.interrupted_by is None:
            self.report.interrupted_by = self._stop_signal
            self._ask_all_to_stop()
        deadline_s = self._limits.deadline_s
        if deadline_s is not None and now_s >= deadline_s and self._stopping_since_s is None:
            self.report.stopped_by = "--max-time"
            self._ask_all_to_stop()
        if self._stopping_since_s is not None and now_s - self._stopping_since_s > STOP_PATIENCE_S:
            self._kill_all()

    def _ask_all_to_stop(self) -> None:
        if self._stopping_since_s is None:
            self._stopping_since_s = self._clock.monotonic()
        for berth in self._berths:
            if berth.restart_at_s is not None or berth.process is None:
                berth.restart_at_s, berth.ended = None, True
            else:
                self._send(berth, STOP)

    def _kill_all(self) -> None:
        """Processes first: the ledger may be what is in trouble."""
        for berth in self._berths:
            if berth.process is not None:
                berth.process.kill()
        for berth in self._berths:
            if berth.process is not None:
                self._let_go(berth, dead=True)
            berth.ended = True
