"""The `Simulator`: a CEDA of one's own, on one port of this machine."""

from __future__ import annotations

import secrets
import ssl
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from midasdl.clock import Clock, SystemClock
from midasdl.errors import ConfigurationError
from midasdl.simulator.accounts import Account, AccountState, TokenStore
from midasdl.simulator.delivery import Pace
from midasdl.simulator.faults import Fault, FaultPlan
from midasdl.simulator.handler import SimulatorHandler
from midasdl.simulator.listener import Listener
from midasdl.simulator.requestlog import RequestLog, RequestRecord
from midasdl.simulator.routes import ARCHIVE_PATH, LISTING_PATH, TOKEN_PATH, Tree
from midasdl.simulator.site import FileSettings, Site
from midasdl.simulator.throttle import Throttle, ThrottleGate
from midasdl.simulator.workings import Workings


class Simulator:
    """A stand-in for CEDA's token service, download host, listing host and login page.

    It may be stopped and started again: port, tokens, fault counts and records stay.

    Parameters
    ----------
    root : Path
        The archive: a folder that holds ``badc``, or what stands for ``/badc/ukmo-midas-open`` itself.
    host, port : str, int
        Where to listen; port 0 takes any that is free.
    account : Account, optional
        The one user; by default ``researcher`` with the password ``rain-or-shine``.
    token_lifetime_s : float
        How long a token is good, in seconds.
    faults : sequence of Fault
        What goes wrong, and when; see `Fault`.
    first_byte_delay_s, bytes_per_second : float
        How slow every answer is when all is well; the rate is that of one connection.
    log_path : Path, optional
        Append a JSON object a request to this file.
    etag, content_type, gzip, chunked
        How files are served; see `FileSettings`.
    keep_alive_requests : int, optional
        Close each connection after so many requests, announced by ``Connection: close``.
    throttle : Throttle, optional
        Refuse a client that asks for too much at once.
    tls : ssl.SSLContext, optional
        Speak https, with the certificate of this context.
    clock : Clock, optional
        Time as the server knows it; its `wait` is called in slices of at most 0.05 s.
    seed : int
        Of the chance by which faults with a probability happen.

    Raises
    ------
    ConfigurationError
        If the root is no folder, or a number is out of its range.
    """

    def __init__(
        self,
        root: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        account: Account | None = None,
        token_lifetime_s: float = 259200.0,
        faults: Sequence[Fault] = (),
        first_byte_delay_s: float = 0.0,
        bytes_per_second: float | None = None,
        log_path: Path | None = None,
        etag: bool = True,
        content_type: str = "text/csv",
        gzip: bool = False,
        chunked: bool = False,
        keep_alive_requests: int | None = None,
        throttle: Throttle | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
        seed: int = 0,
    ) -> None:
        if not root.is_dir():
            raise ConfigurationError(
                f"the simulator's root {root} is not a folder", "make one with make_archive"
            )
        if bytes_per_second is not None and bytes_per_second <= 0:
            raise ConfigurationError(f"bytes_per_second = {bytes_per_second} must be above 0")
        self.account = account if account is not None else Account()
        self._tree = Tree(root)
        self._address = (host, port)
        self._own_clock = clock
        self._tokens = TokenStore(token_lifetime_s, secrets.token_bytes(16), self._now_s())
        self._faults = FaultPlan(faults, seed=seed)
        self._pace = Pace(first_byte_delay_s, bytes_per_second)
        self._log = RequestLog(log_path)
        self._files = FileSettings(etag, content_type, gzip, chunked)
        self._keep_alive_requests = keep_alive_requests
        self._tls = tls
        self._gate = ThrottleGate(throttle) if throttle is not None else None
        self._stopping = threading.Event()
        self._listener: Listener | None = None

    def start(self) -> Self:
        """Listen, unless it already does.

        Raises
        ------
        ConfigurationError
            If the port is taken or the host is not of this machine.
        StorageError
            If the request log cannot be written.
        """
        if self._listener is not None:
            return self
        self._log.open()
        self._listener = self._bind()
        self._address = (self._address[0], self._listener.server_port)
        self._stopping = threading.Event()
        self._listener.workings = self._workings()
        self._listener.start()
        return self

    def stop(self) -> None:
        """Close every connection at once and wait until all threads are gone; idempotent."""
        if self._listener is None:
            return
        self._stopping.set()
        self._listener.stop()
        self._listener = None
        self._log.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """Where it listens; it is known from the first start on."""
        if self._address[1] == 0:
            raise RuntimeError("the simulator has not been started, so that it has no port yet")
        return self._address[1]

    @property
    def base_url(self) -> str:
        """The server, without a slash at the end."""
        return f"{'http' if self._tls is None else 'https'}://{self._address[0]}:{self.port}"

    @property
    def archive_url(self) -> str:
        """What ``ceda.archive_url`` must be."""
        return self.base_url + ARCHIVE_PATH

    @property
    def token_url(self) -> str:
        """What ``ceda.token_url`` must be."""
        return self.base_url + TOKEN_PATH

    @property
    def listing_url(self) -> str:
        """What ``ceda.listing_url`` must be."""
        return self.base_url + LISTING_PATH + ARCHIVE_PATH

    def environment(self) -> dict[str, str]:
        """Return the environment variables that send midasdl here."""
        return {
            "MIDASDL_CEDA__ARCHIVE_URL": self.archive_url,
            "MIDASDL_CEDA__TOKEN_URL": self.token_url,
            "MIDASDL_CEDA__LISTING_URL": self.listing_url,
        }

    @property
    def requests(self) -> list[RequestRecord]:
        """Copy the records of all requests that are over, in the order in which they started."""
        return self._log.snapshot()

    @property
    def connections(self) -> int:
        """How many connections were accepted since the last start, those that never became a request included."""
        return 0 if self._listener is None else self._listener.accepted

    def clear_requests(self) -> None:
        """Forget the records; numbers go on, and the log file keeps its lines."""
        self._log.clear()

    def add_fault(self, fault: Fault) -> None:
        """Append a rule; it counts requests from now."""
        self._faults.add(fault)

    def clear_faults(self) -> None:
        """Drop every rule."""
        self._faults.clear()

    def set_account_state(self, state: AccountState | str, *, licence_missing: bool | None = None) -> None:
        """Change what the account may do, as if CEDA's staff had."""
        try:
            self.account.state = AccountState(state)
        except ValueError:
            allowed = ", ".join(AccountState)
            raise ConfigurationError(f"account state {state!r} is not one of {allowed}") from None
        if licence_missing is not None:
            self.account.licence_missing = licence_missing

    def mint_token(self) -> str:
        """Make a token without a request; as with a request, the one that expires first is revoked."""
        return self._tokens.mint(self.account.username, self._now_s()).token

    def revoke_tokens(self) -> None:
        """Revoke every token made so far."""
        self._tokens.revoke_all()

    def _now_s(self) -> float:
        return (self._own_clock or SystemClock()).now_us() / 1_000_000

    def _bind(self) -> Listener:
        host, port = self._address
        try:
            return Listener((host, port), SimulatorHandler, self._tls)
        except (OSError, OverflowError) as error:
            self._log.close()
            raise ConfigurationError(
                f"the simulator cannot listen on {host}:{port}: {error}", "choose another port, or 0 for any"
            ) from error

    def _workings(self) -> Workings:
        site = Site(self.base_url, self._tree, self.account, self._tokens, self._now_s, self._files)
        return Workings(
            clock=self._own_clock or SystemClock(),
            stopping=self._stopping.is_set,
            tree=self._tree,
            site=site,
            tokens=self._tokens,
            faults=self._faults,
            gate=self._gate,
            log=self._log,
            pace=self._pace,
            keep_alive_requests=self._keep_alive_requests,
        )
