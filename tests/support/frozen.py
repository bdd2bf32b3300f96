"""Workers that stand still at the worst moment."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection

from midasdl.channel import Hello
from midasdl.identity import ProcessIdentity
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.runs import RunRegistry
from midasdl.worker_process import WorkerOrder, work


def work_but_freeze_once_with_the_lock(order: WorkerOrder, pipe: Connection) -> None:
    """The first process that does this stands still in the middle of a transaction; all others work."""
    mark = order.ledger.with_name("frozen")
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        work(order, pipe)
        return
    with Ledger.open(order.ledger) as ledger:
        pipe.send(
            Hello(RunRegistry(ledger).register(order.run_id, "worker", order.name, ProcessIdentity.current()))
        )
        with ledger.write():
            os.kill(os.getpid(), signal.SIGSTOP)
