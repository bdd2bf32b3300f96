"""How many requests there were, what came of them, and how long their answers took: counts, never one row a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from midasdl.ledger import health_statements
from midasdl.ledger.brief import Brief

NO_ANSWER = 0
"""In place of a latency, where there was no answer to measure."""


@dataclass(frozen=True, slots=True)
class Responses:
    """Requests to one host with the same outcome and about the same latency.

    Attributes
    ----------
    outcome : str
        ``ok`` or the word of an error class.
    up_to_us : int
        No answer among them took longer, and none less than ten elevenths of it; `NO_ANSWER` where none came.
    """

    host: str
    outcome: str
    up_to_us: int
    count: int


def add_responses(brief: Brief, worker_id: int, responses: Sequence[Responses]) -> None:
    """Add to the counts of a worker's run, inside the caller's transaction."""
    brief.send_all(
        health_statements.ADD_RESPONSES,
        [
            {
                "worker": worker_id,
                "new_host": each.host,
                "new_outcome": each.outcome,
                "new_up_to_us": each.up_to_us,
                "more": each.count,
            }
            for each in responses
        ],
    )
