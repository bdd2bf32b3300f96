"""One GET for one file: the answer is judged before a byte of it is written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import requests

from midasdl.ceda.asking import Asker
from midasdl.ceda.classify import (
    FOREIGN_ERRORS,
    classify_beginning,
    classify_exception,
    classify_status,
)
from midasdl.ceda.dates import seconds_since_1970
from midasdl.ceda.lean_answer import LeanResponse
from midasdl.ceda.ranges import Digest, Fit, Held, Sink, fit_of, strong_validator
from midasdl.ceda.secret import Secret
from midasdl.ceda.session import host_of
from midasdl.ceda.tokens import TokenSource
from midasdl.ceda.verdict import FetchError, Verdict, report_on
from midasdl.clock import Clock
from midasdl.errors import AuthenticationError
from midasdl.models import ErrorClass
from midasdl.politeness.state import Ticket

BEGINNING_BYTES = 2_048
LONG_S = 1.0
"""Who has waited at the gate for longer looks whether there is another token."""


class Body(NamedTuple):
    """A body that has arrived whole.

    Attributes
    ----------
    content : bytes, memoryview or None
        Holds until the next request of the same client; None where it went to the sink.
    md5 : str
        Of the bytes as they will be on disk.
    last_modified_s : float or None
        Seconds since 1970.
    """

    content: bytes | memoryview | None
    md5: str
    size_bytes: int
    http_status: int
    last_modified_s: float | None


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """How the client reads.

    Attributes
    ----------
    in_memory_bytes : int
        Larger bodies go to the sink.
    chunk_bytes : int
        Read and written at a time in that case.
    """

    connect_timeout_s: float
    silence_timeout_s: float
    in_memory_bytes: int
    chunk_bytes: int


class CedaClient:
    """Fetches files of the archive.

    Parameters
    ----------
    session : requests.Session
        As `open_session` makes it.
    archive_url : str
    tokens : TokenSource
    gate : callable
        Context manager that a request to a host has to pass.
    limits : ClientLimits
    clock : Clock

    Notes
    -----
    Concurrency: belongs to one thread. No request is repeated here but after a new token.
    """

    def __init__(
        self,
        session: requests.Session,
        archive_url: str,
        tokens: TokenSource,
        gate: Callable[[str], AbstractContextManager[Ticket]],
        limits: ClientLimits,
        clock: Clock,
    ) -> None:
        self._asker = Asker(session, archive_url, (limits.connect_timeout_s, limits.silence_timeout_s))
        self._tokens = tokens
        self._gate = gate
        self._limits = limits
        self._clock = clock
        self.host = host_of(archive_url)

    def fetch(self, path: str, sink: Sink) -> Body:
        """GET one file, once, or again where the token had to be replaced; only what is missing of it if that works.

        Parameters
        ----------
        path : str
            Below the archive URL.
        sink : Sink
            Takes a body too large for memory, and the rest of one that it holds the beginning of.

        Raises
        ------
        FetchError
            With the verdict on the answer, or on its absence.
        AuthenticationError
            When a new token is not accepted either: no file can be fetched.
        """
        was_refused = False
        while True:
            token = self._tokens.current()
            try:
                return self._get(path, token, sink)
            except FetchError as error:
                if error.verdict.error_class is not ErrorClass.AUTHENTICATION:
                    raise
                refusal = error.message
            if self._tokens.has_lapsed(token):
                continue
            if was_refused:
                raise AuthenticationError(
                    f"CEDA gave a new token and does not accept it. {refusal}.",
                    "Sign in once at https://data.ceda.ac.uk/ and try again, or write to support@ceda.ac.uk.",
                )
            self._tokens.replace(token)
            was_refused = True

    def _get(self, path: str, token: Secret, sink: Sink) -> Body:
        """One request, with every foreign exception turned into ours.

        The token is settled before the gate, because a request for a token has to pass the gate itself; whoever
        has waited there for long takes one that others have got meanwhile.
        """
        held, came_s = sink.held, self._clock.monotonic()
        with self._gate(self.host) as ticket:
            began_s = self._clock.monotonic()
            if began_s - came_s > LONG_S:
                token = self._tokens.latest(token)
            latency_us = None
            try:
                response = self._asker.get(path, token, held)
                latency_us = int((self._clock.monotonic() - began_s) * 1e6)
                try:
                    body = self._read(response, path, sink, held)
                finally:
                    response.close()
                ticket.report = report_on(None, latency_us)
            except FetchError as error:
                ticket.report = report_on(error.verdict, latency_us)
                raise
            except FOREIGN_ERRORS as error:
                verdict = classify_exception(error)
                if verdict is None:
                    raise
                ticket.report = report_on(verdict, latency_us)
                raise FetchError(verdict) from None
            return body

    def _read(self, response: requests.Response, path: str, sink: Sink, held: Held | None) -> Body:
        if response.status_code != 200:
            if held is not None and self._fits(response, sink, held):
                return self._append(response, sink, held)
            verdict = classify_status(response.status_code, response.headers, self._clock.now_us())
            if verdict is not None:
                response.raw.drain_conn()
                raise FetchError(verdict)
        content = self._content(response)
        if content is None:
            return self._stream(response, path, sink)
        self._judge_beginning(bytes(content[:BEGINNING_BYTES]), response, path)
        digest = hashlib.md5(content, usedforsecurity=False)
        return _body(response, content, digest.hexdigest(), len(content))

    def _fits(self, response: requests.Response, sink: Sink, held: Held) -> bool:
        """Whether an answer is the rest of what is held, and no other; what is held goes where it cannot be used."""
        fit = fit_of(held, response.status_code, response.headers)
        if fit is Fit.MISFIT:
            sink.drop()
            raise FetchError(misfit_verdict(response.status_code))
        return fit is Fit.REST

    def _content(self, response: requests.Response) -> bytes | memoryview | None:
        """All of a body; None where it is too large for memory, or may be."""
        most = self._limits.in_memory_bytes
        if type(response) is LeanResponse:
            return response.raw.lend() if response.raw.size_bytes <= most else None
        announced = response.headers.get("Content-Length", "")
        if not announced.isdigit() or int(announced) > most:
            return None
        content: bytes = response.raw.read(decode_content=True)
        return content

    def _stream(self, response: requests.Response, path: str, sink: Sink) -> Body:
        chunks = self._chunks(response)
        beginning = _beginning(chunks)
        self._judge_beginning(beginning[:BEGINNING_BYTES], response, path)
        sink.begin(strong_validator(response.headers) if response.status_code == 200 else None)
        nothing = hashlib.md5(usedforsecurity=False)
        return _pour(response, chain([beginning], chunks), sink, nothing, 0)

    def _append(self, response: requests.Response, sink: Sink, held: Held) -> Body:
        return _pour(response, self._chunks(response), sink, held.digest.copy(), held.size_bytes)

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        return response.raw.stream(self._limits.chunk_bytes, decode_content=True)

    def _judge_beginning(self, beginning: bytes, response: requests.Response, path: str) -> None:
        content_type = response.headers.get("Content-Type", "").lower()
        verdict = classify_beginning(beginning, content_type, path, response.status_code)
        if verdict is not None:
            raise FetchError(verdict)


def checksum_verdict(body: Body, expected_md5: str, path: str) -> Verdict:
    """Say that a body is not the file that the manifest names."""
    return Verdict(
        ErrorClass.CHECKSUM,
        f"{path}: the manifest says md5 {expected_md5}, CEDA sent {body.size_bytes} bytes with md5 {body.md5}",
        body.http_status,
    )


def misfit_verdict(http_status: int) -> Verdict:
    """Say that the rest of a body was asked for and something else came."""
    return Verdict(
        ErrorClass.INCOMPLETE,
        f"CEDA answered {http_status}, and not with the rest of the body that had broken off: it is fetched anew",
        http_status,
    )


def _body(response: requests.Response, content: bytes | memoryview | None, md5: str, size: int) -> Body:
    last_modified_s = seconds_since_1970(response.headers.get("Last-Modified", ""))
    return Body(content, md5, size, response.status_code, last_modified_s)


def _pour(
    response: requests.Response, chunks: Iterable[bytes], sink: Sink, digest: Digest, size_bytes: int
) -> Body:
    """Let a body flow into its sink, which holds `size_bytes` of it already; `digest` has taken those."""
    for chunk in chunks:
        sink.write(chunk)
        digest.update(chunk)
        size_bytes += len(chunk)
    return _body(response, None, digest.hexdigest(), size_bytes)


def _beginning(chunks: Iterator[bytes]) -> bytes:
    """As many chunks as it takes to know what a body is: a server may send it in crumbs."""
    beginning = b""
    while len(beginning) < BEGINNING_BYTES and (chunk := next(chunks, b"")):
        beginning += chunk
    return beginning
