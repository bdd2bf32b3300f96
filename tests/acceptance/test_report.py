"""U8: the report as a command: what it says, and what it says when it cannot."""

from __future__ import annotations

from pathlib import Path

from tests.support.command import Command


def test_u8_a_report_that_cannot_be_written_leaves_what_is_there(command: Command, tmp_path: Path) -> None:
    """U8: exit code 4 with the way out; a file of that name and half a file are left alone."""
    manifest = tmp_path / "manifest.txt"
    manifest.write_text(f"{'0' * 32}  ./data/a.csv\n")
    command("init", str(manifest), "--dest", "out")
    (tmp_path / "report.html").mkdir()

    ended = command("report", code=4)

    assert "cannot be written: Is a directory" in ended.err
    assert "--output" in ended.err
    assert list(tmp_path.glob(".report*")) == []
    assert str(tmp_path / "other.html") in command("report", "--output", "other.html").out


def test_u8_no_ledger_no_report(command: Command, tmp_path: Path) -> None:
    """U8: no empty report, and no ledger, is made where there is none."""
    ended = command("report", code=6)
    assert "midasdl init" in ended.err
    assert not (tmp_path / "report.html").exists()
    assert not (tmp_path / "progress.db").exists()


def test_u8_links_stay_and_pipes_are_written_to(command: Command, tmp_path: Path) -> None:
    """U8: what stands at the place is used as what it is."""
    manifest = tmp_path / "manifest.txt"
    manifest.write_text(f"{'0' * 32}  ./data/a.csv\n")
    command("init", str(manifest), "--dest", "out")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "report.html").symlink_to(tmp_path / "elsewhere/report.html")

    command("report")
    piped = command.outside("report", "--output", "/dev/stdout").out

    assert (tmp_path / "report.html").is_symlink()
    page = (tmp_path / "elsewhere/report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert piped.startswith("<!doctype html>")
    assert piped.rstrip().endswith("</html>")
    assert Path("/dev/stdout").is_symlink()
