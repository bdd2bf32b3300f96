"""S2, I1, I2: the power may fail between any two instructions.

The disk of this test keeps what was flushed to it and nothing else: of a file the bytes that it had when it was last
flushed, of a folder the names that it had then. A rename, though, may reach the disk before anybody asks for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from midasdl.ledger import schema
from midasdl.ledger.ledger import Ledger
from tests.support.desk import FILES, TWIN, Desk, desk, line, simulator
from tests.support.disk import FlushedDisk

__all__ = ["desk", "simulator"]

DUPLICATES = ["hardlink", "reflink", "copy"]


class PowerFails:
    """Looks, after every transaction, at what a disk would hold whose power failed there and then."""

    def __init__(self, desk: Desk, disk: FlushedDisk) -> None:
        self.ledger, self.root, self.disk = desk.ledger, desk.root, disk
        self.moments = 0
        self.done: set[str] = set()

    def now(self) -> None:
        """I2: whatever the ledger calls done is there."""
        self.moments += 1
        query = (
            select(schema.destination.c.path, schema.task.c.md5)
            .join_from(schema.destination, schema.task)
            .where(schema.task.c.state == "done")
        )
        with self.ledger.read() as connection:
            done = {row.path: row.md5 for row in connection.execute(query)}
        for path, md5 in done.items():
            contents = self.disk.contents(self.root / path)
            assert contents is not None, f"{path} is done, and its name is not on disk"
            assert hashlib.md5(contents).hexdigest() == md5, f"{path} is done, and its bytes are not on disk"
        self.done.update(done)


@pytest.mark.parametrize("how", DUPLICATES)
def test_i1_i2_what_the_ledger_calls_done_survives_a_power_cut_after_any_transaction(
    desk: Desk, load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    """Write, flush, rename, flush the folder, commit: in this order for each file and each of its paths."""
    disk = FlushedDisk(tmp_path, monkeypatch, final=desk.root / "data")
    desk.use_store(how)
    power = PowerFails(desk, disk)
    watch_transactions(desk.ledger, power.now, monkeypatch)
    load(*map(line, FILES), line(TWIN))

    desk.worker.run()

    assert power.done == {*FILES, TWIN}
    assert power.moments > 3
    assert disk.names_given >= len(power.done)


def test_i1_i2_files_that_a_dead_process_had_published_are_made_durable_before_they_count(
    desk: Desk, load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They stand under their names, but nobody knows whether the disk has them."""
    for path, contents in FILES.items():
        (desk.root / path).parent.mkdir(parents=True, exist_ok=True)
        (desk.root / path).write_bytes(contents)
    disk = FlushedDisk(tmp_path, monkeypatch, final=desk.root / "data")
    desk.use_store("hardlink")
    power = PowerFails(desk, disk)
    watch_transactions(desk.ledger, power.now, monkeypatch)
    load(*map(line, FILES), line(TWIN))

    desk.worker.run()

    assert desk.gets() == []
    assert power.done == {*FILES, TWIN}


def watch_transactions(ledger: Ledger, look: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Call `look` after each transaction that writes."""

    def watched(opened: Callable[[], AbstractContextManager[Any]]) -> Callable[[], Any]:
        @contextmanager
        def block() -> Iterator[Any]:
            with opened() as transaction:
                yield transaction
            look()

        return block

    for way in ("write", "brief"):
        monkeypatch.setattr(ledger, way, watched(getattr(ledger, way)))
