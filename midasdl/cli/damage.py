"""Files that count as done and are known not to be well: whoever says how things stand says so too."""

from __future__ import annotations

from midasdl.cli.context import number


def damage_lines(files: int) -> list[str]:
    """What `verify` has found and nobody has put right: such files count as done."""
    if not files:
        return []
    are = "file is" if files == 1 else "files are"
    return [
        f"But {number(files)} finished {are} known to be missing or damaged: midasdl verify --resume --repair"
    ]
