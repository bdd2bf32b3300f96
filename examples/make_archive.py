"""Make a small archive in the layout of MIDAS Open, for rehearsals without an account.

Example: python examples/make_archive.py rehearsal --files 2000
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from midasdl.errors import MidasdlError
from midasdl.simulator.archive import make_archive


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(
        description="Make a synthetic archive in the layout of MIDAS Open, with its manifest.",
        allow_abbrev=False,
    )
    described.add_argument("folder", metavar="DIR", type=Path, help="where to put it; made if missing")
    described.add_argument(
        "--files", type=int, default=400, metavar="N", help="how many files (default: 400)"
    )
    described.add_argument("--seed", type=int, default=0, metavar="S", help="another seed, another archive")
    described.add_argument("--release", default="202407", metavar="YYYYMM", help="default: 202407")
    described.add_argument("--mean-kb", type=float, default=12, metavar="KB", help="mean size (default: 12)")
    described.add_argument(
        "--duplicates",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="share of files that equal another file (default: 0.05)",
    )
    return described


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the archive, say what was made, and return the exit code."""
    options = parser().parse_args(arguments)
    try:
        manifest = make_archive(
            options.folder,
            options.files,
            seed=options.seed,
            duplicate_share=options.duplicates,
            release=options.release,
            mean_kb=options.mean_kb,
        )
    except MidasdlError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    digests = [line[:32] for line in manifest.read_text(encoding="ascii").splitlines()]
    print(f"{len(digests)} files with {len(set(digests))} distinct contents in {options.folder / 'data'}")
    print(f"manifest: {manifest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
