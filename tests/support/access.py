"""A client of a simulator, as a worker process would have it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from midasdl.ceda.client import Body, CedaClient
from midasdl.ceda.connect import CedaAccess, connect
from midasdl.ceda.credentials import Credentials
from midasdl.ceda.ranges import Held, Sink
from midasdl.ceda.secret import Secret
from midasdl.clock import SystemClock
from midasdl.config import Settings, resolve
from midasdl.identity import ProcessIdentity
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.runs import RunRegistry
from midasdl.politeness.gate import Gate
from midasdl.politeness.limiter import Limits, rules_from
from midasdl.simulator import Simulator

LOGIN = Credentials(username="researcher", password=Secret("rain-or-shine"))


@dataclass
class Basket(Sink):
    """Where a body goes that is too large for memory."""

    held: Held | None = None
    chunks: list[bytes] = field(default_factory=list)
    validators: list[str | None] = field(default_factory=list)
    dropped: bool = False

    def begin(self, validator: str | None) -> None:
        self.validators.append(validator)
        self.chunks.clear()

    def write(self, chunk: bytes) -> None:
        self.chunks.append(chunk)

    def drop(self) -> None:
        self.dropped = True

    def bytes_of(self, body: Body) -> bytes:
        return b"".join(self.chunks) if body.content is None else bytes(body.content)


class Office:
    """Opens one process's access after another, over one ledger and one token cache in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self.clock = SystemClock()
        self._ledger = self._stack.enter_context(Ledger.create(folder / "progress.db", self.clock))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def open(
        self,
        simulator: Simulator,
        credentials: Credentials = LOGIN,
        *,
        outage_s: float = 0.0,
        tell: Callable[[str], None] = lambda _: None,
        **patience: Any,
    ) -> CedaAccess:
        settings = settings_for(simulator, self.folder, **patience)
        worker_id = RunRegistry(self._ledger).register(None, "worker", "w", ProcessIdentity.current())
        self.gate = Gate(self._ledger, worker_id, Limits(0, 4), random.uniform, rules=rules_from(settings))
        access = connect(settings, credentials, self.gate, self.clock, outage_s=outage_s, tell=tell)
        return self._stack.enter_context(closing(access))


def settings_for(
    simulator: Simulator, folder: Path, *, silence_s: float = 5.0, in_memory: int = 10**8, **ceda: object
) -> Settings:
    """Settings that point at a simulator; further ones for the section ``[ceda]``."""
    urls = {"archive_url": simulator.archive_url, "token_url": simulator.token_url}
    return resolve(
        {
            "ceda": {**urls, **ceda},
            "storage": {"token_cache": folder / "tokens"},
            "performance": {
                "ceda_client": {
                    "request_timeout_seconds": silence_s,
                    "connection_timeout_seconds": 2,
                    "backoff": {"base_backoff_ms": 10, "max_backoff_seconds": 0.05},
                },
                "circuit_breaker": {"timeout_seconds": 0.1},
                "memory": {"max_file_size_in_memory": in_memory, "download_chunk_size": 512},
            },
        }
    )


def fetched(client: CedaClient, path: str) -> bytes:
    """The bytes of a file, after a look at what the client says of them."""
    basket = Basket()
    body = client.fetch(path, basket)
    contents = basket.bytes_of(body)
    assert (body.md5, body.size_bytes) == (hashlib.md5(contents).hexdigest(), len(contents))
    assert len(basket.validators) == (body.content is None)
    return contents


def asked(simulator: Simulator, route: str) -> list[tuple[str, str, int]]:
    """Method, path and status of the requests to a route."""
    return [(each.method, each.path, each.status) for each in simulator.requests if each.route == route]
