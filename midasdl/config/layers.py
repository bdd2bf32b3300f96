"""Where settings come from: reading the environment and files into trees. Only the command line calls this."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from midasdl.config.keys import PREFIX, SEPARATOR, Tree, known_keys, place
from midasdl.errors import ConfigurationError

__all__ = ["from_environment", "from_file", "known_keys", "place"]


def from_environment(environment: Mapping[str, str]) -> Tree:
    """The settings among the environment's variables.

    ``MIDASDL_PERFORMANCE__WORKERS__COUNT=8`` becomes ``{"performance": {"workers": {"count": "8"}}}``. Variables
    without a double underscore, such as ``MIDASDL_LEDGER``, are no settings.
    """
    tree: Tree = {}
    for name, value in environment.items():
        if name.startswith(PREFIX) and SEPARATOR in name:
            place(tree, name[len(PREFIX) :].lower().split(SEPARATOR), value)
    return tree


def from_file(path: Path) -> Tree:
    """The settings in a TOML file.

    Raises
    ------
    ConfigurationError
        When the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"The configuration {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The configuration {path} is not TOML: {error}.") from error
