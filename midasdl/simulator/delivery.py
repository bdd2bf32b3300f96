"""How an answer goes over the wire: what a fault makes of it, and in which strokes it is sent.

Pure: the strokes say how long to wait before what is sent; the handler waits and sends.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from midasdl.simulator import pages
from midasdl.simulator.faults import Fault, FaultAction
from midasdl.simulator.replies import (
    HTML,
    PIECE_BYTES,
    Body,
    FilePart,
    Reply,
    error_reply,
    first_bytes,
    html_reply,
    load,
    pieces,
    remaining_bytes,
    text_reply,
)

_PACED_PIECE_S = 0.05
_BODILESS = (204, 304)


@dataclass(frozen=True, slots=True)
class Pace:
    """How slow the server is when all is well; the rate is that of one connection."""

    first_byte_delay_s: float = 0.0
    bytes_per_second: float | None = None


class Stroke(NamedTuple):
    """One send: wait, then hand `data` to the socket; `body_bytes` of it count as body."""

    wait_s: float
    data: bytes
    body_bytes: int


def own_reply(fault: Fault) -> Reply | None:
    """Return the answer that a fault gives in the server's stead, None where the server itself answers."""
    if fault.action == FaultAction.STATUS:
        reply = error_reply(fault.status) if fault.status not in _BODILESS else Reply(fault.status)
    elif fault.action == FaultAction.HTML_200:
        reply = html_reply(200, pages.maintenance_page())
    else:
        return None
    if fault.body is not None or fault.content_type is not None:
        text = fault.body if fault.body is not None else load(reply.body).decode()
        reply = text_reply(reply.status, text, fault.content_type or HTML)
    if fault.retry_after is not None:
        reply = reply.with_headers(("Retry-After", fault.retry_after))
    return reply


def altered_reply(reply: Reply, fault: Fault) -> Reply:
    """Return what a fault makes of an answer before it is sent."""
    reply = reply.with_headers(*fault.headers.items())
    if fault.action == FaultAction.SHORT:
        return replace(reply, body=first_bytes(reply.body, _count(fault, len(reply.body) // 2)))
    if fault.action == FaultAction.CORRUPT:
        return replace(reply, body=_corrupted(load(reply.body), _count(fault, 1)))
    if fault.action == FaultAction.GZIP:
        return gzipped(reply)
    if fault.action == FaultAction.CHUNKED:
        return replace(reply, chunked=True)
    return reply


def gzipped(reply: Reply) -> Reply:
    """Encode an answer's body with gzip and say so."""
    body = gzip.compress(load(reply.body), compresslevel=1, mtime=0)
    headers = tuple(header for header in reply.headers if header[0] != "Accept-Ranges")
    return replace(reply, headers=(*headers, ("Content-Encoding", "gzip")), body=body)


def framing(reply: Reply, *, http_1_0: bool = False) -> tuple[str, str] | None:
    """Return the header that tells where the body ends, None where the end of the connection does."""
    if reply.status in _BODILESS:
        return None
    if not reply.chunked:
        return ("Content-Length", str(len(reply.body)))
    return None if http_1_0 else ("Transfer-Encoding", "chunked")


def strokes(
    head: bytes,
    reply: Reply,
    pace: Pace,
    fault: Fault | None = None,
    *,
    bodiless: bool = False,
    in_chunks: bool = False,
) -> Iterator[Stroke]:
    """Yield what is sent, in order; head and first piece of body leave together.

    Parameters
    ----------
    head : bytes
        Status line and headers.
    bodiless : bool
        The answer to a HEAD request.
    in_chunks : bool
        Frame the body as chunks.
    """
    wait_s = pace.first_byte_delay_s
    if fault is not None and fault.action == FaultAction.DELAY:
        wait_s += fault.seconds
    if bodiless or reply.status in _BODILESS:
        yield Stroke(wait_s, head, 0)
        return
    for pause_s, piece in _beats(reply.body, pace, fault):
        if pause_s > 0.0 and head:
            yield Stroke(wait_s, head, 0)
            wait_s, head = 0.0, b""
        data = head + (_chunk(piece) if in_chunks and piece else piece)
        if data:
            yield Stroke(wait_s + pause_s, data, len(piece))
        wait_s, head = 0.0, b""
    ending = b"0\r\n\r\n" if in_chunks and not _is_cut(fault) else b""
    if head or ending:
        yield Stroke(wait_s, head + ending, 0)


def ends_connection(fault: Fault | None) -> bool:
    """Whether a fault closes the connection behind its answer, unannounced."""
    return fault is not None and fault.action in (FaultAction.TRUNCATE, FaultAction.CLOSE_AFTER)


def _beats(body: Body, pace: Pace, fault: Fault | None) -> Iterator[tuple[float, bytes]]:
    action = fault.action if fault is not None else None
    if fault is not None and action == FaultAction.DRIP:
        dripped = min(_count(fault, len(body)), len(body))
        for piece in pieces(first_bytes(body, dripped), 1):
            yield fault.seconds, piece
        yield from _paced(remaining_bytes(body, dripped), pace)
    elif fault is not None and action == FaultAction.STALL:
        sent = _count(fault, 0)
        yield from _paced(first_bytes(body, sent), pace)
        for position, (pause_s, piece) in enumerate(_paced(remaining_bytes(body, sent), pace)):
            yield pause_s + (fault.seconds if position == 0 else 0.0), piece
    elif fault is not None and action == FaultAction.TRUNCATE:
        yield from _paced(first_bytes(body, _count(fault, len(body) // 2)), pace)
    else:
        yield from _paced(body, pace)


def _paced(body: Body, pace: Pace) -> Iterator[tuple[float, bytes]]:
    rate = pace.bytes_per_second
    if rate is None:
        if isinstance(body, FilePart):
            yield from ((0.0, piece) for piece in pieces(body))
        elif body:
            yield 0.0, body
        return
    piece_bytes = max(1, min(PIECE_BYTES, int(rate * _PACED_PIECE_S)))
    for piece in pieces(body, piece_bytes):
        yield len(piece) / rate, piece


def _is_cut(fault: Fault | None) -> bool:
    return fault is not None and fault.action == FaultAction.TRUNCATE


def _count(fault: Fault, default: int) -> int:
    return default if fault.bytes is None else fault.bytes


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _corrupted(body: bytes, count: int) -> bytes:
    wrong = bytearray(body)
    start = max(0, len(wrong) // 2 - count // 2)
    for position in range(start, min(len(wrong), start + count)):
        wrong[position] ^= 0x01
    return bytes(wrong)
