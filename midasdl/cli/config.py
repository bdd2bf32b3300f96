"""`midasdl config`: show the settings, make a file of them, check one."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midasdl.cli.context import CONFIGURATION, Subparsers, ledger_path, plural, resolved_from
from midasdl.cli.output import Output
from midasdl.cli.wording import HelpFormatter
from midasdl.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from midasdl.config import Settings

EXAMPLES = """examples:
  midasdl config show
  midasdl config show --origin
  midasdl config show --profile conservative
  midasdl config init
  midasdl config check midasdl.toml

What comes first wins: the command line, the environment, .env, the file of --config (without it ./midasdl.toml, then
the one in your configuration folder), for resume what the last run had, the profile, the default.
"""

SHOW_EXAMPLES = """examples:
  midasdl config show --origin
  midasdl config show --profile conservative
  midasdl config show --resume
"""

INIT_EXAMPLES = """examples:
  midasdl config init
  midasdl config init ~/.config/midasdl/midasdl.toml
"""

CHECK_EXAMPLES = """examples:
  midasdl config check midasdl.toml
"""


def add_to(commands: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command and its own commands to the parser."""
    parser = commands.add_parser(
        "config",
        parents=[shared],
        help="show the settings and where they come from; make and check files of them",
        description="Show the settings and where each comes from, make a file with all of them, check a file.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    inner = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    add = partial(inner.add_parser, parents=[shared], formatter_class=HelpFormatter, allow_abbrev=False)
    show = add("show", help="the settings that hold here, as TOML", epilog=SHOW_EXAMPLES)
    show.add_argument("--origin", action="store_true", help="say of each value where it comes from")
    show.add_argument("--profile", metavar="NAME", help="as they would be with another profile")
    show.add_argument("--resume", action="store_true", help="as 'midasdl resume' would have them")
    show.set_defaults(act=show_settings)
    init = add("init", help="write a file with every key, to begin from", epilog=INIT_EXAMPLES)
    init.add_argument(
        "path",
        nargs="?",
        type=Path,
        default=Path(CONFIGURATION),
        metavar="PATH",
        help=f"default: {CONFIGURATION} in this folder",
    )
    init.add_argument("--force", action="store_true", help="write over a file that is there")
    init.set_defaults(act=init_file)
    check = add("check", help="see whether a file of settings can be used", epilog=CHECK_EXAMPLES)
    check.add_argument("path", type=Path, metavar="FILE", help="the file")
    check.set_defaults(act=check_file)


def show_settings(options: argparse.Namespace, output: Output) -> ExitCode:
    """Print every setting, as a file that could be used again."""
    from midasdl.config import Settings
    from midasdl.config.keys import fields, unit_of, value_of
    from midasdl.config.template import as_file

    resolved = resolved_from(options, recorded=_last_run(options, output) if options.resume else None)
    origins = {key: described(key, origin) for key, origin in resolved.origins.items()}
    output.say(
        _what_holds_now(resolved.settings) + as_file(resolved.settings, origins if options.origin else None)
    )
    values = resolved.settings.model_dump(mode="json", by_alias=True)
    for key, field in fields(Settings):
        unit = unit_of(key, field) or None
        facts = {"key": key, "value": value_of(values, key), "unit": unit, "origin": origins[key]}
        output.record("setting", facts)
    return ExitCode.DONE


def _what_holds_now(settings: Settings) -> str:
    """What a schedule makes of these settings at the moment, as a comment; nothing where there is none."""
    from midasdl.clock import SystemClock
    from midasdl.pacing import Paces, told

    if not settings.performance.schedule:
        return ""
    return f"# Now: {told(Paces(settings).at(SystemClock().now_us()))}\n\n"


def described(key: str, origin: str) -> str:
    """The origin of a value as a person can follow it."""
    from midasdl.config.keys import variable_of

    return f"{origin}: {variable_of(key)}" if origin in {"environment", ".env"} else origin


def init_file(options: argparse.Namespace, output: Output) -> ExitCode:
    """Write a commented file with every key.

    Raises
    ------
    UsageError
        There is such a file already, or it cannot be written.
    """
    from midasdl.config.template import template

    path = options.path / CONFIGURATION if options.path.is_dir() else options.path
    try:
        with path.open("w" if options.force else "x", encoding="utf-8") as file:
            file.write(template())
    except FileExistsError:
        raise UsageError(
            f"{path} is there already, and was left as it is.",
            f"Name another place, or write over it with: midasdl config init {path} --force",
        ) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.", "Name another place.") from None
    output.say(f"Wrote {path}: every key with its default, switched off. Check it after a change with:")
    output.say(f"  midasdl config check {path}")
    output.record("config-file", {"path": str(path)})
    return ExitCode.DONE


def check_file(options: argparse.Namespace, output: Output) -> ExitCode:
    """See whether a file can be used, by itself.

    Raises
    ------
    ConfigurationError
        Naming everything that is wrong with it.
    """
    from midasdl.config import Settings
    from midasdl.config.keys import leaves
    from midasdl.config.layers import from_file
    from midasdl.config.resolution import Layer, put_together

    tree = from_file(options.path)
    put_together([Layer(str(options.path), tree)])
    given = leaves(tree, Settings)
    output.say(f"{options.path} can be used: it gives {plural(len(given), 'setting')}.")
    output.record("config-check", {"path": str(options.path), "given": sorted(given)})
    return ExitCode.DONE


def _last_run(options: argparse.Namespace, output: Output) -> dict[str, Any]:
    from midasdl.ledger.ledger import Ledger
    from midasdl.ledger.runs import RunRegistry

    with Ledger.open(ledger_path(options), read_only=True, tell=output.note) as ledger:
        last = RunRegistry(ledger).last_run()
    if last is None:
        raise UsageError("There is no run to resume.", "Start one with: midasdl run")
    return last.settings
