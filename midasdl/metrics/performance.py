"""A record of performance now and then, rolling averages, and when they call for an alert. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

KINDS = ("stalled", "slow", "late", "errors")

PLENTY = 64
"""With fewer tasks left not everybody has something to do, and it becomes slower by itself."""

AVERAGED = 10
"""Rolling averages are those of so many records."""

USUAL_FROM = 4
"""So many records make what is usual."""

LEARNING = 0.1
"""The weight of a new record in what is usual."""

BEGINS_AFTER = 2
ENDS_AFTER = 2
"""An alert begins, and ends, when so many records in a row call for it: one bad moment is none."""

SLOW, SLOW_NO_MORE = 0.5, 0.75
"""Shares of the usual speed below which it is slow, and above which no longer."""

LATE, LATE_NO_MORE = 2.0, 1.5
"""Answers that take so many times as long as usual."""

MANY_ERRORS, FEW_ERRORS = 0.10, 0.05
"""Shares of the requests that fail."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums of a run at one moment; they only grow.

    Attributes
    ----------
    finished : int
        Tasks that became done or failed.
    latency_us : int
        Of all answers, added up.
    held_back : bool
        Nobody can send just now: the server asked to wait, a schedule pauses, what is left waits for its retry.
    """

    at_s: float
    finished: int = 0
    bytes_fetched: int = 0
    requests: int = 0
    errors: int = 0
    answers: int = 0
    latency_us: int = 0
    unfinished: int = 0
    held_back: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """What was done between two moments.

    Attributes
    ----------
    error_share : float or None
        Of the requests; None where there were none.
    latency_ms : float or None
        Mean time to the first byte; None where nothing was answered.
    is_telling : bool
        There was work to do, and nobody was told to wait.
    is_plenty : bool
        There was work for everybody, so that it can be compared with what is usual.
    """

    seconds: float
    files_per_s: float
    bytes_per_s: float
    error_share: float | None
    latency_ms: float | None
    is_telling: bool
    is_plenty: bool = True


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that has been worse than usual for a while.

    Attributes
    ----------
    kind : str
        ``stalled``, ``slow``, ``late`` or ``errors``.
    """

    kind: str
    since_s: float
    words: str


def record_between(before: Totals, after: Totals) -> Record:
    """What was done between two moments."""
    seconds = max(after.at_s - before.at_s, 1e-9)
    requests, answers = after.requests - before.requests, after.answers - before.answers
    errors, latency_us = after.errors - before.errors, after.latency_us - before.latency_us
    return Record(
        seconds=seconds,
        files_per_s=(after.finished - before.finished) / seconds,
        bytes_per_s=(after.bytes_fetched - before.bytes_fetched) / seconds,
        error_share=errors / requests if requests > 0 else None,
        latency_ms=latency_us / answers / 1000 if answers > 0 else None,
        is_telling=before.unfinished > 0
        and after.unfinished > 0
        and not (before.held_back or after.held_back),
        is_plenty=min(before.unfinished, after.unfinished) >= PLENTY,
    )


@dataclass(frozen=True, slots=True)
class Usual:
    """What a run is used to: means over a long time, of records in which all was well.

    Attributes
    ----------
    records : int
        On which it rests.
    """

    files_per_s: float = 0.0
    bytes_per_s: float = 0.0
    latency_ms: float = 0.0
    records: int = 0

    @property
    def is_known(self) -> bool:
        """Whether it rests on enough."""
        return self.records >= USUAL_FROM

    def with_another(self, record: Record) -> Usual:
        """Take in one record."""
        weight = max(LEARNING, 1 / (self.records + 1))
        latency_ms = self.latency_ms if record.latency_ms is None else record.latency_ms
        return Usual(
            self.files_per_s + weight * (record.files_per_s - self.files_per_s),
            self.bytes_per_s + weight * (record.bytes_per_s - self.bytes_per_s),
            self.latency_ms + weight * (latency_ms - self.latency_ms),
            self.records + 1,
        )


@dataclass(frozen=True, slots=True)
class Doubt:
    """How near an alert is to its beginning or to its end."""

    bad: int = 0
    good: int = 0
    alert: Alert | None = None


class Performance:
    """Makes records of totals, and says what begins and what ends to be worse than usual.

    Parameters
    ----------
    first : Totals
        Where the first record begins.
    """

    def __init__(self, first: Totals) -> None:
        self._last = first
        self._lately: deque[Record] = deque(maxlen=AVERAGED)
        self._usual = Usual()
        self._doubts: dict[str, Doubt] = {kind: Doubt() for kind in KINDS}

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """What is worse than usual now."""
        return tuple(doubt.alert for doubt in self._doubts.values() if doubt.alert is not None)

    def relearn(self) -> None:
        """Something was changed on purpose, such as the profile: what was usual no longer is."""
        self._usual = Usual()
        self._doubts = {kind: Doubt() for kind in KINDS}

    def averages(self) -> Record | None:
        """The rolling averages; None before the first record."""
        if not self._lately:
            return None
        seconds = sum(record.seconds for record in self._lately)

        def mean(name: str) -> float | None:
            known = [
                (getattr(each, name), each.seconds)
                for each in self._lately
                if getattr(each, name) is not None
            ]
            return sum(value * s for value, s in known) / sum(s for _, s in known) if known else None

        return Record(
            seconds,
            mean("files_per_s") or 0.0,
            mean("bytes_per_s") or 0.0,
            mean("error_share"),
            mean("latency_ms"),
            all(record.is_telling for record in self._lately),
        )

    def take(self, totals: Totals) -> tuple[Record, tuple[Alert, ...], tuple[Alert, ...]]:
        """Make the next record.

        Returns
        -------
        tuple
            The record, the alerts that begin with it, and those that end.
        """
        record = record_between(self._last, totals)
        self._last = totals
        self._lately.append(record)
        before = self.alerts
        for kind, judged in judge(record, self._usual):
            self._doubts[kind] = weigh(self._doubts[kind], kind, judged, totals.at_s, record, self._usual)
        if record.is_telling and record.is_plenty and not self.alerts:
            self._usual = self._usual.with_another(record)
        now = self.alerts
        kinds_before, kinds_now = {each.kind for each in before}, {each.kind for each in now}
        begun = tuple(each for each in now if each.kind not in kinds_before)
        ended = tuple(each for each in before if each.kind not in kinds_now)
        return record, begun, ended


def judge(record: Record, usual: Usual) -> Iterator[tuple[str, bool | None]]:
    """For each kind of alert: whether a record speaks for it, against it, or (None) says nothing.

    Small files after large ones come faster and bring fewer bytes, so that only what is low in both is slow.
    """
    if not record.is_telling:
        yield from ((kind, None) for kind in ("stalled", "slow", "late"))
    else:
        yield "stalled", record.files_per_s == 0 and record.bytes_per_s == 0
        yield "slow", _is_slow(record, usual) if record.is_plenty else None
        yield (
            "late",
            _is_above(record.latency_ms, LATE_NO_MORE * usual.latency_ms, LATE * usual.latency_ms, usual),
        )
    if record.error_share is None:
        yield "errors", None
    elif record.error_share > MANY_ERRORS or record.error_share < FEW_ERRORS:
        yield "errors", record.error_share > MANY_ERRORS
    else:
        yield "errors", None


def _is_slow(record: Record, usual: Usual) -> bool | None:
    if not usual.is_known:
        return None
    shares = [
        now / then
        for now, then in (
            (record.files_per_s, usual.files_per_s),
            (record.bytes_per_s, usual.bytes_per_s),
        )
        if then > 0
    ]
    best = max(shares, default=1.0)
    return True if best < SLOW else False if best > SLOW_NO_MORE else None


def _is_above(value: float | None, low: float, high: float, usual: Usual) -> bool | None:
    if value is None or not usual.is_known or usual.latency_ms <= 0:
        return None
    return True if value > high else False if value < low else None


def weigh(doubt: Doubt, kind: str, judged: bool | None, at_s: float, record: Record, usual: Usual) -> Doubt:
    """Let an alert begin after some bad records in a row, and end after some good ones."""
    if judged is None:
        return doubt
    bad, good = (doubt.bad + 1, 0) if judged else (0, doubt.good + 1)
    if doubt.alert is None and bad >= BEGINS_AFTER:
        return Doubt(bad, good, Alert(kind, at_s, words_of(kind, record, usual)))
    if doubt.alert is not None and good >= ENDS_AFTER:
        return Doubt(bad, good, None)
    return replace(doubt, bad=bad, good=good)


def words_of(kind: str, record: Record, usual: Usual) -> str:
    """An alert in a sentence."""
    match kind:
        case "stalled":
            return "Nothing has been finished for a while, and nobody was told to wait"
        case "slow":
            return (
                f"Slower than usual: {record.files_per_s:.2g} files/s instead of {usual.files_per_s:.2g}, "
                f"{record.bytes_per_s / 1e6:.2g} MB/s instead of {usual.bytes_per_s / 1e6:.2g}"
            )
        case "late":
            return (
                f"CEDA takes longer than usual to answer: {record.latency_ms:.0f} ms instead of "
                f"{usual.latency_ms:.0f}"
            )
        case _:
            return f"Many requests fail: {record.error_share:.0%}"
