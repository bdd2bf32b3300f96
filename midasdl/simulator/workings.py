"""What the connections of one simulator share, and the decision what becomes of a request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from midasdl.clock import Clock
from midasdl.simulator.accounts import TokenStore, read_bearer
from midasdl.simulator.delivery import Pace, altered_reply, own_reply
from midasdl.simulator.faults import Fault, FaultAction, FaultPlan
from midasdl.simulator.replies import Reply
from midasdl.simulator.requestlog import RequestLog
from midasdl.simulator.routes import Request, Route, Tree
from midasdl.simulator.site import Site
from midasdl.simulator.throttle import ThrottleGate

THROTTLED = "throttle"


class Trouble(NamedTuple):
    """What is about to go wrong with a request, and the name it has in the record."""

    name: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class Workings:
    """The parts of a running simulator.

    Concurrency: every method may be called from any thread.
    """

    clock: Clock
    stopping: Callable[[], bool]
    tree: Tree
    site: Site
    tokens: TokenStore
    faults: FaultPlan
    gate: ThrottleGate | None
    log: RequestLog
    pace: Pace
    keep_alive_requests: int | None

    def now_s(self) -> float:
        """Seconds since 1970."""
        return self.clock.now_us() / 1_000_000

    def trouble(self, request: Request, connections: int) -> Trouble | None:
        """Decide what goes wrong with a request: at downloads the throttle stands before the faults."""
        if self.gate is not None and request.route is Route.DOWNLOAD:
            limits = self.gate.throttle
            if not self.gate.admits(self.clock.monotonic(), connections):
                busy = Fault(FaultAction.STATUS, status=limits.status, retry_after=limits.retry_after)
                return Trouble(THROTTLED, busy)
        fault = self.faults.choose(request.route, request.target.path)
        return Trouble(str(fault.action), fault) if fault is not None else None

    def reply(self, request: Request, fault: Fault | None) -> Reply:
        """Answer a request as the fault that hit it has it."""
        if fault is None:
            return self.site.reply(request)
        self._change_tokens(request, fault)
        return altered_reply(self._reply_instead(request, fault) or self.site.reply(request), fault)

    def _change_tokens(self, request: Request, fault: Fault) -> None:
        if fault.action == FaultAction.EXPIRE_TOKEN:
            self.tokens.expire(read_bearer(request.authorization), self.now_s())
        elif fault.action == FaultAction.REVOKE_TOKENS:
            self.tokens.revoke_all()

    def _reply_instead(self, request: Request, fault: Fault) -> Reply | None:
        if fault.action == FaultAction.LOGIN_PAGE:
            return self.site.login_page()
        if fault.action == FaultAction.REDIRECT_TO_LOGIN:
            return self.site.to_signin(request)
        return own_reply(fault)
