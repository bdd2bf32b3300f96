"""Imported by the process that workers are forked off, beside the command's own preparations.

It does once what each worker would do when it is born: texts are put together by SQLAlchemy, which takes as long as
all else that a worker has to do before its first request, and SQLite is loaded.
"""

from __future__ import annotations

import midasdl.worker_process  # noqa: F401 - all that a worker is made of
from midasdl.ledger import gate_statements, health_statements, run_statements, statements
from midasdl.ledger.library import best_library
from midasdl.ledger.texts import text_of

NEEDED = (
    *(
        run_statements.REGISTER,
        statements.COUNT_CLAIMABLE,
        statements.CLAIM,
        statements.DESTINATIONS_OF_HOLDER,
    ),
    *(statements.HELD, statements.HELD_BY, statements.FINISH, health_statements.ADD_RESPONSES),
    *(statements.FORGET_IMPOSSIBLE_WAITS, statements.NEXT_RETRY_AT, statements.ANY_IN_PROGRESS),
    *(gate_statements.POLITENESS_OF, gate_statements.PAUSED_UNTIL, gate_statements.COUNT_PERMITS),
    *(gate_statements.SAVE_POLITENESS, gate_statements.TAKE_PERMIT, gate_statements.RETURN_PERMIT),
)
"""Of a worker that nothing happens to."""

for _statement in NEEDED:
    text_of(_statement)

best_library()
