"""``python -m benchmarks``: measure, keep the results, write the page."""

from __future__ import annotations

import argparse
import platform
import sys
from dataclasses import replace

import psutil

from benchmarks.bench import Bench, Result, workshop
from benchmarks.contenders import PACKAGES, missing_programs
from benchmarks.page import write_page
from benchmarks.workloads import NAMES, workload


def main() -> int:
    """Measure what was asked for."""
    options = _options()
    missing = missing_programs()
    if missing:
        packages = " ".join(sorted({PACKAGES[name] for name in missing}))
        print(
            f"Not installed here, and left out: {', '.join(missing)}. Install with: apt-get install {packages}"
        )
    if "nginx" in missing:
        print("Without nginx nothing can be measured.", file=sys.stderr)
        return 2
    with workshop() as folder:
        bench = Bench(folder, options.rounds, options.scale, frozenset(options.contender), _say)
        for name in options.workload or NAMES:
            _say(f"{name}: {workload(name).TITLE}")
            result: Result = workload(name).measure(bench)
            for target in result.targets:
                _say(f"  {target.what}: {target.reached:,.3g} {target.unit} ({target.verdict})")
            if options.write:
                replace(result, machine=machine()).keep()
    if options.write:
        write_page()
    return 0


def machine() -> str:
    """On what it was measured."""
    gigabytes = psutil.virtual_memory().total / 1e9
    return f"{psutil.cpu_count()} cores, {gigabytes:.0f} GB, {platform.system()}, Python {platform.python_version()}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, allow_abbrev=False)
    parser.add_argument("workload", nargs="*", choices=[*NAMES, []], help="only these")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the files of a full measurement")
    parser.add_argument("--contender", action="append", default=[], help="only these; may be repeated")
    parser.add_argument(
        "--write", action="store_true", help="keep the results and write docs/benchmarks.md anew"
    )
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
