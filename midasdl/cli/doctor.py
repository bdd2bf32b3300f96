"""`midasdl doctor`: is everything in order here? Makes no request."""

from __future__ import annotations

import argparse
import platform
import shutil
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midasdl.cli.context import DOTENV, Subparsers, environment, ledger_path, settings_from, size
from midasdl.cli.output import Output
from midasdl.cli.wording import HelpFormatter
from midasdl.errors import ExitCode, MidasdlError
from midasdl.version import __version__

if TYPE_CHECKING:
    from midasdl.ledger.ledger import Ledger

EXAMPLES = """examples:
  midasdl doctor
  midasdl doctor --json
"""

RESCUE = (
    "what can still be read of it, such as its history, goes into another file with: "
    "sqlite3 {path} .recover | sqlite3 rescued.db"
)

LONG_LOG = (
    "{path}-wal has grown to {size}: a program has been reading the ledger for long, and nothing can be cleared away "
    "before it is through. Close it (an open sqlite3 shell, or 'midasdl sql' in a pager?)"
)

ASTRAY = (
    "what the ledger keeps as sums is not what is there ({astray}): somebody has changed it past its triggers. "
    "Loading the manifest again counts anew: midasdl init MANIFEST"
)

OK, WARNING, PROBLEM = "ok", "warning", "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    what: str
    verdict: str
    text: str


def add_to(commands: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "doctor",
        parents=[shared],
        help="see whether everything is in order here",
        description="Look at Python, SQLite, the ledger and its disk, credentials and limits. Makes no request.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(act=act)


def act(options: argparse.Namespace, output: Output) -> ExitCode:
    """Look at everything, and say what was found."""
    findings = []
    for finding in examine(options, output):
        findings.append(finding)
        output.record("finding", asdict(finding))
        output.say(finding.text, lead=f"{finding.verdict:8} {finding.what:12} ")
    return ExitCode.SOME_FAILED if any(finding.verdict == PROBLEM for finding in findings) else ExitCode.DONE


def examine(options: argparse.Namespace, output: Output) -> Iterator[Finding]:
    """Everything that can be looked at without a request."""
    yield Finding("midasdl", OK, f"{__version__} on Python {platform.python_version()}, {platform.system()}")
    yield from _examine_sqlite()
    yield from _examine_ledger(ledger_path(options), output)
    yield from _examine_credentials()
    try:
        settings = settings_from(options)
    except MidasdlError as error:
        yield Finding("settings", PROBLEM, error.message)
        return
    yield from _examine_settings(settings)


def _examine_sqlite() -> Iterator[Finding]:
    from midasdl.ledger.library import WAL_IS_SAFE_FROM, best_library

    library = best_library()
    if library.wal_is_safe:
        yield Finding("sqlite", OK, f"{library.version} from {library.name}: WAL is safe")
        return
    fixed = ".".join(str(part) for part in WAL_IS_SAFE_FROM)
    text = f"{library.version} from {library.name} is older than {fixed}: ledgers use the slower rollback journal"
    yield Finding("sqlite", WARNING, text)


def _examine_ledger(path: Path, output: Output) -> Iterator[Finding]:
    from midasdl.errors import NotALedgerError
    from midasdl.ledger.ledger import Ledger
    from midasdl.ledger.library import file_system_of, is_network

    file_system = file_system_of(path)
    if is_network(file_system):
        text = (
            f"{path} is on a network file system ({file_system}): no WAL there, and only one host may use it"
        )
        yield Finding("disk", WARNING, text)
    else:
        yield Finding("disk", OK, f"the ledger's file system is {file_system}")
    if not path.exists():
        yield Finding("ledger", WARNING, f"there is no {path} yet; make it with: midasdl init MANIFEST")
        return
    try:
        with Ledger.open(path, read_only=True, tell=output.note) as ledger:
            yield from _examine_contents(ledger)
    except MidasdlError as error:
        yield Finding("ledger", PROBLEM, f"{error.message} {error.hint or ''}".strip())
        if isinstance(error, NotALedgerError):
            yield Finding("rescue", WARNING, RESCUE.format(path=path))


def _examine_contents(ledger: Ledger) -> Iterator[Finding]:
    from midasdl.errors import NotALedgerError
    from midasdl.ledger.engine import LONGEST_LOG_BYTES
    from midasdl.ledger.ledger import data_root_of
    from midasdl.ledger.library import may_be_written
    from midasdl.ledger.overview import Overview
    from midasdl.ledger.sqlite_errors import way_back
    from midasdl.ledger.totals import Totals

    damage = ledger.damage()
    if damage is not None:
        raise NotALedgerError(f"The ledger {ledger.path} is damaged ({damage}).", way_back(ledger.path))
    Overview(ledger).require_that_all_adds_up()
    astray = Totals(ledger).disagreement()
    if astray is not None:
        yield Finding("ledger sums", PROBLEM, ASTRAY.format(astray=astray))
    yield Finding("ledger", OK, f"{ledger.path}, journal mode {ledger.journal_mode()}, whole, adds up")
    if not may_be_written(ledger.path):
        text = f"{ledger.path} or what lies beside it belongs to somebody else: you may look, and not run"
        yield Finding("ledger", WARNING, text)
    if ledger.log_bytes > 2 * LONGEST_LOG_BYTES:
        yield Finding("ledger log", WARNING, LONG_LOG.format(path=ledger.path, size=size(ledger.log_bytes)))
    yield _examine_data_root(data_root_of(ledger))


def _examine_data_root(root: Path) -> Finding:
    standing = next(folder for folder in [root, *root.parents] if folder.exists())
    free = shutil.disk_usage(standing).free
    if not _is_writable(standing):
        return Finding("data root", PROBLEM, f"{root} cannot be written")
    return Finding("data root", OK, f"{root}, {size(free)} free")


def _is_writable(folder: Path) -> bool:
    """Whether a file can really be made there; permissions alone do not tell."""
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _examine_credentials() -> Iterator[Finding]:
    from midasdl.ceda.credentials import Credentials

    if DOTENV.exists() and stat.S_IMODE(DOTENV.stat().st_mode) & 0o077:
        yield Finding(".env", WARNING, "others can read it; keep it to yourself with: chmod 600 .env")
    try:
        credentials = Credentials.from_environment(environment())
    except MidasdlError as error:
        yield Finding("credentials", WARNING, f"{error.message} {error.hint}")
        return
    given = "a token" if credentials.token else f"the name and password of {credentials.username}"
    yield Finding("credentials", OK, f"{given} (not tried)")


def _examine_settings(settings: Any) -> Iterator[Finding]:
    from midasdl.ceda.session import host_of
    from midasdl.clock import SystemClock
    from midasdl.pacing import Paces, told
    from midasdl.politeness.limiter import limits_from

    yield from _examine_network(settings)
    client = settings.performance.ceda_client
    for name, url in settings.ceda.model_dump(include={"archive_url", "listing_url", "token_url"}).items():
        yield Finding(name.replace("_", " "), OK, url)
    limits = limits_from(client, host_of(settings.ceda.archive_url))
    most = "no limit of" if limits.most is None else f"at most {limits.most}"
    text = f"{most} requests at a time, starts at least {client.min_request_spacing_ms} ms apart"
    yield Finding("pace", OK, told(Paces(settings).at(SystemClock().now_us())))
    yield Finding("limits", OK, f"{text}, {settings.performance.workers.count} workers")


def _examine_network(settings: Any) -> Iterator[Finding]:
    """Certificates and proxies, the way every request would take them."""
    from midasdl.ceda.network import presentable_proxy, proxy_for, require_proxy, trusted_bundle

    try:
        bundle = trusted_bundle(settings.network.ca_bundle)
        trusted = "the usual ones" if bundle is None else f"{bundle.path}, named by {bundle.named_by}"
        yield Finding("certificates", OK, trusted)
        address = proxy_for(settings.ceda.archive_url)
        require_proxy(address)
    except MidasdlError as error:
        yield Finding("network", PROBLEM, f"{error.message} {error.hint}")
        return
    yield Finding("proxy", OK, "none" if address is None else presentable_proxy(address))
