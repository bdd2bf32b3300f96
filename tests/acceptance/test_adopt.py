"""`midasdl adopt` and `run --source`: what is here already is not asked for."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from midasdl.simulator.pages import login_page
from tests.acceptance.conftest import JobOnTrial
from tests.conftest import Archive
from tests.support.command import kill_group


def tree_of(archive: Archive, folder: Path) -> Path:
    """The tree that ``wget --mirror`` leaves behind."""
    shutil.copytree(archive.root / "data", folder / "dap.ceda.ac.uk/badc/ukmo-midas-open/data")
    return folder


def contents(folder: Path) -> dict[str, str]:
    """Every file of a folder, and what is in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


def inodes(folder: Path) -> set[int]:
    return {path.stat().st_ino for path in folder.rglob("*") if path.is_file()}


def test_a_tree_from_wget_is_taken_over_without_a_request_and_is_not_touched(
    job: JobOnTrial, small_archive: Archive
) -> None:
    """S6 S4 I1: all is done from the cache, in files of our own; a second time there is nothing left to do."""
    job.init()
    tree = tree_of(small_archive, job.folder / "old")
    before, root = contents(tree), job.folder / "data-root"

    ended = job.command("adopt", "old", "--json")

    record = ended.record("adopt")
    assert record["adopted"] == small_archive.distinct
    assert record["adopted"] + record["already"] == record["seen"] == 120
    assert job.is_complete
    assert contents(tree) == before
    assert not inodes(tree) & inodes(root), "a later change in the old tree must not change ours"
    assert job.rows("SELECT state, from_cache, count(*) FROM task GROUP BY 1, 2") == [
        ("done", 1, small_archive.distinct)
    ]
    assert job.rows("SELECT * FROM worker WHERE state = 'alive'") == []
    assert list((root / ".midasdl/parts").iterdir()) == []
    assert job.command("adopt", "old", "--json").record("adopt") | {"seen": 120} == {
        **record,
        "adopted": 0,
        "bytes_adopted": 0,
        "already": 120,
    }
    assert "Nothing to do" in job.command("run").out
    assert job.simulator.requests == []


def test_a_flat_folder_is_matched_by_name_and_everything_else_is_told_as_what_it_is(
    job: JobOnTrial, small_archive: Archive
) -> None:
    """S6 C3: wget's names, a login page saved as data, half a file, links, and what is no business of ours."""
    job.init()
    flat = job.folder / "flat"
    flat.mkdir()
    lone = lone_paths(small_archive)[:6]
    plain, queried, numbered, linked, page, half = (small_archive.root / path for path in lone)
    shutil.copy(plain, flat)
    shutil.copy(queried, flat / f"{queried.name}?download=1")
    shutil.copy(numbered, flat / f"{numbered.name}.1")
    (flat / linked.name).symlink_to(linked)
    (flat / "others").symlink_to(small_archive.root, target_is_directory=True)
    (flat / page.name).write_text(login_page("token"))
    (flat / half.name).write_bytes(half.read_bytes()[:-20])
    (flat / "thesis.tex").write_text("mine")
    (flat / os.fsdecode(b"caf\xe9.csv")).write_text("mine")
    os.mkfifo(flat / "pipe.csv")

    ended = job.command("adopt", "flat", "-v")

    assert "took over 4 distinct contents" in ended.out
    assert f"page        flat/{page.name}: it is CEDA's login page, saved under the name of data" in ended.out
    assert f"different   flat/{half.name}: its bytes are not those of {lone[5]} in the manifest" in ended.out
    assert "unknown     flat/thesis.tex" in ended.out
    assert r"unknown     flat/caf\udce9.csv" in ended.out
    assert f"Still to be fetched: {small_archive.distinct - 4}. Next: midasdl run" in ended.out
    assert sorted(job.rows("SELECT path FROM downloads WHERE state = 'done'")) == [
        (path,) for path in lone[:4]
    ]
    job.command("run")
    assert len(job.downloads) == small_archive.distinct - 4
    assert job.is_complete


def lone_paths(archive: Archive) -> list[str]:
    """Files whose contents no other file has, in order."""
    counts = Counter(md5 for md5, _ in archive.lines)
    return sorted(path for md5, path in archive.lines if counts[md5] == 1)


@pytest.mark.parametrize("way", ["--move", "--link"])
def test_files_may_be_moved_or_linked_instead(job: JobOnTrial, small_archive: Archive, way: str) -> None:
    """S6: --move leaves only what it did not need, --link shares every file; both leave a whole archive."""
    job.init()
    tree = tree_of(small_archive, job.folder / "old")
    (tree / "thesis.tex").write_text("mine")
    before = contents(tree)

    job.command("adopt", "old", way)

    assert job.is_complete
    if way == "--link":
        assert contents(tree) == before
        assert inodes(job.folder / "data-root") <= inodes(tree)
    else:
        assert len(contents(tree)) == 1 + len(before) - 1 - small_archive.distinct
        assert (tree / "thesis.tex").exists()
    assert job.simulator.requests == []


def test_files_in_the_data_root_are_recorded_where_they_are(job: JobOnTrial, small_archive: Archive) -> None:
    """S6: whoever had let wget write straight into the data root; --move is refused there."""
    job.init()
    root = job.folder / "data-root"
    shutil.copytree(small_archive.root / "data", root / "data")
    before = inodes(root)

    assert "cannot be moved" in job.command("adopt", "data-root/data", "--move", code=2).err
    job.command("adopt", "data-root")

    assert inodes(root) == before
    assert job.one("SELECT count(*) FROM task WHERE state <> 'done'") == 0
    assert "took over 0" in job.command("adopt", ".").out, "a folder around the data root does not find it"
    job.command("adopt", "nowhere", code=2)


def test_failures_are_mended_by_adopting_and_the_history_says_so(
    job: JobOnTrial, small_archive: Archive
) -> None:
    """S6 L1: a file that CEDA did not have may come from a colleague."""
    job.init()
    job.change(
        "UPDATE task SET state = 'failed', error_class = 'not-found', finished_at = 1, first_claimed_at = 1"
    )

    job.command("adopt", str(small_archive.root))

    assert job.is_complete
    assert job.rows("SELECT * FROM failures") == []
    assert job.rows("SELECT DISTINCT reason FROM transition WHERE from_state = 'failed'") == [
        ("found on disk",)
    ]


def test_a_killed_adoption_is_taken_up_by_the_same_command(
    job_on: Callable[..., JobOnTrial], archive: Archive
) -> None:
    """S6 I7: kill -9 of everything; the claims come back, no part file stays, and all ends well."""
    job = job_on(archive)
    job.init()
    process = job.command.start("adopt", str(archive.root), "--workers", "2")
    while not job.one("SELECT count(*) FROM task WHERE state = 'done'"):
        assert process.poll() is None
        time.sleep(0.01)
    kill_group(process)
    assert job.one("SELECT count(*) FROM task WHERE state <> 'done'") > 0, (
        "it was killed too late to show anything"
    )

    job.command("adopt", str(archive.root))
    job.command("run")

    assert job.is_complete
    assert job.simulator.requests == []
    assert list((job.folder / "data-root/.midasdl/parts").iterdir()) == []


def test_a_mounted_archive_fills_the_data_root_without_a_request_or_an_account(
    job: JobOnTrial, small_archive: Archive
) -> None:
    """S6: no token is asked for and no credentials are needed; nothing of the mount is linked."""
    job.init()
    bare = job.command.without("CEDA_USERNAME", "CEDA_PASSWORD")

    ended = bare("run", "--source", str(small_archive.root))

    assert f"Copied {small_archive.distinct} files" in ended.out
    assert "Nothing to do" in ended.out
    assert job.is_complete
    assert not inodes(small_archive.root) & inodes(job.folder / "data-root")
    assert job.one("SELECT sum(from_cache) FROM task") == small_archive.distinct
    assert job.simulator.requests == []
    bare("run", "--source", "nowhere", code=2)


def test_what_the_mounted_archive_lacks_or_has_otherwise_is_fetched(
    job: JobOnTrial, small_archive: Archive
) -> None:
    """S6 I1: the rest is downloaded, in the same run and in a resumed one; --json tells both."""
    job.init()
    mount = job.folder / "mount"
    shutil.copytree(small_archive.root / "data", mount / "data")
    absent, other = lone_paths(small_archive)[:2]
    (mount / absent).unlink()
    (mount / other).write_bytes(b"of another release")

    ended = job.command("run", "--source", "mount", "--json")

    record = ended.record("fill")
    assert (record["adopted"], record["not_there"], record["different"]) == (small_archive.distinct - 2, 1, 1)
    assert ended.record("run")["fetched"] == 2
    assert sorted(record.path.partition("ukmo-midas-open/")[2] for record in job.downloads) == sorted(
        [absent, other]
    )
    assert job.is_complete
    job.command("resume", "--source", "mount")
