"""What the stand-in says when nothing goes wrong: CEDA's services behind one `Site.reply`."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import quote

from midasdl.simulator import accounts, pages
from midasdl.simulator.accounts import Account, Login, TokenShape, TokenStore
from midasdl.simulator.delivery import gzipped
from midasdl.simulator.listing import Listing, names_in
from midasdl.simulator.replies import (
    IN_MEMORY_BYTES,
    Body,
    FilePart,
    Reply,
    error_reply,
    html_reply,
    json_reply,
    redirect_reply,
    text_reply,
)
from midasdl.simulator.routes import (
    SIGNIN_PATH,
    TOKEN_CHECK_PATH,
    Request,
    Route,
    Tree,
    listed_path,
)

_RANGE = re.compile(r"bytes=(\d{0,999})-(\d{0,999})", re.ASCII | re.IGNORECASE)
_SURE_AFTER_S = 60.0
"""A date of modification is a strong validator from this age on, as for Apache."""


@dataclass(frozen=True, slots=True)
class FileSettings:
    """How files are served.

    Parameters
    ----------
    etag : bool
        Send an ETag.
    content_type : str
        Of ``.csv`` files; others are ``text/plain``.
    gzip : bool
        Encode every file with gzip though nobody asked for it; ranges are then ignored.
    chunked : bool
        Send every file in chunks, without announcing its length.
    """

    etag: bool = True
    content_type: str = "text/csv"
    gzip: bool = False
    chunked: bool = False


class ByteRange(NamedTuple):
    """Bytes from `start` up to, not including, `stop`; an empty range cannot be satisfied."""

    start: int
    stop: int


def read_range(header: str | None, size: int) -> ByteRange | None:
    """Return the bytes that a ``Range`` header asks for, None where the whole file is the answer.

    Several ranges, other units and malformed headers are ignored, as a server may.
    """
    match = _RANGE.fullmatch((header or "").strip())
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        suffix = int(match[2])
        return None if size == 0 < suffix else ByteRange(max(0, size - suffix), size)
    start = int(match[1])
    if match[2] and int(match[2]) < start:
        return None
    stop = min(size, int(match[2]) + 1) if match[2] else size
    return ByteRange(start, max(start, stop)) if start < size else ByteRange(size, size)


class Site:
    """Answers requests from a folder, an account and its tokens.

    Concurrency: `reply` may be called from any thread.
    """

    def __init__(
        self,
        base_url: str,
        tree: Tree,
        account: Account,
        tokens: TokenStore,
        now_s: Callable[[], float],
        files: FileSettings,
    ) -> None:
        self._base_url = base_url
        self._tree = tree
        self._account = account
        self._tokens = tokens
        self._now_s = now_s
        self._files = files
        self._listing = Listing(self.download_url)

    def download_url(self, path: str) -> str:
        """Return the URL of an archive path on the download host."""
        return self._base_url + quote(os.fsencode(path))

    def reply(self, request: Request) -> Reply:
        """Answer a request; a mint revokes a token, nothing else changes."""
        if request.route is Route.TOKEN:
            return self._token(request)
        if request.route is Route.OTHER:
            return error_reply(404)
        if request.method not in ("GET", "HEAD"):
            return error_reply(405).with_headers(("Allow", "GET, HEAD"))
        if request.route is Route.SIGNIN:
            return self.login_page()
        return self._list(request) if request.route is Route.LISTING else self._download(request)

    def login_page(self) -> Reply:
        """Answer 200 with the login page; it differs each time."""
        csrf = secrets.token_hex(32)
        cookie = f"csrftoken={csrf}; Path=/; SameSite=Lax"
        return html_reply(200, pages.login_page(csrf)).with_headers(("Set-Cookie", cookie))

    def to_signin(self, request: Request) -> Reply:
        """Answer 302 to the login page, as a request without a good token is answered."""
        wanted = quote(self._base_url + request.target.raw_path, safe="")
        return redirect_reply(f"{self._base_url}{SIGNIN_PATH}?r={wanted}", "Unauthenticated")

    def _token(self, request: Request) -> Reply:
        if request.method != "POST":
            detail = f'Method "{request.method}" not allowed.'
            return json_reply(405, {"detail": detail}).with_headers(("Allow", "POST, OPTIONS"))
        login = self._account.login(request.authorization)
        if login is not Login.OK:
            return _refusal(login)
        opaque = self._account.token_shape == TokenShape.OPAQUE
        minted = self._tokens.mint(self._account.username, self._now_s(), opaque=opaque)
        return json_reply(200, accounts.token_answer(self._account, minted))

    def _list(self, request: Request) -> Reply:
        path = listed_path(request.target.path)
        place = self._tree.locate(path)
        if place is not None and self._tree.is_file(path) and path != request.target.path:
            return redirect_reply(self.download_url(path))
        if place is None or not self._tree.is_folder(path):
            return error_reply(404)
        if "json" in request.target.query:
            return json_reply(200, self._listing.describe(place, path))
        return html_reply(200, pages.listing_page(path, names_in(place)))

    def _download(self, request: Request) -> Reply:
        path = request.target.path
        if not self._tokens.accepts(accounts.read_bearer(request.authorization), self._now_s()):
            return self.to_signin(request)
        if path == TOKEN_CHECK_PATH:
            return text_reply(200, "This file is readable: the token is good.\n")
        if self._account.licence_missing:
            return self._forbidden(path)
        place = self._tree.locate(path)
        if place is None or not self._tree.is_file(path):
            return error_reply(404)
        return self._file(request, place)

    def _forbidden(self, path: str) -> Reply:
        if self._account.licence_redirect:
            folder = quote(os.fsencode(path.rpartition("/")[0]))
            return redirect_reply(f"{self._base_url}/data{folder}?forbidden")
        return text_reply(403, "Unauthorized")

    def _file(self, request: Request, place: Path) -> Reply:
        with place.open("rb") as stream:
            status = os.fstat(stream.fileno())
            etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"' if self._files.etag else None
            modified = formatdate(status.st_mtime, usegmt=True)
            same = etag if (request.if_range or "").startswith('"') else self._strong_date(status, modified)
            wanted = self._wanted(request, status.st_size, same)
            if wanted is not None and wanted.start >= wanted.stop:
                return error_reply(416).with_headers(("Content-Range", f"bytes */{status.st_size}"))
            start, stop = wanted or (0, status.st_size)
            body = _read(stream, place, start, stop)
        headers = [
            ("Content-Type", self._content_type(place)),
            ("Last-Modified", modified),
            ("Accept-Ranges", "bytes"),
        ]
        if etag is not None:
            headers.append(("ETag", etag))
        if wanted is not None:
            headers.append(("Content-Range", f"bytes {start}-{stop - 1}/{status.st_size}"))
        if "download" in request.target.query:
            headers.append(
                ("Content-Disposition", f"attachment; filename*=UTF-8''{quote(os.fsencode(place.name))}")
            )
        reply = Reply(206 if wanted else 200, tuple(headers), body, chunked=self._files.chunked)
        return gzipped(reply) if self._files.gzip else reply

    def _strong_date(self, status: os.stat_result, modified: str) -> str | None:
        return modified if self._now_s() - status.st_mtime >= _SURE_AFTER_S else None

    def _wanted(self, request: Request, size: int, same: str | None) -> ByteRange | None:
        if self._files.gzip or request.method != "GET" or request.if_range not in (None, same):
            return None
        return read_range(request.range, size)

    def _content_type(self, place: Path) -> str:
        return self._files.content_type if place.suffix == ".csv" else "text/plain"


def _read(stream: BinaryIO, place: Path, start: int, stop: int) -> Body:
    if stop - start > IN_MEMORY_BYTES:
        return FilePart(place, start, stop - start)
    stream.seek(start)
    return stream.read(stop - start)


def _refusal(login: Login) -> Reply:
    if login is Login.NO_STORED_TOKEN:
        return error_reply(500)
    if login is Login.GARBLED:
        return json_reply(403, {"detail": "Authentication credentials were not provided."})
    status, description = {
        Login.NOT_SET_UP: (400, "Account is not fully set up"),
        Login.DISABLED: (400, "Account disabled"),
    }.get(login, (401, "Invalid user credentials"))
    return json_reply(status, {"error": "invalid_grant", "error_description": description})
