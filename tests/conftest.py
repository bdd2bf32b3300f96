"""Fixtures that all tests share. Only this machine's loopback can be reached."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from midasdl.ledger.ledger import Ledger
from midasdl.ledger.load import ManifestLoader
from midasdl.ledger.merge import LoadSummary
from midasdl.manifest import ManifestParser
from midasdl.selection import Selection
from midasdl.simulator import Simulator, make_archive
from tests.support.clock import FakeClock
from tests.support.command import Command

ACCOUNT = {"CEDA_USERNAME": "researcher", "CEDA_PASSWORD": "rain-or-shine"}
LOOPBACK = {"127.0.0.1", "localhost", "::1"}

settings.register_profile("without deadlines", deadline=None)  # a busy machine is no reason to fail
settings.load_profile("without deadlines")


def pytest_configure() -> None:
    """A shell starts what it puts in the background deaf to Ctrl-C; what the tests start has to hear it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first: they mostly wait, and others fill the gaps."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may leave this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in LOOPBACK:
            pytest.fail(f"a test tried to reach {address[0]}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def clock() -> FakeClock:
    """Time that stands still unless moved."""
    return FakeClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: FakeClock) -> Iterator[Ledger]:
    """An empty ledger on the fake clock."""
    with Ledger.create(tmp_path / "progress.db", clock) as opened:
        yield opened


@pytest.fixture
def load(ledger: Ledger) -> Callable[..., LoadSummary]:
    """Load lines of a manifest into the ledger: ``load("md5  path", ...)``."""

    def loads(*lines: str, selection: Selection | None = None, strict: bool = False) -> LoadSummary:
        with ledger.write() as connection:
            ledger.set_setting(connection, "data_root", str(ledger.path.parent / "midas-open"))
            loader = ManifestLoader(ledger, "manifest.txt", selection or Selection(), strict=strict)
            return loader.load(connection, ManifestParser([f"{line}\n".encode() for line in lines]))

    return loads


@dataclass(frozen=True)
class Archive:
    """A synthetic archive: its root, its manifest, and how much it holds."""

    root: Path
    manifest: Path

    @property
    def lines(self) -> list[tuple[str, str]]:
        """(md5, path) of each file."""
        pairs = (line.split("  ", 1) for line in self.manifest.read_text().splitlines())
        return [(md5, path.removeprefix("./")) for md5, path in pairs]

    @property
    def distinct(self) -> int:
        """Distinct md5s."""
        return len({md5 for md5, _ in self.lines})


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """2,000 files, 5 % of them with the contents of another."""
    root = tmp_path_factory.mktemp("archive")
    return Archive(root, make_archive(root, 2_000, seed=1))


@pytest.fixture(scope="session")
def small_archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """120 files."""
    root = tmp_path_factory.mktemp("small-archive")
    return Archive(root, make_archive(root, 120, seed=2, mean_kb=2))


@pytest.fixture
def simulator(small_archive: Archive) -> Iterator[Simulator]:
    """A CEDA that serves the small archive."""
    with Simulator(small_archive.root) as running:
        yield running


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The real command, with credentials; no limits, blind to load. Point it at a simulator: `with_environment`."""
    unlimited = {
        "MIDASDL_PERFORMANCE__CEDA_CLIENT__MIN_REQUEST_SPACING_MS": "0",
        "MIDASDL_PERFORMANCE__CEDA_CLIENT__MAX_CONCURRENT_REQUESTS": "0",
        "MIDASDL_PERFORMANCE__WORKERS__RESTART_DELAY_MS": "50",
        "MIDASDL_PERFORMANCE__TUNING__ENABLED": "false",
    }
    return Command(tmp_path, {**ACCOUNT, **unlimited})


@pytest.fixture
def other_disk() -> Iterator[Path]:
    """An empty folder on another file system than temporary files."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev:
        pytest.skip("there is no second file system here")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real files of MIDAS Open, which are not part of this repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder with real files of MIDAS Open is not here")
    return folder


@pytest.fixture
def as_an_ordinary_user() -> Iterator[None]:
    """Root may read and write everything, which would prove nothing."""
    if not hasattr(os, "geteuid"):
        pytest.skip("no users of that kind on this system")
    if (me := os.geteuid()) == 0:
        os.seteuid(65_534)
    yield
    os.seteuid(me)
