"""Asking before each request, over everything that shares the ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from types import TracebackType

from midasdl.clock import Clock
from midasdl.config.settings import Settings
from midasdl.errors import ServerUnavailableError, StoppedError
from midasdl.ledger import gate_statements, health_statements
from midasdl.ledger.brief import Brief
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.responses import add_responses
from midasdl.politeness.host_row import row_of, state_of
from midasdl.politeness.limiter import Go, Limits, Wait, decide, give_back, rules_from
from midasdl.politeness.state import HostState, Report, Rules, Ticket, fold, pause
from midasdl.politeness.steps import steps
from midasdl.politeness.tally import UNTOLD, Tally

FIRST_NAP_S = 0.02
LONGEST_NAP_S = 1.0
"""Who cannot have a permit looks again after naps that grow up to this: seldom enough to cost nothing, often
enough that a permit that becomes free is not left lying."""

LONG_NAP_S = 0.5
"""Before naps that are as long, a worker records what it has finished."""

LONGEST_PAUSED_NAP_S = 30.0
"""Who is paused looks now and then whether the pause has become shorter or longer."""

SHORT_WAIT_S = 0.01
"""Who has waited for longer looks, when its slot has come, whether a pause has begun meanwhile."""

FIRST_LEAD_US = 50_000
"""Where starts are spaced, the first slot of a worker lies so far ahead: it has just been born, together with others,
and would start late in one that has come already, so that the next start came too soon behind it."""

GLANCE_EVERY_S = 0.2
"""Without limits nobody has to ask; only a pause is looked for, now and then."""

USUAL_RULES = rules_from(Settings())
NO_PERMIT = Wait(None, "all permits are taken")


class Gate:
    """The one way to a request: each start, whatever its reason, passes here.

    Parameters
    ----------
    ledger : Ledger
    worker_id : int
        Whose permit it is; it goes with the worker.
    limits : Limits or callable
        The same for every host, or those of a host that is named.
    uniform : callable
        Source of randomness, such as `random.uniform`.
    before_long_wait : callable, optional
        Called before the gate makes its caller wait for long.
    rules : Rules, optional
        How answers change what everybody knows of a host.
    clock : Clock, optional
        By which it waits; without it by the ledger's.

    Attributes
    ----------
    tally : Tally
        The requests that passed and that nobody has written down yet.

    Notes
    -----
    Concurrency: decisions of all processes are serialised by the ledger's write lock. Crash safety: a permit dies
    with its worker, a slot is only a moment; neither can be left locked.
    """

    def __init__(
        self,
        ledger: Ledger,
        worker_id: int,
        limits: Limits | Callable[[str], Limits],
        uniform: Callable[[float, float], float],
        before_long_wait: Callable[[], None] = lambda: None,
        rules: Rules = USUAL_RULES,
        clock: Clock | None = None,
    ) -> None:
        self._ledger = ledger
        self._worker_id = worker_id
        self._limits_of = (lambda _: limits) if isinstance(limits, Limits) else limits
        self._rules = rules
        self._uniform = uniform
        self._before_long_wait = before_long_wait
        self._clock: Clock = clock or ledger.clock
        self.tally = Tally()
        self._has_permit = False
        self._has_asked = False
        self._goes_at_once = False
        self._is_calm = False
        self._open_host = ""
        self._open_until_s = 0.0
        self._asked_since_s = ledger.clock.monotonic()
        self._refused_since_s: dict[str, float] = {}

    def follow(self, rules: Rules) -> None:
        """React to answers by other rules, and heed other limits, from now on; may be called from any thread."""
        self._rules = rules
        self._close()

    def request(self, host: str) -> Passage:
        """Wait for a slot and a permit, hold them during the block, give them back and report.

        Raises
        ------
        StoppedError
            When the worker is asked to stop while it waits.
        ServerUnavailableError
            When the server has been away for longer than the run's patience.
        """
        return Passage(self, host)

    def record(self) -> None:
        """Write down which requests passed: for who makes a few requests and settles no tasks."""
        counted = self.tally.counted()
        if counted:
            with self._ledger.brief() as brief:
                add_responses(brief, self._worker_id, counted)
            self.tally.forget(counted)

    def is_down(self, host: str) -> bool:
        """Whether the server is held for down: what fails now is not the file's fault."""
        return not self.state(host).breaker.is_closed

    def pause(self, host: str, until_us: int, why: str) -> None:
        """Let nobody send to `host` before `until_us`."""
        with self._ledger.brief() as brief:
            known = self._load(brief, host)
            self._save(brief, host, known, pause(known, until_us, why))
        self._close()

    def state(self, host: str) -> HostState:
        """What everybody knows of `host`."""
        return state_of(self._ledger.glance(gate_statements.POLITENESS_OF, {"this_host": host}))

    def ask(self, host: str, missed_us: int | None = None) -> Go | Wait:
        """One decision, in one transaction; with `Go` the worker holds a permit.

        Parameters
        ----------
        missed_us : int, optional
            The slot of an earlier answer that this worker was too late for.
        """
        with self._ledger.brief() as brief:
            now = self._clock.now_us()
            mine = {"worker": self._worker_id, "this_host": host}
            [(others, others_here)] = brief.fetch(gate_statements.COUNT_PERMITS, mine)
            known, limits = self._load(brief, host), self._limits_of(host)
            if missed_us is not None:
                known = give_back(known, missed_us, limits)
            lead_us = FIRST_LEAD_US if limits.spacing_us and not self._has_asked else 0
            state, answer = decide(known, now, others, limits, self._rules.breaker, others_here, lead_us)
            if isinstance(answer, Go):
                self._save(brief, host, known, state)
                permit = {
                    "worker": self._worker_id,
                    "new_host": host,
                    "now": now,
                    "new_start_at": answer.at_us,
                }
                brief.send(gate_statements.TAKE_PERMIT, permit)
        self._has_asked = True
        self._has_permit = self._has_permit or isinstance(answer, Go)
        return answer

    def enter(self, host: str) -> None:
        """Wait for a slot and a permit; for `Passage` alone."""
        if host == self._open_host and self._clock.monotonic() < self._open_until_s:
            self._sleep(0)
            return
        self._lose_patience_with_refusals(host)
        nap_s = FIRST_NAP_S
        missed_us = None
        is_full = False
        while True:
            self._goes_at_once = self._opens(host)
            if self._goes_at_once:
                self._sleep(0)
                return
            answer = NO_PERMIT if is_full and self._is_full(host) else self.ask(host, missed_us)
            missed_us = None
            is_full = isinstance(answer, Wait) and answer.until_us is None
            if isinstance(answer, Go):
                if self._reaches(answer.at_us, host):
                    return
                missed_us = answer.at_us
            elif answer.until_us is None:
                if nap_s >= LONG_NAP_S:
                    self._before_long_wait()
                self._sleep(nap_s * self._uniform(0.5, 1.5))
                nap_s = min(nap_s * 2, LONGEST_NAP_S)
            else:
                self._lose_patience(host)
                self._before_long_wait()
                pause_s = (answer.until_us - self._clock.now_us()) / 1e6
                self._sleep(min(pause_s, LONGEST_PAUSED_NAP_S))

    def _is_full(self, host: str) -> bool:
        """Whether others still have all permits: a look, which costs a small part of asking and holds up nobody."""
        mine = {"worker": self._worker_id, "this_host": host}
        return self._limits_of(host).are_reached(self._ledger.look(gate_statements.COUNT_PERMITS, mine), 0)

    def _reaches(self, slot_us: int, host: str) -> bool:
        """Sleep until the slot; False where it was missed, or where a pause has begun in the meantime."""
        wait_s = (slot_us - self._clock.now_us()) / 1e6
        self._sleep(wait_s)
        if wait_s > SHORT_WAIT_S and self._is_paused(host):
            return False
        limits = self._limits_of(host)
        return limits.are_none or self._clock.now_us() <= slot_us + limits.tolerance_us

    def _is_paused(self, host: str) -> bool:
        until_us = self._ledger.look(gate_statements.PAUSED_UNTIL, {"this_host": host})
        return until_us is not None and until_us > self._clock.now_us()

    def _lose_patience(self, host: str) -> None:
        """Give up when the server has been away for too long while this worker wanted something of it."""
        since_us = self.state(host).breaker.open_since
        asked_us = (self._clock.monotonic() - self._asked_since_s) * 1e6
        away_us = min(self._clock.now_us() - since_us, asked_us)
        if since_us and away_us > self._rules.breaker.patience_us:
            raise ServerUnavailableError(
                f"{host} has not been available for {away_us / 60e6:.0f} minutes.",
                "Nothing is lost. Go on later with: midasdl resume",
            )

    def _lose_patience_with_refusals(self, host: str) -> None:
        """Give up when the server has done nothing but ask this worker to wait, for too long."""
        now_s = self._clock.monotonic()
        refused_s = now_s - self._refused_since_s.get(host, now_s)
        if refused_s * 1e6 > self._rules.breaker.patience_us:
            raise ServerUnavailableError(
                f"{host} has refused every request for {refused_s / 60:.0f} minutes: it is asked too much.",
                "Nothing is lost. Go on later with: midasdl resume",
            )

    def _count_refusals(self, host: str, report: Report) -> None:
        """Remember since when the server has answered this worker with nothing but the wish to be left alone."""
        if report.asks_to_wait:
            self._refused_since_s.setdefault(host, self._clock.monotonic())
        else:
            self._refused_since_s.pop(host, None)

    def _opens(self, host: str) -> bool:
        """Without limits, and as long as all is well, nobody has to ask, and a look holds for a moment.

        The moment begins before the limits are looked at: who changes them meanwhile ends it.
        """
        self._open_host, self._open_until_s = host, self._clock.monotonic() + GLANCE_EVERY_S
        if self._limits_of(host).are_none:
            state = self.state(host)
            if state.is_well(self._clock.now_us()):
                self._is_calm = state.is_calm and host not in self._refused_since_s
                return True
        self._close()
        return False

    def _close(self) -> None:
        """Look anew before the next request."""
        self._open_until_s = 0.0

    def leave(self, host: str, report: Report | None) -> None:
        """Give the permit back and fold the report in; good news where no trouble is can be left untold."""
        if self._goes_at_once and self._is_calm and report is not None and not report.is_error:
            return
        told = None if report is None or report.is_only_counted else report
        if told is not None:
            self._count_refusals(host, told)
        if not self._has_permit and told is None:
            return
        with self._ledger.brief() as brief:
            brief.send(gate_statements.RETURN_PERMIT, {"worker": self._worker_id})
            if told is not None:
                now = self._clock.now_us()
                known = self._load(brief, host)
                state = fold(known, told, now, self._rules, self._uniform)
                self._save(brief, host, known, state, told.outcome)
        self._has_permit = False
        self._close()

    def count(self, host: str, report: Report | None) -> None:
        """Count a request that was made, whatever became of it."""
        if report is None:
            self.tally.count(host, UNTOLD, None)
        else:
            self.tally.count(host, report.outcome, report.latency_us)

    def _sleep(self, seconds: float) -> None:
        if self._clock.wait(seconds):
            raise StoppedError("The worker was asked to stop.")

    def _load(self, brief: Brief, host: str) -> HostState:
        return state_of(brief.fetch(gate_statements.POLITENESS_OF, {"this_host": host}))

    def _save(
        self, brief: Brief, host: str, known: HostState, state: HostState, outcome: str | None = None
    ) -> None:
        """Replace a host's row, and keep what has changed for people."""
        brief.send(gate_statements.SAVE_POLITENESS, {"new_host": host, **row_of(state)})
        now = self._clock.now_us()
        for step in steps(known, state, now, outcome):
            changed = {f"new_{name}": value for name, value in asdict(step).items()}
            brief.send(health_statements.RECORD_STEP, {"new_host": host, "now": now, **changed})


class Passage(Ticket):
    """One request's way through a gate, as a block."""

    __slots__ = ("_gate", "_host")

    def __init__(self, gate: Gate, host: str) -> None:
        self._gate = gate
        self._host = host
        self.report = None

    def __enter__(self) -> Ticket:
        try:
            self._gate.enter(self._host)
        except BaseException:
            self._gate.leave(self._host, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._gate.count(self._host, self.report)
        finally:
            self._gate.leave(self._host, self.report)
