"""The files that workers are busy with; the only ones that are known one by one."""

from __future__ import annotations

from dataclasses import dataclass

from midasdl.progress.snapshot import Active

MOST_ACTIVE = 64
"""No run has more workers: a path beyond these is one whose end was lost."""


@dataclass(slots=True)
class _Busy:
    path: str
    since_s: float
    size_bytes: int = 0
    came_bytes: int = 0


class BusyFiles:
    """Which files are in the hands of workers, and how much of each has come."""

    def __init__(self) -> None:
        self._files: dict[int, _Busy] = {}

    def begin(self, task_id: int, path: str, now_s: float) -> None:
        """A worker turns to a file."""
        self._files[task_id] = _Busy(path, now_s)
        if len(self._files) > MOST_ACTIVE:
            del self._files[next(iter(self._files))]

    def grow(self, task_id: int, size_bytes: int, held_bytes: int) -> int:
        """More of a file has come; returns by how much."""
        busy = self._files.get(task_id)
        if busy is None:
            return 0
        more = max(0, size_bytes - held_bytes - busy.came_bytes)
        busy.size_bytes = max(busy.size_bytes, size_bytes)
        busy.came_bytes += more
        return more

    def end(self, task_id: int) -> tuple[int, int]:
        """A file is in nobody's hands any more; how much of it was here, and how much of that has come since."""
        busy = self._files.pop(task_id, None)
        return (0, 0) if busy is None else (busy.size_bytes, busy.came_bytes)

    def clear(self) -> None:
        """Nobody is busy."""
        self._files.clear()

    @property
    def size_bytes(self) -> int:
        """What is here of files that are not whole yet."""
        return sum(busy.size_bytes for busy in self._files.values())

    def at(self, now_s: float) -> tuple[Active, ...]:
        """The longest first."""
        return tuple(
            Active(busy.path, busy.size_bytes, max(0.0, now_s - busy.since_s))
            for busy in self._files.values()
        )
