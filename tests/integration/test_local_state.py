"""F4, S1, I1: what is on disk already: looked for ahead, read again or believed; folders and part files ahead of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from midasdl.config import resolve
from midasdl.config.keys import tree_of
from midasdl.errors import ConfigurationError, StorageError
from midasdl.progress.events import CacheHit, DownloadCompleted, DownloadStarted
from midasdl.simulator import Fault
from midasdl.worker import DownloadWorker
from midasdl.worker_process import policy_from, store_from
from tests.support.desk import FILES, Desk, desk, fill_claims, line, md5, simulator

__all__ = ["desk", "simulator"]

Load = Callable[..., Any]


def use_settings(
    desk: Desk, uniform: Callable[[float, float], float] = lambda *_: 0.5, **values: object
) -> None:
    """Give the desk to a worker with settings of its own, written as ``cache__key=value``."""
    settings = resolve(tree_of({f"performance.{name.replace('__', '.')}": to for name, to in values.items()}))
    desk.store = store_from(settings, desk.root)
    desk.store.prepare()
    parts: list[Any] = [desk.worker_id, desk.queue, desk.store, desk.access.client, desk.gate]
    desk.worker = DownloadWorker(*parts, policy_from(settings), desk.clock, desk.events.append, uniform)


def put(desk: Desk, path: str, contents: bytes) -> None:
    (desk.root / path).parent.mkdir(parents=True, exist_ok=True)
    (desk.root / path).write_bytes(contents)


@pytest.mark.parametrize(
    ("count", "order"),
    [
        (50, ["hit c", "hit d", "ask a", "ask b"]),
        (3, ["hit c", "ask a", "ask b", "hit d"]),
        (0, ["ask a", "ask b", "hit c", "hit d"]),
    ],
)
@pytest.mark.effect_of("performance.batching.prefetch_count")
def test_so_many_files_are_looked_for_on_disk_before_the_first_request(
    desk: Desk, load: Load, count: int, order: list[str]
) -> None:
    """F4 S1: what is there waits behind no request; nothing is asked for or finished twice."""
    names = [f"data/{name}.csv" for name in "abcd"]
    load(*map(line, names))
    for path in names[2:]:
        put(desk, path, FILES[path])
    use_settings(desk, batching__prefetch_count=count)
    fill_claims(desk, 4)
    desk.worker.run()
    told = [
        f"{'hit' if isinstance(event, CacheHit) else 'ask'} {event.path[5]}"
        for event in desk.events
        if isinstance(event, CacheHit | DownloadStarted)
    ]
    assert told == order
    assert desk.gets() == names[:2]
    assert desk.states() == {"done"}


def test_a_stop_while_looking_ahead_gives_back_what_is_not_finished(desk: Desk, load: Load) -> None:
    """W4 I3: found files are recorded, the others are as they were."""
    names = [f"data/{name}.csv" for name in "abc"]
    load(*map(line, names))
    put(desk, names[1], FILES[names[1]])
    use_settings(desk)
    fill_claims(desk, 3)
    desk.worker._look_ahead(desk.clock.monotonic())
    desk.worker.give_back()
    assert {path: row.state for path, row in desk.tasks().items()} == {
        names[0]: "pending",
        names[1]: "done",
        names[2]: "pending",
    }


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.effect_of("performance.cache.parallel_directory_creation")
def test_folders_of_the_next_files_are_made_ahead_or_each_for_its_first_file(
    desk: Desk, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: bool
) -> None:
    """F4: seen when the first file is asked for; the files come all the same."""
    paths = [f"data/{name}/{name}.csv" for name in "abcde"]
    load(*(f"{md5(f'data/{path[5]}.csv')}  ./{path}" for path in paths))
    for path in paths:
        (tmp_path / "archive" / path).parent.mkdir(parents=True)
        (tmp_path / "archive" / path).write_bytes(FILES[f"data/{path[5]}.csv"])
    use_settings(desk, cache__parallel_directory_creation=ahead)
    seen: list[int] = []
    fetch = desk.access.client.fetch

    def looking(path: str, sink: Any) -> Any:
        seen.append(sum((desk.root / each).parent.is_dir() for each in paths))
        return fetch(path, sink)

    monkeypatch.setattr(desk.access.client, "fetch", looking)
    fill_claims(desk, 5)
    desk.worker.run()
    assert seen == ([5] * 5 if ahead else [0, 1, 2, 3, 4])
    assert desk.states() == {"done"}


def test_a_folder_that_cannot_be_made_ahead_stops_the_run_when_its_file_comes(desk: Desk, load: Load) -> None:
    """S7: what stands in the way is told by the file that needs the folder, as without looking ahead."""
    load(line("data/a.csv"), line("data/b.csv"))
    put(desk, "data/x", b"")
    use_settings(desk)
    desk.store.make_folders_of(["data/x/a.csv", "data/y/b.csv"])
    assert (desk.root / "data/y").is_dir()
    with desk.store.part() as part, pytest.raises(StorageError, match="data/x"):
        desk.store.publish(part, ["data/x/a.csv"])


# --- read again, or believed


def gain_a_path(desk: Desk, load: Load, on_disk: bytes) -> None:
    """A file that was done gains a path by a newer manifest; meanwhile its first path has come to hold `on_disk`."""
    load(line("data/a.csv"))
    desk.worker.run()
    put(desk, "data/a.csv", on_disk)
    load(line("data/a.csv"), f"{md5('data/a.csv')}  ./data/second.csv")
    assert desk.states() == {"pending"}


SPOILT = FILES["data/a.csv"].swapcase()
READS: dict[str, tuple[dict[str, object], float, bool]] = {
    "by default": ({}, 0.999, True),
    "never": ({"cache__verification_enabled": False}, 0.0, False),
    "share drawn": ({"cache__verification_sample_rate": 0.25}, 0.249, True),
    "share not drawn": ({"cache__verification_sample_rate": 0.25}, 0.251, False),
    "none": ({"cache__verification_sample_rate": 0.0}, 0.0, False),
}


@pytest.mark.parametrize("case", READS)
@pytest.mark.effect_of("performance.cache.verification_enabled", "performance.cache.verification_sample_rate")
def test_a_file_that_was_done_once_is_read_again_or_believed(desk: Desk, load: Load, case: str) -> None:
    """F4 S1: told by whether spoilt bytes of the right size are noticed; by default they always are."""
    values, drawn, is_read = READS[case]
    gain_a_path(desk, load, SPOILT)
    use_settings(desk, lambda *_: drawn, **values)
    desk.events.clear()
    desk.worker.run()
    assert len(desk.said(DownloadCompleted)) == int(is_read)
    assert desk.states() == {"done"}
    held = {(desk.root / path).read_bytes() for path in ("data/a.csv", "data/second.csv")}
    assert held == {FILES["data/a.csv"] if is_read else SPOILT}


@pytest.mark.parametrize("on_disk", [SPOILT + b"more", b""], ids=["longer", "empty"])
def test_a_file_of_another_size_is_never_believed(desk: Desk, load: Load, on_disk: bytes) -> None:
    """I1."""
    gain_a_path(desk, load, on_disk)
    use_settings(desk, cache__verification_enabled=False)
    desk.worker.run()
    assert (desk.root / "data/second.csv").read_bytes() == FILES["data/a.csv"]


def test_what_stands_at_a_path_that_is_new_is_read_whatever_is_believed(desk: Desk, load: Load) -> None:
    """I1: the ledger has never called that one right."""
    gain_a_path(desk, load, FILES["data/a.csv"])
    put(desk, "data/second.csv", SPOILT)
    use_settings(desk, cache__verification_enabled=False)
    desk.worker.run()
    assert (desk.root / "data/second.csv").read_bytes() == FILES["data/a.csv"]


@pytest.mark.parametrize("doubt", ["damage", "another content"])
def test_what_has_become_doubtful_is_read_whatever_is_believed(desk: Desk, load: Load, doubt: str) -> None:
    """I1 S5: what verify found damaged, and a path whose bytes a newer manifest has changed."""
    load(line("data/a.csv"), line("data/b.csv"))
    desk.worker.run()
    if doubt == "damage":
        put(desk, "data/a.csv", SPOILT)
        put_back(desk, "data/a.csv")
        expected = FILES["data/a.csv"]
    else:
        load(f"{md5('data/b.csv')}  ./data/a.csv", line("data/b.csv"))
        expected = FILES["data/b.csv"]
        assert len(expected) == len(FILES["data/a.csv"])
    use_settings(desk, cache__verification_enabled=False)
    desk.worker.run()
    assert desk.states() == {"done"}
    assert (desk.root / "data/a.csv").read_bytes() == expected


def put_back(desk: Desk, path: str) -> None:
    """As ``verify --repair`` does."""
    with desk.ledger.write() as connection:
        desk.queue.reopen(connection, [desk.tasks()[path].id], "found corrupt")


def test_what_is_fetched_is_hashed_whatever_is_believed(desk: Desk, load: Load) -> None:
    """I1: believing sizes is about files that were right once, not about answers of a server."""
    load(line("data/a.csv"))
    desk.simulator.add_fault(Fault("corrupt", route="download"))
    use_settings(desk, cache__verification_enabled=False, ceda_client__backoff__base_backoff_ms=1)
    desk.worker.run()
    assert (desk.root / "data/a.csv").read_bytes() == FILES["data/a.csv"]
    assert len(desk.gets()) == 2


# --- part files elsewhere


@pytest.mark.effect_of("performance.cache.temp_file_directory")
def test_part_files_are_where_the_settings_say_and_are_cleared_away_there(
    desk: Desk, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F4 S2 S7: seen while a file comes; another archive's part files in the same place are nobody's business."""
    place = tmp_path / "scratch"
    load(line("data/a.csv"))
    other = store_from(
        resolve(tree_of({"performance.cache.temp_file_directory": str(place)})), tmp_path / "other"
    )
    other.prepare()
    with other.part() as of_another_archive:
        use_settings(desk, cache__temp_file_directory=str(place), memory__max_file_size_in_memory=0)
        seen: list[Path] = []
        publish = desk.store.publish
        monkeypatch.setattr(
            desk.store, "publish", lambda part, *more: (seen.append(part.path), publish(part, *more))[1]
        )
        desk.worker.run()
        assert of_another_archive.path.parent != seen[0].parent
        assert of_another_archive.path.is_file()
    assert seen[0].is_relative_to(place)
    assert list(seen[0].parent.iterdir()) == []
    left = seen[0].with_name("host~1~2-3~4.part")
    left.write_bytes(b"")
    usual = desk.root / ".midasdl" / "parts" / left.name
    usual.write_bytes(b"")
    monkeypatch.setattr("midasdl.parts.ProcessIdentity.is_gone", lambda _: True)
    assert desk.store.remove_stale_parts() == 2
    assert (desk.root / "data/a.csv").read_bytes() == FILES["data/a.csv"]


def test_part_files_on_another_disk_are_refused(tmp_path: Path, other_disk: Path) -> None:
    """F4 S2: a rename cannot reach from there; the message names the key, and nothing is left behind."""
    settings = resolve(tree_of({"performance.cache.temp_file_directory": str(other_disk)}))
    with pytest.raises(ConfigurationError, match="another file system") as raised:
        store_from(settings, tmp_path / "root").prepare()
    assert "performance.cache.temp_file_directory" in str(raised.value.hint)
    assert list(other_disk.iterdir()) == []
