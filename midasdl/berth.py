"""Where the workers of a run have their places, and when a run stops though there is more to do."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess


@dataclass(slots=True)
class Berth:
    """A worker's place: one process at a time, replaced when it dies.

    Attributes
    ----------
    worker_id : int or None
        None until the process has said hello.
    silent_s : float
        For how long nothing was heard while the coordinator listened.
    restart_at_s : float or None
        When the next process is due, on the monotonic clock.
    is_to_rest : bool
        Its process was asked to finish what is in flight and end.
    is_spent : bool
        Nobody works here any more, since its quota is used up or its worker died and is not replaced; another
        takes its place where one rests.
    quota : int or None
        Tasks that its processes may still bring to an end, one after the other.
    """

    name: str
    process: BaseProcess | None = None
    pipe: Connection | None = None
    worker_id: int | None = None
    silent_s: float = 0.0
    restart_at_s: float | None = None
    is_to_rest: bool = False
    ended: bool = False
    is_spent: bool = False
    quota: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether a process may be started in it at once."""
        return self.process is None and self.restart_at_s is None and not self.ended


@dataclass(frozen=True, slots=True)
class RunLimits:
    """When a run stops though there is more to do.

    Attributes
    ----------
    deadline_s : float or None
        On the monotonic clock.
    tasks : int or None
        That it may bring to an end.
    """

    deadline_s: float | None = None
    tasks: int | None = None


NO_LIMITS = RunLimits()


def shares_of(tasks: int | None, workers: int) -> list[int | None]:
    """A quota for each worker that has one, all of them together `tasks`; no more workers than there are tasks."""
    if tasks is None:
        return [None] * workers
    return [tasks // workers + (number < tasks % workers) for number in range(min(workers, tasks))]
