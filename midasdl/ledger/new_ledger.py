"""A ledger that is made beside its place, by nobody else's eyes, and comes there whole.

So it needs no journal that others could read, no check of what cannot be wrong yet, and no second copy of each page:
that is most of the time that a first load would take. Its journal mode is the final one before it has its name.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from midasdl.clock import Clock, SystemClock
from midasdl.errors import LedgerError
from midasdl.identity import host_name
from midasdl.ledger.engine import Patience
from midasdl.ledger.ledger import Ledger, choose_journal
from midasdl.ledger.ledger_file import file_error
from midasdl.ledger.library import sorting_library

_BESIDE = ("", "-journal", "-wal", "-shm")


@contextmanager
def new_ledger(
    path: Path, clock: Clock | None = None, tell: Callable[[str], None] = lambda _: None
) -> Iterator[Ledger]:
    """Make a ledger that stands at `path` when the block has ended well, and leaves no trace when it has not.

    Raises
    ------
    LedgerError
        Also where somebody else has made one there meanwhile.

    Notes
    -----
    Crash safety: it is durable before it has its name. What a killed process leaves beside is cleared away by the
    next.
    """
    clock = clock or SystemClock()
    path = Path(os.path.realpath(path))  # where a link points
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_away_what_the_dead_left(path)
        made = path.with_name(f"{_name_beside(path)}{os.getpid()}")
        made.touch()
    except OSError as error:
        raise file_error(path, error) from error
    try:
        with Ledger.of_one_process(path, made, clock, Patience(clock, tell), sorting_library()) as ledger:
            yield ledger
        choose_journal(made, path, ledger.patience)
        _give_it_its_name(made, path)
    finally:
        _remove(made)


def _give_it_its_name(made: Path, path: Path) -> None:
    """Make it durable, then name it; an empty file that stands there gives way, nothing else does."""
    try:
        _sync(made)
        if path.exists() and path.stat().st_size == 0:
            path.unlink()
        _name(made, path)
        _sync(path.parent)
    except FileExistsError as error:
        raise LedgerError(
            f"Somebody else has made the ledger {path} meanwhile.", "Type the same again: it will be merged."
        ) from error
    except OSError as error:
        raise file_error(path, error) from error


def _name(made: Path, path: Path) -> None:
    """Give a file a name that nothing else has."""
    try:
        os.link(made, path)
    except FileExistsError:
        raise
    except OSError:  # file systems without links
        if path.exists():
            raise FileExistsError(path) from None
        made.rename(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clear_away_what_the_dead_left(path: Path) -> None:
    """What processes of other machines make there is not ours to judge."""
    for left in path.parent.glob(f"{glob.escape(_name_beside(path))}*"):
        number = left.name.rpartition("-")[2]
        if number.isdecimal() and not _runs(int(number)):
            _remove(left)


def _name_beside(path: Path) -> str:
    return f"{path.name}.new-{host_name()}-"


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def _remove(made: Path) -> None:
    for suffix in _BESIDE:
        made.with_name(made.name + suffix).unlink(missing_ok=True)
