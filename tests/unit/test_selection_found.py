"""M3: what a selection finds, why it finds nothing, and a naive model of it."""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midasdl.errors import ExitCode, UsageError
from midasdl.models import FileInfo, Kind
from midasdl.selection import MAX_NAMES, NearNames, Selection, explain_no_match

Options = Mapping[str, Iterable[str | int]]


def entry(**changes: Any) -> FileInfo:
    """Make one station-year; `changes` replace its fields."""
    usual = FileInfo(
        md5="0" * 32,
        path="data/x.csv",
        file_name="x.csv",
        dataset="uk-daily-rain-obs",
        release="202407",
        county="devon",
        station_id="00838",
        station_name="bracknell-beaufort-park",
        qc_version=1,
        year=1992,
        kind=Kind.DATA,
        line_no=1,
    )
    return usual._replace(**changes)


METADATA = entry(
    county=None, station_id=None, station_name=None, qc_version=None, year=None, kind=Kind.STATION_METADATA
)
OTHER = METADATA._replace(dataset=None, release=None, kind=Kind.OTHER)


def select(options: Options) -> Selection:
    return Selection.parse(**options)


# Matching


# Explaining


COUNTIES = ("devon", "greater-london", "kent", "argyll-in-strathclyde-region")
MANIFEST = [
    *(entry(county=county, year=year) for county in COUNTIES for year in (1980, 1992)),
    entry(county="cornwall", station_id="01381", station_name="twist", qc_version=0),
    METADATA,
]


def explanation(options: Options, infos: Iterable[FileInfo] = MANIFEST) -> str:
    selection = select(options)
    seen = NearNames(selection)
    for info in infos:
        assert not selection.matches(info)
        seen.add(info)
    error = explain_no_match(selection, seen)
    assert error.hint
    assert error.exit_code == ExitCode.USAGE
    return error.message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"county": ["devonn"]}, "No county matches 'devonn'. Did you mean 'devon'?", id="typo"),
        pytest.param(
            {"county": ["london"]}, "No county matches 'london'. Did you mean 'greater-london'?", id="part"
        ),
        pytest.param({"county": ["knt*"]}, "No county matches 'knt*'. Did you mean 'kent'?", id="glob"),
        pytest.param(
            {"county": ["devonn", "knt"]},
            "No county matches 'devonn' or 'knt'. Did you mean 'devon' or 'kent'?",
            id="two-typos",
        ),
        pytest.param(
            {"county": ["zzz"]},
            "No county matches 'zzz'. "
            "The manifest has argyll-in-strathclyde-region, cornwall, devon, greater-london and kent.",
            id="nothing-near",
        ),
        pytest.param(
            {"station": ["1831"]}, "No station matches '1831'. Did you mean '01381'?", id="station-id"
        ),
        pytest.param(
            {"station": ["twits"]}, "No station matches 'twits'. Did you mean 'twist'?", id="station-name"
        ),
        pytest.param(
            {"dataset": ["uk-rain-obs"]},
            "No dataset matches 'uk-rain-obs'. Did you mean 'uk-daily-rain-obs'?",
            id="dataset",
        ),
        pytest.param(
            {"release": ["202507"]}, "No release matches '202507'. Did you mean '202407'?", id="release"
        ),
        pytest.param(
            {"year": ["2050:"]},
            "No year matches '2050:'. The manifest has years from 1980 to 1992.",
            id="year",
        ),
        pytest.param(
            {"kind": ["change-log"]},
            "No kind matches 'change-log'. The manifest has data and station-metadata.",
            id="kind",
        ),
        pytest.param(
            {"county": ["devonn"], "year": ["1992"], "dataset": ["wind"]},
            "No dataset matches 'wind'. The manifest has uk-daily-rain-obs. "
            "No county matches 'devonn'. Did you mean 'devon'?",
            id="only-the-guilty",
        ),
        pytest.param(
            {"county": ["cornwall"], "year": ["1980"]},
            "Every option matches some files, but no file matches all of them: "
            "--county cornwall and --year 1980.",
            id="not-together",
        ),
        pytest.param(
            {"county": ["devon"], "kind": ["station-metadata"]},
            "Every option matches some files, but no file matches all of them: "
            "--county devon and --kind station-metadata.",
            id="field-missing",
        ),
    ],
)
def test_m3_nothing_found_is_explained(options: dict[str, list[str]], message: str) -> None:
    """M3: an empty selection names the option to blame and what was probably meant."""
    assert explanation(options) == message


def test_m3_no_field_at_all_is_explained() -> None:
    """M3: a manifest of unknown files has no counties to suggest."""
    expected = "No county matches 'devon'. No file of the manifest has a county."
    assert explanation({"county": ["devon"]}, [OTHER]) == expected


def test_m3_many_unlike_names_are_not_listed() -> None:
    """M3: the explanation stays one sentence among thousands of stations."""
    infos = [entry(station_id=f"{number:05d}", station_name=f"place-{number}") for number in range(1_000)]
    message = explanation({"station": ["zzz"]}, infos)
    assert message == "No station matches 'zzz'. The manifest has 2,000 others, such as '00000'."


def test_m3_near_names_are_bounded() -> None:
    """M3: a hostile manifest cannot fill the memory through suggestions."""
    seen = NearNames(Selection.parse(station=["zzz"]))
    for number in range(MAX_NAMES):
        seen.add(entry(station_id=f"{number:05d}", station_name=f"place-{number}"))
    assert MAX_NAMES <= len(seen.names["station"]) <= MAX_NAMES + 1


def test_m3_a_match_is_noticed_after_the_names_are_full() -> None:
    """M3: the bound on names never turns a match into a miss."""
    seen = NearNames(Selection.parse(station=["twist"]))
    for number in range(MAX_NAMES):
        seen.add(entry(station_id=f"{number:05d}", station_name=f"place-{number}"))
    seen.add(entry(station_name="twist"))
    assert seen.matched == {"station"}


# Properties

WORDS = st.sampled_from(["devon", "kent", "devon-east", "kent-1", "a", "838"])
GLOBS = st.one_of(WORDS, st.text(alphabet="devonktDK-*?[]!^&~|18", min_size=1, max_size=6))
OPTIONAL_WORD = st.none() | WORDS
INFOS = st.builds(
    lambda dataset, county, station, qc, year, kind: entry(
        dataset=dataset,
        county=county,
        station_id=station and station[0],
        station_name=station and station[1],
        qc_version=qc,
        year=year,
        kind=kind,
    ),
    OPTIONAL_WORD,
    OPTIONAL_WORD,
    st.none() | st.tuples(st.sampled_from(["00001", "00838", "83800", "00000"]), WORDS),
    st.sampled_from([None, 0, 1]),
    st.none() | st.integers(1985, 2000),
    st.sampled_from(Kind),
)
YEAR = st.integers(1985, 2000)
YEAR_RANGES = st.one_of(
    YEAR.map(str),
    YEAR.map("{}:".format),
    YEAR.map(":{}".format),
    st.tuples(YEAR, YEAR).map(lambda ends: f"{min(ends)}:{max(ends)}"),
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "dataset": st.lists(GLOBS, max_size=2),
        "county": st.lists(GLOBS, max_size=2),
        "station": st.lists(GLOBS | st.sampled_from(["1", "838", "0838", "0"]), max_size=2),
        "qc": st.lists(st.sampled_from("01"), max_size=2),
        "year": st.lists(YEAR_RANGES, max_size=2),
        "kind": st.lists(st.sampled_from(Kind).map(str), max_size=2),
    },
)


def naive_text(text: str | None, patterns: list[str]) -> bool:
    return text is not None and any(
        fnmatch.fnmatchcase(text.lower(), pattern.lower()) for pattern in patterns
    )


def naive_station(info: FileInfo, patterns: list[str]) -> bool:
    if info.station_id is None:
        return False
    numbers = [int(pattern) for pattern in patterns if pattern.isdecimal()]
    texts = (
        info.station_id,
        str(int(info.station_id)),
        info.station_name,
        f"{info.station_id}_{info.station_name}",
    )
    return int(info.station_id) in numbers or any(naive_text(text, patterns) for text in texts)


def naive_year(year: int | None, patterns: list[str]) -> bool:
    def inside(pattern: str) -> bool:
        first, colon, last = pattern.partition(":")
        if not colon:
            return year == int(first)
        return int(first or 0) <= (year or 0) <= int(last or 9999)

    return year is not None and any(map(inside, patterns))


def naive_matches(options: dict[str, list[str]], info: FileInfo) -> bool:
    """The specification, read aloud."""
    answers = {
        "dataset": lambda patterns: naive_text(info.dataset, patterns),
        "county": lambda patterns: naive_text(info.county, patterns),
        "station": lambda patterns: naive_station(info, patterns),
        "qc": lambda patterns: str(info.qc_version) in patterns,
        "year": lambda patterns: naive_year(info.year, patterns),
        "kind": lambda patterns: info.kind in patterns,
    }
    return all(answers[name](patterns) for name, patterns in options.items() if patterns)


@given(OPTIONS, st.lists(INFOS, max_size=8))
@settings(max_examples=300)
def test_m3_matching_equals_a_naive_model(options: dict[str, list[str]], infos: list[FileInfo]) -> None:
    """M3: the compiled selection decides as the sentence in the specification does."""
    selection = Selection.parse(**options)
    assert [selection.matches(info) for info in infos] == [naive_matches(options, info) for info in infos]
    assert Selection.from_dict(selection.to_dict()) == selection


@given(
    st.dictionaries(
        st.sampled_from(["dataset", "release", "qc", "county", "station", "year", "kind"]),
        st.lists(st.text(max_size=8), max_size=3),
    )
)
def test_m3_any_text_is_a_selection_or_a_usage_error(options: dict[str, list[str]]) -> None:
    """M3: nothing that can be typed gives a traceback or a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            selection = Selection.parse(**options)
        except UsageError:
            return
        selection.matches(entry())
        seen = NearNames(selection)
        seen.add(METADATA)
    if not selection.is_everything and not seen.matched:
        assert explain_no_match(selection, seen).message


@given(OPTIONS, st.lists(INFOS, max_size=8))
def test_m3_an_explanation_blames_exactly_the_options_without_a_match(
    options: dict[str, list[str]], infos: list[FileInfo]
) -> None:
    """M3: an option is blamed if and only if alone it matches nothing."""
    selection = Selection.parse(**options)
    seen = NearNames(selection)
    for info in infos:
        seen.add(info)
    used = {name: patterns for name, patterns in options.items() if patterns}
    guilty = {n for n, p in used.items() if not any(naive_matches({n: p}, info) for info in infos)}
    assert set(used) - seen.matched == guilty
