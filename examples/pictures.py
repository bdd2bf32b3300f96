"""Makes the pictures of a run in ``docs/images`` anew, from a real run: ``python examples/pictures.py``.

A stand-in for CEDA serves a made-up archive, misses some files and asks for patience once; what the run shows at some
moments is kept as SVG.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, DIMMED_MONOKAI, TerminalTheme

from midasdl.ceda.credentials import Credentials
from midasdl.ceda.secret import Secret
from midasdl.cli.picture import UNICODE, picture
from midasdl.config import resolve
from midasdl.job import Job
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.load import ManifestLoader
from midasdl.ledger.reading import LedgerReader
from midasdl.manifest import ManifestParser
from midasdl.progress.audience import Audience
from midasdl.progress.events import Event
from midasdl.progress.lookout import Lookout
from midasdl.progress.snapshot import Snapshot
from midasdl.progress.tracker import Tracker
from midasdl.selection import Selection
from midasdl.simulator import Fault, Simulator, make_archive

FILES = 900
FAULTS = [
    Fault("status", route="download", status=404, path="*_capability.csv", probability=0.2),
    Fault("status", route="download", status=503, retry_after="6", after=520, times=2),
]
MOMENTS: dict[str, Callable[[Snapshot], bool]] = {
    "run": lambda now: now.eta_s is not None and now.files.share_done > 0.4,
    "run-paused": lambda now: any(server.paused_until_s for server in now.servers),
    "run-ended": lambda now: now.phase == "ended",
}
FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""Pictures fetch nothing from elsewhere."""


class Photographer:
    """Keeps the first snapshot of each moment that is worth a picture."""

    def __init__(self) -> None:
        self.kept: dict[str, Snapshot] = {}

    def follow(self, event: Event) -> None:
        """Nothing."""

    def show(self, snapshot: Snapshot) -> None:
        """Keep it if it is the first of its kind."""
        for name, is_it in MOMENTS.items():
            if name not in self.kept and is_it(snapshot):
                self.kept[name] = snapshot


def main() -> int:
    """Run, and draw what was shown."""
    images = Path(__file__).resolve().parents[1] / "docs" / "images"
    with tempfile.TemporaryDirectory() as folder:
        kept = photograph(Path(folder))
    for name, snapshot in kept.items():
        save(images / f"{name}.svg", snapshot, 80, DIMMED_MONOKAI)
    save(images / "run-wide.svg", kept["run"], 120, DEFAULT_TERMINAL_THEME)
    return 0 if set(kept) == set(MOMENTS) else 1


def photograph(folder: Path) -> dict[str, Snapshot]:
    """A whole job in a folder that is thrown away."""
    manifest = make_archive(folder / "archive", FILES, seed=3, mean_kb=60)
    photographer = Photographer()
    with (
        Simulator(folder / "archive", faults=FAULTS, first_byte_delay_s=0.08) as simulator,
        Ledger.create(folder / "progress.db") as ledger,
    ):
        with ledger.write() as connection, manifest.open("rb") as stream:
            ledger.set_setting(connection, "data_root", str(folder / "midas-open"))
            ManifestLoader(ledger, "manifest", Selection()).load(connection, ManifestParser(stream))
        settings = resolve(
            {
                "ceda": {"archive_url": simulator.archive_url, "token_url": simulator.token_url},
                "storage": {"token_cache": str(folder / "tokens")},
                "performance": {
                    "ceda_client": {"min_request_spacing_ms": 40},
                    "tuning": {"enabled": False},
                },
            }
        )
        job = Job(ledger, settings)
        counts = job.prepare().counts
        lookout = Lookout(LedgerReader(ledger).read, ledger.clock, every_s=0.5)
        tracker = Tracker(counts.tasks, 0, 0, ledger.clock.monotonic(), counts.files)
        audience = Audience(tracker, [photographer], ledger.clock, lookout.take)
        account = Credentials(username="researcher", password=Secret("rain-or-shine"))
        with lookout:
            result = job.run(lambda: account, audience)
        audience.end(LedgerReader(ledger, result.run_id).read)
    return photographer.kept


def save(path: Path, snapshot: Snapshot, width: int, theme: TerminalTheme) -> None:
    """Draw a snapshot as a terminal of that width shows it."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    for line in picture(snapshot, width, UNICODE):
        console.print(line, highlight=False)
    svg = console.export_svg(title="midasdl run", theme=theme, unique_id=path.stem)
    path.write_text(FONT.sub("", svg), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
