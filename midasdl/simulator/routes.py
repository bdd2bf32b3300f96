"""What a request asks for: its path decoded, the route that serves it, and the file below the root."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import parse_qs, unquote_to_bytes

ARCHIVE_PATH = "/badc/ukmo-midas-open"
TOKEN_PATH = "/api/token/create/"  # noqa: S105 - a path, not a token
SIGNIN_PATH = "/account/signin/"
LISTING_PATH = "/listing"
TOKEN_CHECK_PATH = "/badc/ARCHIVE_INFO/ACCESS_TEST/RESTRICTED/TOKEN_CHECK"  # noqa: S105 - a path, not a token


class Route(StrEnum):
    """Which of CEDA's hosts would have answered."""

    TOKEN = "token"  # noqa: S105 - the name of a route
    DOWNLOAD = "download"
    LISTING = "listing"
    SIGNIN = "signin"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a request line, taken apart.

    Attributes
    ----------
    path : str
        Decoded once; bytes that are not UTF-8 are kept as lone surrogates, as file names are.
    raw_path : str
        As it came.
    query : dict
        Parameter to values; a parameter without a value has an empty one.
    """

    path: str
    raw_path: str
    query: dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Request:
    """What the site needs to know of a request; `authorization` stays out of every repr."""

    method: str
    route: Route
    target: Target
    authorization: str | None = field(default=None, repr=False)
    range: str | None = None
    if_range: str | None = None


def read_target(text: str) -> Target:
    """Take a request target apart; that of a proxy request (``http://host/path``) too."""
    raw_path, _, query = text.partition("?")
    if raw_path.startswith(("http://", "https://")):
        raw_path = "/" + raw_path.split("/", 3)[3] if raw_path.count("/") > 2 else "/"
    path = unquote_to_bytes(raw_path.encode("latin-1")).decode("utf-8", "surrogateescape")
    return Target(path, raw_path, parse_qs(query, keep_blank_values=True) if query else {})


def safe_parts(path: str) -> list[str] | None:
    """Return the components of a decoded path, or None where one of them could lead astray."""
    parts = [part for part in path.split("/") if part]
    for part in parts:
        if part in (".", "..") or "\0" in part or (os.sep != "/" and os.sep in part):
            return None
    return parts


class Tree:
    """The folder that is served, seen through URL paths.

    If the root holds a folder ``badc``, ``/badc/X`` is ``<root>/badc/X``; otherwise
    ``/badc/ukmo-midas-open/X`` is ``<root>/X``.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._prefix = [] if (root / "badc").is_dir() else ARCHIVE_PATH.strip("/").split("/")

    def locate(self, path: str) -> Path | None:
        """Return where a decoded URL path would be, or None if it lies outside what is served."""
        parts = safe_parts(path)
        depth = len(self._prefix)
        if not parts or parts[0] != "badc" or parts[:depth] != self._prefix:
            return None
        return self._root.joinpath(*parts[depth:])

    def is_folder(self, path: str) -> bool:
        """Whether a decoded URL path is a folder here."""
        place = self.locate(path)
        return place is not None and mode_of(place) == stat.S_IFDIR

    def is_file(self, path: str) -> bool:
        """Whether a decoded URL path is a file here; with a slash at its end it is not."""
        place = self.locate(path)
        return place is not None and not path.endswith("/") and mode_of(place) == stat.S_IFREG


def mode_of(place: Path) -> int | None:
    """Return the kind of a file as in `stat.S_IFMT`, None where there is none or its name is impossible."""
    try:
        return stat.S_IFMT(place.stat().st_mode)
    except (OSError, ValueError):
        return None


def listed_path(path: str) -> str:
    """Return the archive path that a listing URL path speaks of."""
    return path.removeprefix(LISTING_PATH) or "/"


def route_of(target: Target, tree: Tree) -> Route:
    """Tell which route serves a target."""
    path = target.path
    if path == TOKEN_PATH:
        return Route.TOKEN
    if path == SIGNIN_PATH:
        return Route.SIGNIN
    if path == LISTING_PATH or path.startswith(f"{LISTING_PATH}/"):
        return Route.LISTING
    if path != "/badc" and not path.startswith("/badc/"):
        return Route.OTHER
    return Route.LISTING if "json" in target.query or tree.is_folder(path) else Route.DOWNLOAD
