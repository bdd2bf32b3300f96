"""Everything that a report shows, read from a ledger in one consistent moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from midasdl.ledger.coverage import Cover, Failures, Loaded, OneRun, OneStep, Pace, looking
from midasdl.ledger.ledger import Ledger
from midasdl.models import TaskState

MOST_BINS = 300


@dataclass(frozen=True, slots=True)
class Facts:
    """What a ledger knows.

    Attributes
    ----------
    states : dict
        Tasks and known bytes by state.
    pace_us : int
        How wide the bins of `pace` are.
    requests : list
        Host, outcome and count, of the latest runs.
    """

    at_us: int
    ledger: str
    data_root: str
    cover: list[Cover]
    states: dict[str, tuple[int, int]]
    failures: list[Failures]
    rejects: list[tuple[str, int]]
    damaged: int
    pace_us: int
    pace: list[Pace]
    runs: list[OneRun]
    steps: list[OneStep]
    requests: list[tuple[str, str, int]]
    health: list[dict[str, Any]]
    manifests: list[Loaded]

    @property
    def files(self) -> int:
        """All files."""
        return sum(cover.files for cover in self.cover)

    @property
    def files_done(self) -> int:
        """Those that are there."""
        return sum(cover.done for cover in self.cover)

    @property
    def files_failed(self) -> int:
        """Those that could not be fetched."""
        return sum(cover.failed for cover in self.cover)

    @property
    def bytes_done(self) -> int:
        """Distinct bytes that are there."""
        return self.states.get(TaskState.DONE.value, (0, 0))[1]

    @property
    def unfinished(self) -> int:
        """Tasks that a run would still work on."""
        return sum(
            self.states.get(state.value, (0, 0))[0] for state in (TaskState.PENDING, TaskState.IN_PROGRESS)
        )


def gather(ledger: Ledger, data_root: str) -> Facts:
    """Look at a ledger once; a run may be on."""
    with looking(ledger) as coverage:
        pace_us, pace = coverage.pace(MOST_BINS)
        return Facts(
            at_us=ledger.clock.now_us(),
            ledger=str(ledger.path),
            data_root=data_root,
            cover=coverage.cover(),
            states=coverage.states(),
            failures=coverage.failures(),
            rejects=coverage.rejects(),
            damaged=coverage.damaged(),
            pace_us=pace_us,
            pace=pace,
            runs=coverage.runs(),
            steps=coverage.steps(),
            requests=coverage.requests(),
            health=coverage.health(),
            manifests=coverage.manifests(),
        )
