"""`midasdl verify`: what is on disk is read again, and what is not right can be fetched again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from midasdl.simulator.pages import login_page
from tests.acceptance.conftest import JobOnTrial
from tests.conftest import Archive
from tests.support.command import kill_group
from tests.support.promptness import CROWDED_END_S
from tests.support.terminal import converse

HOLE_BYTES = 200_000_000_000
"""Of a file without blocks: reading it takes minutes, having it costs nothing."""


def fetched(job: JobOnTrial) -> Path:
    """Let a job run to its end; its data root."""
    job.init()
    job.command("run")
    job.simulator.clear_requests()
    return job.folder / "data-root"


def lone_paths(job: JobOnTrial) -> list[str]:
    """Files whose contents no other file has, in order."""
    rows = job.rows("SELECT min(path) FROM destination GROUP BY task_id HAVING count(*) = 1 ORDER BY 1")
    return [path for (path,) in rows]


def is_reading(pid: int, path: Path) -> bool:
    """Whether a process below another has a file open just now."""
    with suppress(psutil.Error):
        below = psutil.Process(pid).children(recursive=True)
        return any(file.path == str(path) for process in below for file in process.open_files())
    return False


def test_what_is_missing_or_corrupt_is_named_put_back_and_fetched_and_nothing_else(job: JobOnTrial) -> None:
    """S5 L1: exit 1 by itself, 0 with --repair; the run after it asks for just those files."""
    root = fetched(job)
    gone, flipped, page, emptied = lone_paths(job)[:4]
    (root / gone).unlink()
    contents = (root / flipped).read_bytes()
    (root / flipped).write_bytes(contents[:-1] + bytes([contents[-1] ^ 1]))
    (root / page).write_text(login_page("token"))
    (root / emptied).write_bytes(b"")
    (root / "data/notes.txt").write_text("mine")
    before = job.rows("SELECT * FROM task ORDER BY id")

    ended = job.command("verify", code=1)

    assert f"missing     {gone}" in ended.out
    assert f"corrupt     {flipped}: its md5 is" in ended.out
    assert f"corrupt     {page}: it is CEDA's login page" in ended.out
    assert f"corrupt     {emptied}: it is empty" in ended.out
    assert "unknown     data/notes.txt" in ended.out
    assert "Looked at 120 of 120 finished files: 116 ok" in ended.out
    assert "1 missing, 3 corrupt, 1 unknown." in ended.out
    assert "midasdl verify --resume --repair" in ended.out
    assert job.rows("SELECT * FROM task ORDER BY id") == before
    assert job.rows("SELECT path, found FROM damaged ORDER BY path") == sorted(
        [(gone, "missing"), (flipped, "corrupt"), (page, "corrupt"), (emptied, "corrupt")]
    )

    ended = job.command("verify", "--repair", "--json")

    record = ended.record("verify")
    assert (record["put_back"], record["missing"], record["corrupt"], record["unknown"]) == (4, 1, 3, 1)
    assert {row["path"] for row in ended.records if row["kind"] == "verify-file"} == {
        *(gone, flipped, page, emptied),
        "data/notes.txt",
    }
    assert (root / page).read_text() == login_page("token"), "nothing goes before its replacement is there"
    assert job.one("SELECT count(*) FROM task WHERE state = 'pending'") == 4
    assert sorted(
        job.rows("SELECT from_state, to_state, reason FROM transition WHERE to_state = 'pending'")
    ) == [
        *[("done", "pending", "found corrupt")] * 3,
        ("done", "pending", "found missing"),
    ]
    assert job.rows("SELECT * FROM damaged") == []
    assert job.simulator.requests == []

    job.command("run")

    assert sorted(record.path.partition("ukmo-midas-open/")[2] for record in job.downloads) == sorted(
        [gone, flipped, page, emptied]
    )
    assert job.is_complete
    assert "120 ok" in job.command("verify").out


def test_a_repair_after_a_verification_reads_only_what_was_found_wrong(job: JobOnTrial) -> None:
    """S5: --resume does not read a million files again to put one back."""
    root = fetched(job)
    (gone,) = lone_paths(job)[:1]
    (root / gone).unlink()
    job.command("verify", code=1)

    record = job.command("verify", "--resume", "--repair", "--json").record("verify")

    assert (record["looked_at"], record["missing"], record["put_back"]) == (1, 1, 1)
    assert "came to its end" in job.command("verify", "--resume").out


def test_a_damaged_file_with_several_names_is_named_at_each_and_fetched_once(job: JobOnTrial) -> None:
    """S5 M5: names that are hard links of each other are damaged together and mended together."""
    root = fetched(job)
    task, count = job.rows("SELECT task_id, count(*) FROM destination GROUP BY 1 ORDER BY 2 DESC LIMIT 1")[0]
    paths = [path for (path,) in job.rows(f"SELECT path FROM destination WHERE task_id = {task}")]
    (root / paths[0]).write_bytes(b"scribbled over")

    record = job.command("verify", "--repair", "--json").record("verify")
    job.command("run")

    assert count > 1
    assert (record["corrupt"], record["put_back"], len(job.downloads)) == (count, 1, 1)
    assert job.is_complete


def test_what_the_system_does_not_let_us_read_is_told_and_not_put_back(job: JobOnTrial) -> None:
    """S5 W6: fetching would not help, so exit 1 also with --repair."""
    root = fetched(job)
    (path,) = lone_paths(job)[:1]
    (root / path).unlink()
    (root / path).mkdir()

    ended = job.command("verify", "--repair", code=1)

    assert f"unreadable  {path}: it is not a regular file" in ended.out
    assert job.one("SELECT count(*) FROM task WHERE state <> 'done'") == 0


def test_a_data_root_that_is_not_mounted_is_not_taken_for_a_million_missing_files(job: JobOnTrial) -> None:
    """S5 W6: exit 4, and --repair puts nothing back."""
    job.init()
    assert "Nothing is fetched yet" in job.command("verify").out
    job.command("run")
    root = job.folder / "data-root"
    root.rename(job.folder / "unplugged")
    root.mkdir()

    ended = job.command("verify", "--repair", code=4)

    assert "not mounted" in ended.err
    assert job.one("SELECT count(*) FROM task WHERE state <> 'done'") == 0


def test_a_sample_says_how_many_of_how_many(job: JobOnTrial) -> None:
    """S5: 0.1 and 10% are twelve files of 120; what is no share is refused with what would be one."""
    root = fetched(job)
    for path in lone_paths(job):
        (root / path).unlink()

    for share in ("0.1", "10%"):
        record = job.command("verify", "--sample", share, "--json", code=1).record("verify")
        assert (record["looked_at"], record["files"], record["unknown"]) == (12, 120, None)
    for share in ("0", "110%", "some"):
        assert "such as 0.1" in job.command("verify", "--sample", share, code=2).err
    job.command("verify", "--sample", "0.1", "--resume", code=2)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_a_signal_ends_a_verification_within_seconds_and_resume_does_the_whole(
    job: JobOnTrial, number: signal.Signals, code: int
) -> None:
    """S5 W4: the command says how to go on, leaves no process behind, and no file out."""
    root = fetched(job)
    (path,) = lone_paths(job)[:1]
    whole = (root / path).read_bytes()
    os.truncate(root / path, HOLE_BYTES)
    process = job.command.start("verify", "--workers", "2")
    while not is_reading(process.pid, root / path):
        assert process.poll() is None
        time.sleep(0.05)

    began = time.monotonic()
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)

    assert time.monotonic() - began < CROWDED_END_S
    assert process.returncode == code
    assert "Go on with: midasdl verify --resume" in out
    assert "Traceback" not in errors
    assert not group_lives(process.pid)
    (root / path).write_bytes(whole)
    assert "Looked at 120 of 120 finished files: 120 ok" in job.command("verify", "--resume").out


def group_lives(group: int) -> bool:
    """Whether any process of a group is left, after a moment in which the last may end."""
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


def test_a_verification_does_not_disturb_a_run_nor_is_it_fooled_by_it(
    job_on: Callable[..., JobOnTrial], small_archive: Archive
) -> None:
    """S5: what a run works on is not looked at; both end well."""
    job = job_on(small_archive, first_byte_delay_s=0.1)
    job.init()
    process = job.command.start("run", "--workers", "2")
    try:
        while process.poll() is None:
            ended = job.command("verify")
            assert ", 0 missing, 0 corrupt" in ended.out
        process.communicate()
    finally:
        kill_group(process)
    assert process.returncode == 0
    assert job.is_complete


def test_what_is_found_is_told_on_a_terminal_too(job: JobOnTrial) -> None:
    """S5: there a bar is drawn meanwhile, and what is said comes above it."""
    root = fetched(job)
    gone = lone_paths(job)[0]
    (root / gone).unlink()

    seen = converse(job.command, ["verify"], [])

    assert seen.code == 1
    assert gone in "".join(seen.out.split())
    assert "did not foresee" not in seen.out


def test_known_damage_is_told_until_it_is_put_right(job: JobOnTrial) -> None:
    """S5 P5: a file that is known to be gone counts as done, and nobody is told that all is well."""
    root = fetched(job)
    (root / lone_paths(job)[0]).unlink()
    job.command("verify", code=1)
    advice = "But 1 finished file is known to be missing or damaged: midasdl verify --resume --repair"

    assert advice in job.command("run").out
    assert advice in job.command("status").out
    job.command("verify", "--resume", "--repair")
    assert advice not in job.command("run").out
    assert advice not in job.command("status").out
