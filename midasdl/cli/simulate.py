"""`midasdl simulate`: a CEDA of one's own, to rehearse on."""

from __future__ import annotations

import argparse
import json
import threading
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midasdl.cli.context import Subparsers
from midasdl.cli.output import Output
from midasdl.cli.wording import HelpFormatter
from midasdl.errors import ConfigurationError, ExitCode, UsageError

if TYPE_CHECKING:
    from midasdl.simulator import Account, Fault, Simulator

EXAMPLES = """examples:
  python examples/make_archive.py ./rehearsal --files 500
  midasdl simulate --root ./rehearsal --log requests.jsonl

It prints the settings that send midasdl there and a user name with its password. Faults are rules in TOML or JSON:
  [[fault]]
  action = "status"        # or reset, close, truncate, stall, login-page, ...
  status = 503
  retry_after = "5"
  path = "*rain*"
  times = 3
"""


def add_to(commands: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "simulate",
        parents=[shared],
        help="serve a folder as CEDA would, to rehearse",
        description="Serve a folder on this machine as CEDA would: tokens, sign-in page, listing, files, faults.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--root", required=True, metavar="DIR", help="the archive to serve")
    parser.add_argument(
        "--port", type=int, default=0, metavar="P", help="where to listen (default: any free port)"
    )
    parser.add_argument(
        "--account", metavar="NAME:PASSWORD", help="who may sign in (default: researcher:rain-or-shine)"
    )
    parser.add_argument(
        "--token-lifetime", type=float, default=259200.0, metavar="SECONDS", help="default: three days"
    )
    parser.add_argument(
        "--delay", type=float, default=0.0, metavar="SECONDS", help="before the first byte of each answer"
    )
    parser.add_argument(
        "--bytes-per-second", type=float, metavar="N", help="of one connection (default: no limit)"
    )
    parser.add_argument("--faults", metavar="FILE", help="rules for what goes wrong, TOML or JSON")
    parser.add_argument("--log", metavar="FILE", help="append each request as a JSON line")
    parser.set_defaults(act=act)


def act(options: argparse.Namespace, output: Output) -> ExitCode:
    """Serve until asked to stop."""
    from midasdl.cli.signals import stopping_on_signals
    from midasdl.simulator import Simulator

    account = _account(options.account)
    simulator = Simulator(
        Path(options.root),
        port=options.port,
        account=account,
        token_lifetime_s=options.token_lifetime,
        faults=read_faults(Path(options.faults)) if options.faults else (),
        first_byte_delay_s=options.delay,
        bytes_per_second=options.bytes_per_second,
        log_path=Path(options.log) if options.log else None,
    )
    ending = _Ending()
    with stopping_on_signals(ending), simulator:
        _tell(output, simulator, account)
        ending.wait()
    return ExitCode.DONE


class _Ending:
    """Waits for a signal."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def stop(self, _: int) -> None:
        """Let `wait` return."""
        self._asked.set()

    def wait(self) -> None:
        """Return when asked to."""
        self._asked.wait()


def _account(text: str | None) -> Account:
    from midasdl.simulator import Account

    if text is None:
        return Account()
    name, separator, password = text.partition(":")
    if not (name and separator and password):
        raise UsageError("--account must be a name and a password with a colon between them.")
    return Account(name, password)


def _tell(output: Output, simulator: Simulator, account: Account) -> None:
    output.record("simulator", {"environment": simulator.environment(), "base_url": simulator.base_url})
    lines = [f"Serving as CEDA would at {simulator.base_url}. Stop with Ctrl-C. In another terminal:", ""]
    lines += [f"  export {name}={value}" for name, value in simulator.environment().items()]
    lines += [f"  export CEDA_USERNAME={account.username}", f"  export CEDA_PASSWORD={account.password}", ""]
    output.say("\n".join(lines))


def read_faults(path: Path) -> list[Fault]:
    """The rules in a TOML file (tables ``[[fault]]``) or a JSON file (a list of objects).

    Raises
    ------
    ConfigurationError
    """
    from midasdl.simulator import Fault

    try:
        text = path.read_text(encoding="utf-8")
        rules: Any = json.loads(text) if path.suffix == ".json" else _rules_of(tomllib.loads(text), path)
    except OSError as error:
        raise ConfigurationError(f"The faults {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigurationError(f"The faults {path} cannot be understood: {error}.") from error
    return [Fault.from_mapping(rule) for rule in rules]


def _rules_of(tables: dict[str, Any], path: Path) -> Any:
    """What stands in tables ``[[fault]]``; whatever else a file holds would be left out in silence."""
    strange = sorted(tables.keys() - {"fault"})
    if strange:
        raise ConfigurationError(
            f"The faults {path} cannot be understood: there is no table {strange[0]!r}.",
            "Each rule is a table of its own, under the line [[fault]].",
        )
    return tables.get("fault", [])
