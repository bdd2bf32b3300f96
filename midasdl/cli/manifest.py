"""`midasdl manifest`: find the releases of the archive, and fetch the manifest of one."""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midasdl.cli.context import Subparsers, environment, settings_from, size
from midasdl.cli.output import Output
from midasdl.cli.wording import HelpFormatter
from midasdl.errors import (
    AuthenticationError,
    ConfigurationError,
    ExitCode,
    MidasdlError,
    ServerUnavailableError,
)

if TYPE_CHECKING:
    from midasdl.ceda.listing import Release
    from midasdl.ceda.persist import Patience
    from midasdl.ceda.verdict import Verdict
    from midasdl.clock import Clock
    from midasdl.config import Settings
    from midasdl.politeness.lone_gate import Passage

EXAMPLES = """examples:
  midasdl manifest list
  midasdl manifest fetch
  midasdl manifest fetch 202407 --output manifests/
  midasdl init latest --dest ./midas-open

A manifest names every file of a release with its md5. 'init latest' fetches the newest one and loads it.
"""

LIST_EXAMPLES = """examples:
  midasdl manifest list
  midasdl manifest list --json

The list is public: no account is needed, and no credentials are sent.
"""

FETCH_EXAMPLES = """examples:
  midasdl manifest fetch
  midasdl manifest fetch 202407
  midasdl manifest fetch v202407 --output manifests/midas-open-v202407-md5s.txt

The file is checked against the size and the md5 in CEDA's listing before it gets its name. One that is there already
and is the same is kept. CEDA gives manifests to those who are signed in: see midasdl auth setup
"""


def add_to(commands: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "manifest",
        parents=[shared],
        help="list the releases of the archive, fetch a manifest",
        description="List the releases of the archive, and fetch the manifest of one.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)
    listing = actions.add_parser(
        "list",
        parents=[shared],
        help="which releases there are, with size and date",
        description="List the releases of the archive.",
        epilog=LIST_EXAMPLES,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    listing.set_defaults(act=act_list)
    fetching = actions.add_parser(
        "fetch",
        parents=[shared],
        help="download and check the manifest of a release",
        description="Download the manifest of a release, and check it.",
        epilog=FETCH_EXAMPLES,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    fetching.add_argument(
        "release", nargs="?", default="latest", metavar="RELEASE", help="such as 202407 (default: latest)"
    )
    fetching.add_argument(
        "--output", metavar="PATH", help="a file or a folder (default: the file's own name, in this folder)"
    )
    fetching.set_defaults(act=act_fetch)


def act_list(options: argparse.Namespace, output: Output) -> ExitCode:
    """Show the releases."""
    with _office(options, output) as office:
        known = office.releases()
    output.say("release  size      date        file")
    for release in known:
        output.record("release", _facts(release))
        shown = "" if release.size_bytes is None else size(release.size_bytes)
        date = "" if release.modified_at is None else f"{release.modified_at:%Y-%m-%d}"
        output.say(f"{release.version:8} {shown:9} {date:11} {release.name}")
    return ExitCode.DONE


def act_fetch(options: argparse.Namespace, output: Output) -> ExitCode:
    """Fetch one manifest."""
    path = fetch_manifest(options, output, options.release, options.output)
    output.say(f"Next: midasdl init {path} --dest ./midas-open")
    return ExitCode.DONE


def fetch_manifest(
    options: argparse.Namespace, output: Output, wanted: str, place: str | None = None
) -> Path:
    """Bring the manifest of a release to `place`, unless it is there already, and say so.

    Raises
    ------
    SelectionError
        There is no such release.
    AuthenticationError, ServerUnavailableError, StorageError, ConfigurationError
    """
    from midasdl.ceda.listing import choose
    from midasdl.cli.release_file import holds

    with _office(options, output) as office:
        release = choose(office.releases(), wanted)
        path = _target(release, place)
        is_there = holds(path, release)
        if not is_there:
            office.download(release, path)
    checked = " and ".join(
        name for name, value in (("size", release.size_bytes), ("md5", release.md5)) if value is not None
    )
    output.record(
        "manifest", {**_facts(release), "path": path, "downloaded": not is_there, "checked": checked}
    )
    if is_there:
        output.say(f"{path} is the manifest of release {release.version} already; nothing was downloaded.")
    else:
        output.say(
            f"Fetched the manifest of release {release.version} to {path}: {size(path.stat().st_size)}, "
            f"{f'{checked} as CEDA lists them' if checked else 'of which CEDA lists neither size nor md5'}."
        )
    return path


class _Office:
    """What both actions need for their requests."""

    def __init__(self, settings: Settings, gate: Passage, clock: Clock, output: Output) -> None:
        self._settings = settings
        self._gate = gate
        self._clock = clock
        self._output = output

    def releases(self) -> tuple[Release, ...]:
        """Ask the listing."""
        from midasdl.ceda.listing import ListingService, releases
        from midasdl.ceda.network import trusted_bundle
        from midasdl.ceda.session import open_session
        from midasdl.ceda.verdict import FetchError

        ceda, client = self._settings.ceda, self._settings.performance.ceda_client
        timeout_s = (client.connection_timeout_seconds, client.request_timeout_seconds)
        trusted_bundle(self._settings.network.ca_bundle)
        with open_session(self._settings.network.ca_bundle) as session:
            service = ListingService(
                session, self._gate, timeout_s, self._patience(), self._clock, self._tell_retry
            )
            try:
                known = releases(service.items(ceda.listing_url))
            except FetchError as error:
                raise explain(error.verdict, f"The releases at {ceda.listing_url} cannot be listed") from None
        if not known:
            raise ConfigurationError(
                f"There is no release of MIDAS Open in the listing {ceda.listing_url}.",
                "Check ceda.listing_url: midasdl doctor shows it.",
            )
        return known

    def download(self, release: Release, path: Path) -> None:
        """Fetch one manifest."""
        from midasdl.ceda.credentials import Credentials
        from midasdl.ceda.verdict import FetchError
        from midasdl.cli.release_file import download

        credentials = Credentials.from_environment(environment())
        expected = "" if release.size_bytes is None else f" ({size(release.size_bytes)})"
        self._output.note(f"Fetching {release.name}{expected} …")
        try:
            download(
                release,
                path,
                self._settings,
                credentials,
                self._gate,
                self._patience(),
                self._clock,
                self._tell_retry,
            )
        except FetchError as error:
            raise explain(error.verdict, f"{release.name} cannot be fetched") from None

    def _patience(self) -> Patience:
        from midasdl.ceda.persist import Patience

        return Patience.from_settings(self._settings, random.uniform)

    def _tell_retry(self, verdict: Verdict, wait_s: float) -> None:
        self._output.note(f"{verdict.message}. Trying again in {wait_s:.0f} s.")


@contextmanager
def _office(options: argparse.Namespace, output: Output) -> Iterator[_Office]:
    from midasdl.cli.passage import passage
    from midasdl.clock import SystemClock

    settings, clock = settings_from(options), SystemClock()
    with passage(options, settings, "manifest", clock) as gate:
        yield _Office(settings, gate, clock, output)


def explain(verdict: Verdict, what: str) -> MidasdlError:
    """Why there is no answer, as the error to raise."""
    from midasdl.ceda.network import HELP
    from midasdl.models import ErrorClass

    message = f"{what}. {verdict.message}."
    match verdict.error_class:
        case ErrorClass.FORBIDDEN:
            return AuthenticationError(message, "See what CEDA says to your account: midasdl auth verify")
        case ErrorClass.NOT_FOUND | ErrorClass.REJECTED:
            return ServerUnavailableError(
                message, "Check ceda.archive_url and ceda.listing_url: midasdl doctor shows them."
            )
        case ErrorClass.CHECKSUM:
            return MidasdlError(message, "CEDA may be replacing it; try again in an hour.")
        case _:
            later = "Try again later with the same command."
            return ServerUnavailableError(message, HELP.get(verdict.error_class, later))


def _target(release: Release, place: str | None) -> Path:
    """Where the manifest goes; into a folder under its own name."""
    if place is None:
        return Path(release.name)
    path = Path(place).expanduser()
    return path / release.name if path.is_dir() or place.endswith("/") else path


def _facts(release: Release) -> dict[str, Any]:
    return {
        "release": release.version,
        "name": release.name,
        "size_bytes": release.size_bytes,
        "md5": release.md5,
        "modified_at": release.modified_at and f"{release.modified_at:%Y-%m-%dT%H:%M:%SZ}",
    }
