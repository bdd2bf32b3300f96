"""The parser, the commands, and the one place where errors become words and exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module

from midasdl.cli.output import Output, let_go, printing
from midasdl.cli.signals import ending_on_signals
from midasdl.cli.wording import HelpFormatter
from midasdl.errors import ExitCode, MidasdlError
from midasdl.version import PROJECT_URL, __version__

COMMANDS = (
    *("auth", "manifest", "init", "run", "resume", "retry", "status", "verify", "adopt"),
    *("report", "sql", "config", "doctor", "simulate"),
)

OPTIONS_WITH_A_VALUE = ("--ledger", "--config", "--ca-bundle")
"""Of every command, so they may stand before it."""

EXIT_CODES = """exit codes:
  0  all done                       4  local storage (disk full, not writable)
  1  some failed, or work is left   5  CEDA unavailable
  2  usage or configuration         6  the ledger cannot be used
  3  CEDA does not accept us        130, 143  interrupted
"""

FOUR_STEPS = """midasdl fetches the Met Office MIDAS Open archive from CEDA:
completely, politely and provably.

Four steps to a first download:

  1  Get a free account at https://services.ceda.ac.uk/
     and store its name and password here, for you alone:
         midasdl auth setup
  2  Load the manifest of the latest release, all of it or a selection:
         midasdl init latest --dest ./midas-open --county devon --year 2010:2020
     (for older releases: midasdl manifest list, midasdl manifest fetch 202407)
  3  Fetch; stop it whenever you like:
         midasdl run
  4  Go on after a break or a crash, and see where it stands:
         midasdl resume
         midasdl status

Without an account, rehearse on a stand-in archive:  midasdl simulate --help
All commands and options:  midasdl --help
"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are told in our own way."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Raise, so that `main` tells it like every other error."""
        raise CommandLineError(message, self.prog)


class CommandLineError(MidasdlError):
    """The command line cannot be understood."""

    exit_code = ExitCode.USAGE

    def __init__(self, message: str, program: str) -> None:
        super().__init__(f"{message[0].upper()}{message[1:]}.", f"See: {program} --help")


def build_parser(names: Iterable[str] = COMMANDS) -> Parser:
    """The parser of all commands, or of some."""
    parser = Parser(
        prog="midasdl",
        description="Fetch the Met Office MIDAS Open archive from CEDA: completely, politely and provably.",
        epilog=EXIT_CODES,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"midasdl {__version__}")
    _add_global_options(parser, with_defaults=True)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    shared = Parser(add_help=False)
    _add_global_options(shared, with_defaults=False)
    for name in names:
        import_module(f"midasdl.cli.{name}").add_to(commands, shared)
    return parser


def commands_meant(words: Sequence[str]) -> Sequence[str]:
    """The commands without which a command line cannot be understood: the one that it names, or all."""
    rest = iter(words)
    for word in rest:
        if word in OPTIONS_WITH_A_VALUE:
            next(rest, None)
        elif not word.startswith("-"):
            return (word,) if word in COMMANDS else COMMANDS
    return COMMANDS


def _add_global_options(parser: argparse.ArgumentParser, *, with_defaults: bool) -> None:
    """The options that may stand before or after the command."""

    def default(value: object) -> object:
        return value if with_defaults else argparse.SUPPRESS

    group = parser.add_argument_group("options of every command")
    group.add_argument(
        "--ledger",
        metavar="PATH",
        default=default(os.environ.get("MIDASDL_LEDGER") or "progress.db"),
        help="the ledger (default: progress.db, or $MIDASDL_LEDGER)",
    )
    group.add_argument(
        "--config",
        metavar="FILE",
        default=default(None),
        help="a TOML file with settings (default: midasdl.toml here, then in your configuration folder)",
    )
    group.add_argument(
        "--ca-bundle",
        metavar="FILE",
        default=default(None),
        help="certificates to trust (PEM), where this network has its own; beats REQUESTS_CA_BUNDLE",
    )
    group.add_argument(
        "--json", action="store_true", default=default(False), help="print JSON lines for programs on stdout"
    )
    group.add_argument(
        "-q", "--quiet", action="store_true", default=default(False), help="print results only"
    )
    group.add_argument(
        "-v", "--verbose", action="count", default=default(0), help="say more; -vv shows tracebacks"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    int
        The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    with ending_on_signals() as asked:
        try:
            return _answer(words)
        except KeyboardInterrupt:
            return int(asked[0] if asked else ExitCode.INTERRUPTED)


def _answer(words: Sequence[str]) -> int:
    """Run a command, and turn its errors into words."""
    output = Output(json_lines="--json" in words)
    verbose = sum(word.count("v") for word in words if word.startswith("-v") and set(word[1:]) == {"v"})
    try:
        if not words:
            output.say(FOUR_STEPS)
            return ExitCode.DONE
        if words == ["--version"]:
            output.say(f"midasdl {__version__}")
            return ExitCode.DONE
        options, strange = build_parser(commands_meant(words)).parse_known_args(words)
        if options.command is None:
            raise CommandLineError("there is no command", "midasdl")
        if strange:
            raise CommandLineError(
                f"unrecognized arguments: {' '.join(strange)}", f"midasdl {options.command}"
            )
        named = options.ledger if any(word.partition("=")[0] == "--ledger" for word in words) else None
        output = Output(json_lines=options.json, quiet=options.quiet, verbose=options.verbose, ledger=named)
        exit_code = int(options.act(options, output))
        if sys.stdout is not None:
            with printing():
                sys.stdout.flush()
        return exit_code
    except MidasdlError as error:
        return _tell(error, error, output, verbose)
    except BrokenPipeError:
        let_go(sys.stdout)
        return int(ExitCode.SOME_FAILED)
    except Exception as error:
        return _tell(unforeseen(error), error, output, verbose)


def _tell(error: MidasdlError, cause: Exception, output: Output, verbose: int) -> int:
    """Tell an error, below its traceback where that is wanted, and return the exit code."""
    if verbose >= 2:
        import traceback

        traceback.print_exception(cause)
    output.error(error)
    return int(error.exit_code)


def unforeseen(error: Exception) -> MidasdlError:
    """A mistake of midasdl's own, told without a traceback."""
    return MidasdlError(
        f"Something happened that midasdl did not foresee: {type(error).__name__}: {error}.",
        f"Nothing is lost. See more with -vv, and please report it at {PROJECT_URL}/issues",
    )
