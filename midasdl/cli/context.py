"""What commands share: the environment with `.env`, settings, the ledger."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from midasdl.config.resolution import Resolved

DOTENV = Path(".env")

CONFIGURATION = "midasdl.toml"
"""The file of settings that is found without being named: in this folder, then in the user's configuration folder."""

RECORDED = "last run"

Subparsers = Any
"""What `ArgumentParser.add_subparsers` returns; argparse keeps its type private."""


def environment() -> dict[str, str]:
    """The environment, with `.env` of this folder beneath it; what stands there is taken as it stands.

    Raises
    ------
    ConfigurationError
        When `.env` is there and cannot be read.
    """
    return {**_from_dotenv(), **os.environ}


def settings_from(options: argparse.Namespace, *, recorded: Mapping[str, Any] | None = None) -> Any:
    """The settings of a command; see `resolved_from`.

    Raises
    ------
    ConfigurationError
    """
    return resolved_from(options, recorded=recorded).settings


def resolved_from(options: argparse.Namespace, *, recorded: Mapping[str, Any] | None = None) -> Resolved:
    """The settings of a command with their origins: options, environment, files, a recorded run, profile, defaults.

    Raises
    ------
    ConfigurationError
    """
    from midasdl.config.layers import from_environment, from_file
    from midasdl.config.recording import from_record
    from midasdl.config.resolution import Layer, put_together

    given, rest = from_record(recorded or {})
    return put_together(
        [
            Layer("command line", _from_options(options)),
            Layer("environment", from_environment(os.environ)),
            Layer(str(DOTENV), from_environment(_from_dotenv())),
            *(Layer(str(path), from_file(path)) for path in configuration_files(options)),
            Layer(RECORDED, given),
        ],
        Layer(RECORDED, rest),
    )


def _from_dotenv() -> dict[str, str]:
    """The values in `.env`; what reads it is imported only where there is one."""
    if not DOTENV.exists():
        return {}
    from midasdl.ceda.dotenv_file import read

    return read(DOTENV)


def configuration_files(options: argparse.Namespace) -> list[Path]:
    """The files to read, the first on top: the one that is named, else this folder's and the user's."""
    if options.config:
        return [Path(options.config)]
    import platformdirs

    folders = [Path(), platformdirs.user_config_path("midasdl", appauthor=False)]
    return [folder / CONFIGURATION for folder in folders if (folder / CONFIGURATION).exists()]


def _from_options(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that have an option; a profile that is named beats every schedule."""
    from midasdl.config.keys import tree_of

    given = {
        "performance.workers.count": getattr(options, "workers", None),
        "performance.profile": getattr(options, "profile", None),
        "performance.schedule": None if getattr(options, "profile", None) is None else (),
        "network.ca_bundle": getattr(options, "ca_bundle", None),
        "metrics.port": getattr(options, "metrics_port", None),
        "metrics.status_file": getattr(options, "status_file", None),
        "logging.file": getattr(options, "log_file", None),
    }
    return tree_of({key: value for key, value in given.items() if value is not None})


def ledger_path(options: argparse.Namespace) -> Path:
    """The ledger's file, whatever the working folder becomes later."""
    return Path(options.ledger).expanduser().absolute()


def number(value: int) -> str:
    """``1234567`` as ``1,234,567``."""
    return f"{value:,}"


def plural(count: int, noun: str) -> str:
    """``1 file``, ``2,000 files``, ``3 processes``."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"


def size(count: float) -> str:
    """Bytes in a unit that fits: ``12.3 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds as ``3.2 s``, ``4 min 05 s`` or ``2 h 07 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
