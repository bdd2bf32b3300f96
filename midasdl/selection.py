"""Which entries of a manifest are wanted: a frozen value that says yes or no to a `FileInfo`.

Different options narrow each other, values of the same option widen it: ``--county devon --county kent
--year 1990:`` takes the files of both counties from 1990 on. A file that lacks a field never matches an
option on it: a station-metadata file has no county, so any ``--county`` leaves it out. Without options
everything is wanted.

Values are globs (``*``, ``?``, ``[...]``) without regard to case; spaces stand for the archive's hyphens.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from midasdl.errors import SelectionError, UsageError
from midasdl.models import FileInfo, Kind

MAX_NAMES = 20_000
"""Distinct names that `NearNames` keeps of each option; MIDAS Open has some thousand stations."""

_LISTED_NAMES = 12
_SUGGESTIONS = 3
_YEARS = range(10_000)
_YEAR_RANGE = re.compile(r"([0-9]{4})?:([0-9]{4})?")
_YEAR_GLOB = re.compile(r"[0-9*?\[\]!-]+")
_QC_VERSIONS = ("0", "1")

_Accepts = Callable[[FileInfo], bool]


@dataclass(frozen=True)
class Selection:
    """What is wanted; build it with `parse`.

    Attributes
    ----------
    datasets, releases, counties : tuple of str
        Globs on the field of that name.
    qc : tuple of str
        ``0``, ``1`` or a glob that means some of them.
    stations : tuple of str
        Globs on the id (``00838`` or ``838``), on the name, or on the folder (``00838_bracknell``).
    years : tuple of str
        ``1990``, ``1990:2020``, ``1990:``, ``:2020`` (both ends included) or a glob such as ``199?``.
    kinds : tuple of str
        Names of `Kind`, or globs that mean some of them.

    Raises
    ------
    UsageError
        A value cannot be understood.
    SelectionError
        A value names a QC version or a kind that does not exist.
    """

    datasets: tuple[str, ...] = ()
    releases: tuple[str, ...] = ()
    qc: tuple[str, ...] = ()
    counties: tuple[str, ...] = ()
    stations: tuple[str, ...] = ()
    years: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    _tests: tuple[_Accepts, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tests = (option.compile(option.values(self)) for option in _OPTIONS if option.values(self))
        object.__setattr__(self, "_tests", tuple(tests))

    def __reduce__(
        self,
    ) -> tuple[Callable[[Mapping[str, Iterable[str]]], Selection], tuple[dict[str, list[str]]]]:
        return Selection.from_dict, (self.to_dict(),)

    @classmethod
    def parse(
        cls,
        *,
        dataset: Iterable[str | int] | None = None,
        release: Iterable[str | int] | None = None,
        qc: Iterable[str | int] | None = None,
        county: Iterable[str | int] | None = None,
        station: Iterable[str | int] | None = None,
        year: Iterable[str | int] | None = None,
        kind: Iterable[str | int] | None = None,
    ) -> Selection:
        """Build a selection from what a person typed, option by option.

        Raises
        ------
        UsageError
            A value cannot be understood.
        SelectionError
            A value names a QC version or a kind that does not exist.
        """
        return cls(
            datasets=_patterns("dataset", dataset),
            releases=_patterns("release", release),
            qc=_patterns("qc", qc),
            counties=_patterns("county", county),
            stations=_patterns("station", station),
            years=_patterns("year", year),
            kinds=_patterns("kind", kind),
        )

    @classmethod
    def from_dict(cls, recorded: Mapping[str, Iterable[str]]) -> Selection:
        """Build the selection that `to_dict` described."""
        unknown = sorted(set(recorded) - {option.name for option in _OPTIONS})
        if unknown:
            raise SelectionError(f"The recorded selection has an unknown option '{unknown[0]}'.")
        return cls.parse(**recorded)

    def to_dict(self) -> dict[str, list[str]]:
        """Describe the selection in plain JSON types, by option name; unused options are left out."""
        return {option.name: list(option.values(self)) for option in _OPTIONS if option.values(self)}

    @property
    def is_everything(self) -> bool:
        """Whether no option narrows the selection."""
        return not self._tests

    def matches(self, info: FileInfo) -> bool:
        """Tell whether a file is wanted."""
        for accepts in self._tests:  # noqa: SIM110 - all() with a generator takes twice the time
            if not accepts(info):
                return False
        return True


class NearNames:
    """What a manifest offers for the options of a selection, collected while it streams by.

    Feed it every entry until one matches the selection; afterwards it is of no use. Memory is bounded by
    `MAX_NAMES` for each option.

    Parameters
    ----------
    selection : Selection
        Only its options are watched.
    """

    def __init__(self, selection: Selection) -> None:
        self.names: dict[str, set[str]] = {}
        self.matched: set[str] = set()
        self._watched = [
            (option, option.compile(option.values(selection)), self.names.setdefault(option.name, set()))
            for option in _OPTIONS
            if option.values(selection)
        ]

    def add(self, info: FileInfo) -> None:
        """Remember the names of one entry, and which options it satisfies alone."""
        for option, accepts, names in self._watched:
            if len(names) < MAX_NAMES:
                names.update(option.names(info))
            if option.name not in self.matched and accepts(info):
                self.matched.add(option.name)


def explain_no_match(selection: Selection, seen: NearNames) -> SelectionError:
    """Say why no entry matches, and what the person may have meant.

    Parameters
    ----------
    selection : Selection
        One that is not everything.
    seen : NearNames
        Fed with the whole manifest.

    Returns
    -------
    SelectionError
        To be raised by the caller.
    """
    used = [option for option in _OPTIONS if option.values(selection)]
    missed = [option for option in used if option.name not in seen.matched]
    if missed:
        sentences = [
            _explain_miss(option, option.values(selection), seen.names[option.name]) for option in missed
        ]
        return SelectionError(
            " ".join(sentences), "Names are those of the archive's folders; * and ? are wildcards."
        )
    wanted = _join(
        [f"--{option.name} {value}" for option in used for value in option.values(selection)], "and"
    )
    return SelectionError(
        f"Every option matches some files, but no file matches all of them: {wanted}.",
        "Leave one out. An option never matches a file that lacks its field: station-metadata has no county.",
    )


class _Option(NamedTuple):
    """One option of the command line: where its values are kept, and what they are compared with."""

    name: str
    attribute: str
    label: str
    names: Callable[[FileInfo], tuple[str, ...]]
    compile: Callable[[tuple[str, ...]], _Accepts]

    def values(self, selection: Selection) -> tuple[str, ...]:
        values: tuple[str, ...] = getattr(selection, self.attribute)
        return values


class _Globs:
    """Several patterns as one question; thousands of plain names cost no more than one."""

    def __init__(self, patterns: Iterable[str]) -> None:
        lowered = {pattern.lower() for pattern in patterns}
        self._plain = frozenset(pattern for pattern in lowered if not _is_glob(pattern))
        globs = sorted(lowered - self._plain)
        self._match = re.compile("|".join(map(fnmatch.translate, globs))).match if globs else None

    def accept(self, text: str) -> bool:
        lowered = text.lower()
        return lowered in self._plain or (self._match is not None and self._match(lowered) is not None)


def _compile_text(read: Callable[[FileInfo], str | None]) -> Callable[[tuple[str, ...]], _Accepts]:
    """Make the compiler of an option whose field is text."""

    def compile_patterns(patterns: tuple[str, ...]) -> _Accepts:
        accept = _Globs(patterns).accept

        def accepts(info: FileInfo) -> bool:
            text = read(info)
            return text is not None and accept(text)

        return accepts

    return compile_patterns


def _compile_stations(patterns: tuple[str, ...]) -> _Accepts:
    accept = _Globs(patterns).accept
    numbers = frozenset(_unpadded(pattern) for pattern in patterns if pattern.isdecimal())

    def accepts(info: FileInfo) -> bool:
        station_id, name = info.station_id, info.station_name
        if station_id is None or name is None:
            return False
        number = _unpadded(station_id)
        return number in numbers or any(map(accept, (number, station_id, name, f"{station_id}_{name}")))

    return accepts


def _compile_years(patterns: tuple[str, ...]) -> _Accepts:
    years = frozenset(year for pattern in patterns for year in _years(pattern))
    return lambda info: info.year in years


def _compile_qc(patterns: tuple[str, ...]) -> _Accepts:
    versions = frozenset(int(version) for version in _chosen("QC version", patterns, _QC_VERSIONS))
    return lambda info: info.qc_version in versions


def _compile_kinds(patterns: tuple[str, ...]) -> _Accepts:
    kinds = frozenset(Kind(name) for name in _chosen("kind", patterns, tuple(Kind)))
    return lambda info: info.kind in kinds


_OPTIONS = (
    _Option(
        "dataset", "datasets", "dataset", lambda i: _present(i.dataset), _compile_text(lambda i: i.dataset)
    ),
    _Option(
        "release", "releases", "release", lambda i: _present(i.release), _compile_text(lambda i: i.release)
    ),
    _Option("qc", "qc", "QC version", lambda i: _present(i.qc_version), _compile_qc),
    _Option("county", "counties", "county", lambda i: _present(i.county), _compile_text(lambda i: i.county)),
    _Option(
        "station", "stations", "station", lambda i: _present(i.station_id, i.station_name), _compile_stations
    ),
    _Option("year", "years", "year", lambda i: _present(i.year), _compile_years),
    _Option("kind", "kinds", "kind", lambda i: _present(i.kind), _compile_kinds),
)


def _present(*values: str | int | None) -> tuple[str, ...]:
    return tuple(str(value) for value in values if value is not None)


def _unpadded(station_id: str) -> str:
    return station_id.lstrip("0") or "0"


def _is_glob(pattern: str) -> bool:
    return any(character in pattern for character in "*?[")


def _patterns(option: str, values: Iterable[str | int] | None) -> tuple[str, ...]:
    """Bring what was typed into the archive's spelling: lower case, hyphens for spaces, each value once."""
    if values is None:
        return ()
    if isinstance(values, str):
        values = (values,)
    patterns = tuple(dict.fromkeys("-".join(str(value).lower().split()) for value in values))
    if "" in patterns:
        raise UsageError(f"--{option} needs a value.", f"Leave --{option} out to select everything.")
    return patterns


def _years(pattern: str) -> Iterable[int]:
    """List the years that a range or a glob means."""
    limits = _YEAR_RANGE.fullmatch(pattern)
    if limits and pattern != ":":
        first, last = int(limits[1] or 0), int(limits[2] or _YEARS[-1])
        if first > last:
            raise UsageError(f"--year {pattern} ends before it begins.", f"Write --year {last}:{first}")
        return range(first, last + 1)
    if _YEAR_GLOB.fullmatch(pattern) and (_is_glob(pattern) or len(pattern) == 4):
        accept = _Globs([pattern]).accept
        return [year for year in _YEARS if accept(f"{year:04d}")]
    hint = "Write --year 1990, 1990:2020, 1990: or :2020"
    raise UsageError(f"--year '{pattern}' is neither a year nor a range of years.", hint)


def _chosen(label: str, patterns: tuple[str, ...], choices: tuple[str, ...]) -> set[str]:
    """Expand globs over a fixed set of names; each must mean at least one of them."""
    chosen = set()
    for pattern in patterns:
        meant = [choice for choice in choices if _Globs([pattern]).accept(choice)]
        if not meant:
            near = _near([pattern], choices)
            advice = f" Did you mean {_quoted(near)}?" if near else ""
            raise SelectionError(
                f"There is no {label} '{pattern}'.{advice}", f"Known are: {', '.join(choices)}."
            )
        chosen.update(meant)
    return chosen


def _explain_miss(option: _Option, patterns: tuple[str, ...], names: set[str]) -> str:
    """Say in a sentence or two that an option matches nothing, and what there is instead."""
    sentence = f"No {option.label} matches {_quoted(patterns)}."
    near = [] if option.name == "year" else _near(patterns, names)
    if not names:
        return f"{sentence} No file of the manifest has a {option.label}."
    if near:
        return f"{sentence} Did you mean {_quoted(near)}?"
    if option.name == "year":
        return f"{sentence} The manifest has years from {min(names)} to {max(names)}."
    if len(names) <= _LISTED_NAMES:
        return f"{sentence} The manifest has {_join(sorted(names), 'and')}."
    return f"{sentence} The manifest has {len(names):,} others, such as '{min(names)}'."


def _near(patterns: Iterable[str], names: Iterable[str]) -> list[str]:
    """Find the names most like the patterns: those that contain one first, then those spelt alike."""
    ordered = sorted(names)
    near: dict[str, None] = {}
    for pattern in patterns:
        core = pattern.translate({ord(c): None for c in "*?[]!"}).strip("-")
        if len(core) > 1:
            near.update(dict.fromkeys([name for name in ordered if core in name][:_SUGGESTIONS]))
        near.update(dict.fromkeys(difflib.get_close_matches(core, ordered, _SUGGESTIONS)))
    return list(near)[:_SUGGESTIONS]


def _quoted(values: Iterable[str]) -> str:
    return _join([f"'{value}'" for value in values], "or")


def _join(values: list[str], last_word: str) -> str:
    *others, last = values
    return f"{', '.join(others)} {last_word} {last}" if others else last
