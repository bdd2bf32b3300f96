"""Before the workers start: one process sees that CEDA will have us, so that a wrong password is tried once."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

from midasdl.ceda.connect import connect
from midasdl.ceda.credentials import Credentials
from midasdl.clock import Clock, WatchedClock
from midasdl.config import Settings
from midasdl.errors import StoppedError
from midasdl.identity import ProcessIdentity
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.runs import RunRegistry, beating
from midasdl.politeness.gate import Gate
from midasdl.politeness.limiter import limits_from, rules_from
from midasdl.progress.audience import Listener
from midasdl.progress.events import Waiting

TICK_S = 0.2
"""How often a run that waits for its token looks up."""

STOP_PATIENCE_S = 2.0
"""A request for a token may end within this after the wish to stop; then the run ends without it."""


def see_that_there_is_a_token(
    ledger: Ledger,
    settings: Settings,
    run_id: int,
    credentials: Credentials,
    listener: Listener,
    is_asked_to_stop: Callable[[], bool],
) -> None:
    """Have a token that is good, from the cache or newly made.

    Raises
    ------
    StoppedError
        When the run was asked to stop meanwhile.
    AuthenticationError, ServerUnavailableError
        CEDA does not accept us, or has been away for longer than the run's patience.
    """
    registry = RunRegistry(ledger)
    worker_id = registry.register(run_id, "command", "sign-in", ProcessIdentity.current())
    clock = WatchedClock(ledger.clock, is_asked_to_stop)
    limits = partial(limits_from, settings.performance.ceda_client)
    gate = Gate(ledger, worker_id, limits, random.uniform, rules=rules_from(settings), clock=clock)
    told: SimpleQueue[str] = SimpleQueue()
    patience_s = settings.run.server_patience_seconds
    access = connect(settings, credentials, gate, clock, outage_s=patience_s, tell=told.put)

    def tick() -> None:
        while not told.empty():
            listener.follow(Waiting(told.get()))
        listener.tick(0)

    try:
        with beating(registry, worker_id):
            _do_aside(access.tokens.current, tick, is_asked_to_stop, ledger.clock)
    finally:
        access.close()
        gate.record()
        registry.retire([worker_id], dead=False)


def _do_aside(
    act: Callable[[], object], tick: Callable[[], None], is_asked_to_stop: Callable[[], bool], clock: Clock
) -> None:
    """Let `act` run in a thread, tick meanwhile, and leave it behind where it does not hear the wish to stop.

    Raises
    ------
    StoppedError
        When the run was asked to stop.
    """
    aside = _Aside(act)
    aside.start()
    asked_s: float | None = None
    while aside.is_alive():
        aside.join(TICK_S)
        tick()
        if is_asked_to_stop():
            now_s = clock.monotonic()
            asked_s = asked_s or now_s
            if now_s - asked_s > STOP_PATIENCE_S:
                break
    if is_asked_to_stop():
        raise StoppedError("The run was asked to stop.")
    if aside.error is not None:
        raise aside.error


class _Aside(threading.Thread):
    """Does one thing in a thread that keeps no process from ending, and remembers what went wrong."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__(daemon=True, name="aside")
        self._act = act
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._act()
        except BaseException as error:
            self.error = error
