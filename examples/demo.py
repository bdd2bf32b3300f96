"""The whole of midasdl in half a minute, on this machine alone: ``python examples/demo.py [DIR]``.

Makes a small synthetic archive, starts a stand-in for CEDA, and types the commands that you would type.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from midasdl.simulator import make_archive

FILES = 400
ACCOUNT = {"CEDA_USERNAME": "researcher", "CEDA_PASSWORD": "rain-or-shine"}
QUERY = "SELECT dataset, files, bytes FROM progress WHERE state = 'done'"


def main() -> int:
    """Run the demonstration; returns the exit code of the last command."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo").resolve()
    if folder.exists() and not (folder / "archive").exists():
        sys.exit(f"{folder} exists and is no demonstration of midasdl: name another folder.")
    shutil.rmtree(folder, ignore_errors=True)
    manifest = make_archive(folder / "archive", FILES)
    with stand_in(folder / "archive", folder / "requests.jsonl") as urls:
        environment = {
            **os.environ,
            **urls,
            **ACCOUNT,
            "MIDASDL_STORAGE__TOKEN_CACHE": str(folder / "tokens"),
        }
        environment["MIDASDL_PERFORMANCE__CEDA_CLIENT__MIN_REQUEST_SPACING_MS"] = "20"
        for words in (
            ["doctor"],
            ["init", str(manifest), "--dest", str(folder / "midas-open")],
            ["run", "--workers", "4"],
            ["run"],
            ["status"],
            ["sql", QUERY],
        ):
            if code := midasdl(words, folder, environment):
                return code
    return check(folder / "midas-open", manifest)


@contextmanager
def stand_in(root: Path, log: Path) -> Iterator[Mapping[str, str]]:
    """Serve `root` as CEDA would; gives the settings that send midasdl there."""
    command = [sys.executable, "-m", "midasdl", "--json", "simulate", "--root", str(root), "--log", str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            sys.exit("The stand-in for CEDA did not start.")
        yield json.loads(line)["environment"]
    finally:
        process.terminate()
        process.communicate()


def midasdl(words: list[str], folder: Path, environment: Mapping[str, str]) -> int:
    """Show a command and run it."""
    shown = " ".join(f'"{word}"' if " " in word else word for word in words)
    print(f"\n\033[1m$ midasdl {shown}\033[0m" if sys.stdout.isatty() else f"\n$ midasdl {shown}", flush=True)
    command = [sys.executable, "-m", "midasdl", *words]
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def check(data_root: Path, manifest: Path) -> int:
    """Let an independent program judge the result."""
    md5sum = shutil.which("md5sum")
    if md5sum is None:
        print("\nThere is no md5sum here; midasdl itself has checked every file.")
        return 0
    print(f"\n$ cd {data_root} && md5sum --quiet -c {manifest}", flush=True)
    code = subprocess.run([md5sum, "--quiet", "-c", str(manifest)], cwd=data_root, check=False).returncode
    lines = len(manifest.read_text().splitlines())
    print(
        f"md5sum agrees: all {lines} files are complete and correct." if code == 0 else "md5sum found errors."
    )
    return code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
