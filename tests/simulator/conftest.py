"""A folder that is served, simulators on it, and connections to them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from midasdl.simulator import Simulator
from tests.simulator.talk import (
    CONTENTS,
    Client,
    Connect,
    Start,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    (folder / "data" / "sub").mkdir(parents=True)
    (folder / "data" / "a.csv").write_bytes(CONTENTS)
    (folder / "data" / "b.csv").write_bytes(b"b\n" * 50)
    (folder / "data" / "notes.txt").write_bytes(b"notes\n")
    (folder / "data" / "empty.csv").write_bytes(b"")
    (folder / "data" / "large.csv").write_bytes(bytes(range(256)) * 12_000)
    for name in ("with space.csv", "100%.csv", "a#b?c.csv", "%20.csv", "ü.csv"):
        (folder / "data" / "sub" / name).write_bytes(name.encode())
    (folder.parent / "secret.txt").write_text("secret")
    return folder


@pytest.fixture
def start(root: Path) -> Iterator[Start]:
    """Start simulators that end with the test, and hold them to leaving no thread behind."""
    running: list[Simulator] = []

    def begin(served: Path = root, **settings: object) -> Simulator:
        simulator = Simulator(served, **settings)  # type: ignore[arg-type]
        running.append(simulator)
        return simulator.start()

    yield begin
    for simulator in running:
        simulator.stop()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("simulator")]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Open connections that end with the test and carry a token: a given one, or one of their own."""
    opened: list[Client] = []

    def begin(simulator: Simulator, token: str | None = None) -> Client:
        opened.append(Client(simulator, token or simulator.mint_token()))
        return opened[-1]

    yield begin
    for client in opened:
        client.close()
