"""Issue 7: what a first load costs, counted rather than timed, and that its short way ends as the long one does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from midasdl.errors import LedgerError, ManifestError
from midasdl.identity import host_name
from midasdl.ledger import folders
from midasdl.ledger import load as load_module
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.load import ManifestLoader
from midasdl.ledger.new_ledger import new_ledger
from midasdl.ledger.overview import Overview
from midasdl.manifest import ManifestParser, parse_line
from midasdl.manifest.plain import entries_of
from midasdl.selection import Selection
from tests.support.clock import FakeClock

FOLDER = "data/uk-daily-rain-obs/dataset-version-202407/devon/{id:05d}_twist/qc-version-1"
NAME = "midas-open_uk-daily-rain-obs_dv-202407_devon_{id:05d}_twist_qcv-1_{year}.csv"
LINES = 20_000
BYTES_A_FILE = 600


def line(number: int) -> bytes:
    station, year = divmod(number, 50)
    path = f"{FOLDER}/{NAME}".format(id=station, year=1950 + year)
    return f"{number:032x}  ./{path}\n".encode()


def load(ledger: Ledger, lines: list[bytes]) -> Any:
    with ledger.write() as connection:
        return ManifestLoader(ledger, "m", Selection()).load(connection, ManifestParser(lines))


def contents(ledger: Ledger) -> list[Any]:
    """Everything that a load has left, without the numbers that it gave."""
    with ledger.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT d.path, t.md5, t.state, d.kind, d.year, d.line_no FROM destination d "
            "JOIN task t ON t.id = d.task_id ORDER BY d.path"
        ).all()
        rejects = connection.exec_driver_sql("SELECT line_no, text, reason FROM reject ORDER BY 1, 3").all()
        indexes = connection.exec_driver_sql("SELECT sql FROM sqlite_schema WHERE type = 'index'").all()
        order = connection.exec_driver_sql("SELECT md5 FROM task ORDER BY id").all()
    return [rows, rejects, sorted(map(str, indexes)), order]


def test_a_first_load_sends_few_statements_and_leaves_a_small_ledger(tmp_path: Path) -> None:
    """Nine statements for a thousand lines at most, 600 bytes a file, one index after the other at the end."""
    sent: list[str] = []
    with new_ledger(tmp_path / "progress.db", FakeClock()) as ledger:
        event.listen(ledger._engine, "before_cursor_execute", lambda *told: sent.append(told[2]))
        load(ledger, [line(number) for number in range(LINES)])

    made = [statement for statement in sent if statement.startswith(("CREATE INDEX", "CREATE UNIQUE"))]
    assert len(sent) - len(made) < 9 * LINES / 1_000 + 40
    assert len(made) == 6
    assert sent.index(made[0]) > max(i for i, each in enumerate(sent) if each.startswith("INSERT INTO task"))
    assert (tmp_path / "progress.db").stat().st_size < BYTES_A_FILE * LINES


MD5S = st.sampled_from(["a" * 32, "b" * 32, "c" * 32])
PATHS = st.sampled_from(
    ["p", "p/q", "p/q/r", "p-q", "s", "s/t", "../x"]
    + [f"{FOLDER}/{NAME}".format(id=1, year=year) for year in (1990, 1991)]
    + [FOLDER.format(id=1), f"{FOLDER}/{NAME}".format(id=1, year=1990) + "/beneath", "data"]
)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "progress.db"
    Ledger.create(path).close()
    return path


@settings(max_examples=25)
@given(said=st.lists(st.tuples(MD5S, PATHS), min_size=1, max_size=12), few=st.sampled_from([0, 10_000]))
def test_the_short_way_of_a_first_load_ends_as_the_long_one(
    empty: Path, said: list[tuple[str, str]], few: int
) -> None:
    """M5 M6 M7: rows, rejects, order of tasks, counts and indexes are the same, however paths are compared."""
    lines = [b"f" * 32 + b"  good\n"] + [f"{md5}  {path}\n".encode() for md5, path in said]
    ended = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "FEW", few)
        for highest_id in (load_module._highest_id, highest_id_of_a_used_ledger):
            patch.setattr(load_module, "_highest_id", highest_id)
            shutil.copy(empty, path := empty.with_name("copy.db"))
            with Ledger.open(path, FakeClock()) as ledger:
                ended.append((load(ledger, lines), contents(ledger)))
                Overview(ledger).require_that_all_adds_up()
    assert ended[0] == ended[1]


def highest_id_of_a_used_ledger(*_: Any) -> int:
    """As where tasks were deleted: the long way is taken."""
    return 100


ODD_LINES = st.one_of(
    st.binary(max_size=40).map(lambda text: text.replace(b"\n", b"") + b"\n"),
    st.integers(0, 400).map(line),
    st.tuples(st.integers(0, 400).map(line), st.integers(0, 200), st.binary(min_size=1, max_size=2)).map(
        lambda told: told[0][: told[1]] + told[2].replace(b"\n", b"") + told[0][told[1] :]
    ),
)


@settings(max_examples=150)
@given(lines=st.lists(ODD_LINES, max_size=6), ends=st.sampled_from([b"", b"no end", b"\r\n"]))
def test_many_lines_at_once_are_understood_as_each_alone(lines: list[bytes], ends: bytes) -> None:
    """M2 M4 M6: also where they are nearly as usual."""
    piece = b"".join(lines) + ends
    alone = [parse_line(each, no) for no, each in enumerate(by_newline(piece), 1)]
    assert entries_of(piece, 1, parse_line) == alone


def by_newline(piece: bytes) -> list[bytes]:
    parts = piece.split(b"\n")
    return [each + b"\n" for each in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


# --- a ledger that appears whole


def test_a_new_ledger_has_its_name_when_it_is_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    """I7 L9: nobody ever sees half of it; neither success nor failure leaves anything beside."""
    path = tmp_path / "progress.db"
    with new_ledger(path, FakeClock()) as ledger:
        load(ledger, [line(1)])
        assert not path.exists()
    assert [each.name for each in tmp_path.iterdir()] == ["progress.db"]
    with Ledger.open(path, FakeClock()) as ledger, ledger.write() as connection:
        assert Overview(ledger).counts().files == 1
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    path.unlink()
    with pytest.raises(ManifestError), new_ledger(path, FakeClock()) as ledger:
        load(ledger, [b"rubbish\n"])
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_load_has_left_is_cleared_away_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    """I7 S7: told apart by the process in the name."""
    beside = f"progress.db.new-{host_name()}-"
    dead, alive = tmp_path / f"{beside}4000001", tmp_path / f"{beside}{os.getppid()}"
    elsewhere = tmp_path / "progress.db.new-elsewhere-4000001"
    for left in (dead, dead.with_name(f"{dead.name}-journal"), alive, elsewhere):
        left.touch()
    with new_ledger(tmp_path / "progress.db", FakeClock()) as ledger:
        load(ledger, [line(1)])
    assert {each.name for each in tmp_path.iterdir()} == {"progress.db", alive.name, elsewhere.name}


def test_of_two_first_loads_at_once_the_second_is_told_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W5: it is the same command that merges it; also on file systems without links."""
    path = tmp_path / "progress.db"

    def no_links(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    for links in (True, False):
        if not links:
            monkeypatch.setattr(os, "link", no_links)
        path.unlink(missing_ok=True)
        with pytest.raises(LedgerError, match="meanwhile") as caught:
            load_two_at_once(path)
        assert "merged" in str(caught.value.hint)
        with Ledger.open(path, FakeClock()) as ledger, ledger.read() as connection:
            assert connection.exec_driver_sql("SELECT line_no, md5 FROM downloads").all() == [
                (1, f"{1:032x}")
            ]


def load_two_at_once(path: Path) -> None:
    with (
        new_ledger(path, FakeClock()) as second,
        new_ledger(path.with_name("first.db"), FakeClock()) as first,
    ):
        load(second, [line(2)])
        load(first, [line(1)])
        first.close()
        shutil.copy(next(path.parent.glob("first.db.new-*")), path)
