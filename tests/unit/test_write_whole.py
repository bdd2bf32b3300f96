"""A file that is replaced is whole at every moment; what is no file is written to as it stands."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from midasdl.disk import write_whole

HANGS_S = 60.0


def test_what_a_link_leads_to_is_replaced_and_nothing_is_left_beside(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    before = target.stat().st_ino
    link.symlink_to(target)
    write_whole(link, b"new")
    assert (target.read_bytes(), link.is_symlink()) == (b"new", True)
    assert target.stat().st_ino != before, "it was written over, and not replaced"
    assert {path.name for path in tmp_path.iterdir()} == {"target", "link"}


def test_a_link_that_leads_nowhere_yet_gets_its_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "target").read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_stays_one_and_its_reader_gets_all(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_whole(pipe, b"new")
    reader.join(HANGS_S)
    assert (read, pipe.is_fifo()) == ([b"new"], True)


def test_what_cannot_be_written_leaves_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "folder", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
