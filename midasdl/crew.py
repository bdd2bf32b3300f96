"""Some processes that do the same small thing to many items, for commands that read many files.

Each has a pipe of its own to whoever started it, and ends when that closes: nobody survives a ``kill -9`` of the
command. Signals are the command's business.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from midasdl.errors import MidasdlError, StoppedError, WorkerCrashedError
from midasdl.processes import ignore_signals, process_context, start

LOOK_S = 0.2
"""How soon a wish to stop is noticed."""

GOODBYE_S = 5.0
"""A process that does not end with its pipe is killed after this."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Sequence[Item]], Sequence[Result]]
"""A function of a module (or a partial of one) that turns some items into as many results."""


class Crew:
    """A context: its processes live as long as the block.

    Parameters
    ----------
    size : int
        Processes.
    preload : str
        The module of the work: imported once, where the system can do so.
    is_stopped : callable
        Whether somebody wishes an early end.

    Notes
    -----
    Concurrency: belongs to one thread.
    """

    def __init__(self, size: int, preload: str, is_stopped: Callable[[], bool] = lambda: False) -> None:
        self._size = size
        self._is_stopped = is_stopped
        self._context = process_context(preload)
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []

    def __enter__(self) -> Self:
        for _ in range(self._size):
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
            start(process)
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            if error is not None:
                process.kill()
            process.join(GOODBYE_S)
            process.kill()

    def map(
        self, work: Work[Item, Result], items: Sequence[Item], chunk: int, *, to_the_end: bool = False
    ) -> list[Result]:
        """Let the crew work on all items.

        Parameters
        ----------
        chunk : int
            Items that a process takes at a time.
        to_the_end : bool
            Finish these items even where an early end is wished.

        Returns
        -------
        list
            The results, in the order of the items.

        Raises
        ------
        StoppedError
            On the wish for an early end; the crew is of no more use then.
        WorkerCrashedError
            A process died, or met something that midasdl did not foresee.
        MidasdlError
            As the work raised it.
        """
        todo = deque((start, items[start : start + chunk]) for start in range(0, len(items), chunk))
        idle = list(self._pipes)
        busy: dict[Connection, int] = {}
        results: dict[int, Sequence[Result]] = {}
        while todo or busy:
            if self._is_stopped() and not to_the_end:
                raise StoppedError("The command was asked to stop.")
            while todo and idle:
                start, some = todo.popleft()
                pipe = idle.pop()
                _send(pipe, (work, some))
                busy[pipe] = start
            for pipe in cast(list[Connection], wait(list(busy), timeout=LOOK_S)):
                results[busy.pop(pipe)] = _answer(pipe)
                idle.append(pipe)
        return [result for start in sorted(results) for result in results[start]]


def _serve(pipe: Connection) -> None:
    """The life of a process: work on what comes until the pipe closes."""
    ignore_signals()
    with suppress(EOFError, OSError):
        while True:
            work, items = pipe.recv()
            pipe.send(_attempt(work, items))


def _attempt(work: Work[Any, Any], items: Sequence[Any]) -> Sequence[Any] | MidasdlError:
    try:
        return work(items)
    except MidasdlError as error:
        return error
    except Exception as error:
        what = f"A process met something that midasdl did not foresee: {type(error).__name__}: {error}."
        return WorkerCrashedError(what, "See more with -vv.", traceback.format_exc())


def _send(pipe: Connection, message: object) -> None:
    try:
        pipe.send(message)
    except OSError:
        raise _died() from None


def _answer(pipe: Connection) -> Sequence[Any]:
    try:
        answer = pipe.recv()
    except (EOFError, OSError):
        raise _died() from None
    if isinstance(answer, MidasdlError):
        raise answer
    return cast(Sequence[Any], answer)


def _died() -> WorkerCrashedError:
    return WorkerCrashedError(
        "A process that read files for this command died.",
        "What was done is kept; type the command again, with fewer --workers if memory is short.",
    )
