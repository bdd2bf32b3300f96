"""A CEDA of one's own: token service, download host, listing and login page on one port of this machine.

The package owns everything that imitates the server: how it behaves when all is well (`site`), what goes
wrong by rule (`faults`, `throttle`), what it was asked (`requestlog`), and what it serves (`archive`).
Rehearsals, ``make demo``, tests and benchmarks use it; nothing that talks to the real CEDA does.

::

    server      Simulator: the parts put together, started and stopped
    listener    sockets and threads
    handler     HTTP on one connection
    workings    what becomes of a request: throttle, then fault, then site
    site        what CEDA answers        accounts, listing, pages, routes, replies
    delivery    what a fault makes of an answer, and in which strokes it is sent
    archive     a synthetic archive      plan, stations, datasets, badccsv
"""

from midasdl.simulator.accounts import Account, AccountState, TokenShape
from midasdl.simulator.archive import make_archive
from midasdl.simulator.faults import Fault, FaultAction
from midasdl.simulator.requestlog import RequestRecord, busiest_window, gaps, peak_in_flight
from midasdl.simulator.server import Simulator
from midasdl.simulator.throttle import Throttle

__all__ = [
    "Account",
    "AccountState",
    "Fault",
    "FaultAction",
    "RequestRecord",
    "Simulator",
    "Throttle",
    "TokenShape",
    "busiest_window",
    "gaps",
    "make_archive",
    "peak_in_flight",
]
