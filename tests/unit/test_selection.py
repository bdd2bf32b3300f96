"""Promises about selecting entries (M3) and about recording the selection (M7)."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from midasdl.errors import ExitCode, SelectionError, UsageError
from midasdl.models import FileInfo, Kind
from midasdl.selection import Selection

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


@pytest.mark.parametrize("info", [entry(), METADATA, OTHER], ids=["data", "station-metadata", "other"])
def test_m3_the_default_is_everything(info: FileInfo) -> None:
    """M3: without options every entry is wanted, whatever it is."""
    assert Selection().is_everything
    assert Selection().matches(info)
    assert Selection.parse(dataset=None, year=[]) == Selection()


@pytest.mark.parametrize(
    ("option", "yes", "no"),
    [
        pytest.param("dataset", "uk-daily-rain-obs", "daily-rain", id="dataset"),
        pytest.param("dataset", "*rain*", "*wind*", id="dataset-glob"),
        pytest.param("release", "202407", "202507", id="release"),
        pytest.param("release", "2024*", "2025*", id="release-glob"),
        pytest.param("qc", "1", "0", id="qc"),
        pytest.param("qc", 1, 0, id="qc-number"),
        pytest.param("qc", "*", "0", id="qc-glob"),
        pytest.param("county", "devon", "dev", id="county"),
        pytest.param("county", "DEVON", "KENT", id="county-capitals"),
        pytest.param("county", "d?v[a-o]n", "d?v[p-z]n", id="county-glob"),
        pytest.param("county", "[!k]*", "[!d]*", id="county-negated"),
        pytest.param("station", "00838", "00839", id="station-id"),
        pytest.param("station", "838", "83", id="station-id-unpadded"),
        pytest.param("station", 838, 8380, id="station-id-number"),
        pytest.param("station", "0838", "08380", id="station-id-half-padded"),
        pytest.param("station", "83?", "838?", id="station-id-glob"),
        pytest.param("station", "0083*", "0084*", id="station-id-padded-glob"),
        pytest.param("station", "bracknell-beaufort-park", "bracknell", id="station-name"),
        pytest.param("station", "Bracknell Beaufort Park", "Bracknell Park", id="station-name-as-spoken"),
        pytest.param("station", "bracknell*", "*cairnwell", id="station-name-glob"),
        pytest.param("station", "00838_bracknell-beaufort-park", "838_bracknell", id="station-folder"),
        pytest.param("year", "1992", "1993", id="year"),
        pytest.param("year", 1992, 1991, id="year-number"),
        pytest.param("year", "1992:2020", "1993:2020", id="year-range-begin"),
        pytest.param("year", "1900:1992", "1900:1991", id="year-range-end"),
        pytest.param("year", "1992:1992", "1993:1993", id="year-range-of-one"),
        pytest.param("year", "1992:", "1993:", id="year-from"),
        pytest.param("year", ":1992", ":1991", id="year-until"),
        pytest.param("year", "199?", "198?", id="year-glob"),
        pytest.param("year", "19*", "20*", id="century-glob"),
        pytest.param("kind", "data", "capability", id="kind"),
        pytest.param("kind", "DATA", "station-*", id="kind-glob"),
    ],
)
def test_m3_an_option_takes_and_leaves(option: str, yes: str | int, no: str | int) -> None:
    """M3: each option decides by its own field, with globs and without regard to case."""
    assert select({option: [yes]}).matches(entry())
    assert not select({option: [no]}).matches(entry())


def test_m3_case_does_not_matter_on_either_side() -> None:
    """M3: an entry in capitals is found as well."""
    shouted = entry(county="DEVON", station_name="TWIST")
    assert Selection.parse(county=["devon"], station=["tw*"]).matches(shouted)


def test_m3_values_of_one_option_widen() -> None:
    """M3: repeats of an option are alternatives."""
    selection = Selection.parse(county=["kent", "devon"], year=["1900", "1990:1995"])
    assert selection.matches(entry())
    assert selection.matches(entry(county="kent", year=1900))
    assert not selection.matches(entry(year=1901))


def test_m3_different_options_narrow() -> None:
    """M3: an entry must satisfy every option that is used."""
    assert Selection.parse(county=["devon"], qc=["1"]).matches(entry())
    assert not Selection.parse(county=["devon"], qc=["0"]).matches(entry())
    assert not Selection.parse(county=["kent"], qc=["1"]).matches(entry())


@pytest.mark.parametrize("option", ["county", "station", "year", "qc"])
def test_m3_a_file_without_the_field_is_not_matched(option: str) -> None:
    """M3: a station-metadata file has no county, so no pattern on counties takes it."""
    assert not select({option: ["1990:" if option == "year" else "*"]}).matches(METADATA)


def test_m3_other_files_are_taken_by_kind_alone() -> None:
    """M3, M4: kind `other` can be selected though it has no field."""
    assert Selection.parse(kind=["other"]).matches(OTHER)
    assert not Selection.parse(dataset=["*"]).matches(OTHER)


def test_m3_thousands_of_stations_are_one_question() -> None:
    """M3: a long list of plain names compiles to a set, not to a chain of patterns."""
    selection = Selection.parse(station=range(50_000))
    assert all(selection.matches(entry(station_id=f"{number:05d}")) for number in range(0, 50_000, 7))
    assert not selection.matches(entry(station_id="50000"))


# Parsing


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "90",
        "90:95",
        "1990-2020",
        "1990..2020",
        ":",
        "1990:20200",
        "19901",
        "1990,1991",
        "199x*",
        "1990:199?",
    ],
)
def test_m3_a_bad_year_shows_how_to_write_one(text: str) -> None:
    """M3: years that cannot be understood are errors that name the value."""
    with pytest.raises(UsageError) as caught:
        Selection.parse(year=[text])
    assert "--year" in caught.value.message
    assert text in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == ExitCode.USAGE


def test_m3_a_range_the_wrong_way_round_is_an_error() -> None:
    """M3: the hint turns the range round."""
    with pytest.raises(UsageError, match="ends before it begins") as caught:
        Selection.parse(year=["2020:1990"])
    assert caught.value.hint == "Write --year 1990:2020"


@pytest.mark.parametrize("value", ["2", "-1", "qc1", "01"])
def test_m3_an_unknown_qc_version_is_an_error(value: str) -> None:
    """M3: there are QC versions 0 and 1."""
    with pytest.raises(SelectionError, match=f"There is no QC version '{value}'") as caught:
        Selection.parse(qc=[value])
    assert caught.value.hint == "Known are: 0, 1."


@pytest.mark.parametrize(
    ("value", "near"),
    [
        ("datas", "'data'"),
        ("station_metadata", "'station-metadata'"),
        ("changelog", "'change-log'"),
        ("capabilities", "'capability'"),
        ("metadata", "'station-metadata'"),
    ],
)
def test_m3_an_unknown_kind_suggests_near_ones(value: str, near: str) -> None:
    """M3: a misspelt kind is an error with the name that was probably meant."""
    with pytest.raises(SelectionError) as caught:
        Selection.parse(kind=[value])
    assert f"There is no kind '{value}'. Did you mean {near}" in caught.value.message
    assert all(kind in str(caught.value.hint) for kind in Kind)


@pytest.mark.parametrize("option", ["dataset", "release", "qc", "county", "station", "year", "kind"])
@pytest.mark.parametrize("value", ["", "  "], ids=["empty", "spaces"])
def test_m3_an_empty_value_is_an_error(option: str, value: str) -> None:
    """M3: an unset shell variable never selects everything or nothing by accident."""
    with pytest.raises(UsageError, match=f"--{option} needs a value"):
        select({option: [value]})


def test_m3_a_single_text_is_one_value() -> None:
    """M3: a caller who forgets the list does not select by letters."""
    assert Selection.parse(county="devon") == Selection.parse(county=["devon"])


def test_m3_spelling_does_not_make_a_different_selection() -> None:
    """M3: case, spaces and repeats vanish on the way in."""
    assert Selection.parse(county=[" Greater  London ", "greater-london"]).counties == ("greater-london",)


# Recording


def test_m7_a_selection_survives_json_and_pickle() -> None:
    """M7: what the ledger records gives back the same selection."""
    selection = Selection.parse(
        county=["dev*"], year=["1990:", "1980"], qc=[1], kind=["data"], station=["838"]
    )
    recorded = json.loads(json.dumps(selection.to_dict()))
    assert recorded == {
        "qc": ["1"],
        "county": ["dev*"],
        "station": ["838"],
        "year": ["1990:", "1980"],
        "kind": ["data"],
    }
    for copy in (Selection.from_dict(recorded), pickle.loads(pickle.dumps(selection))):
        assert copy == selection
        assert hash(copy) == hash(selection)
        assert copy.matches(entry())


def test_m7_everything_is_recorded_as_nothing() -> None:
    """M7: the default has no options to record."""
    assert Selection().to_dict() == {}
    assert Selection.from_dict({}).is_everything


def test_m7_a_recorded_option_that_is_unknown_is_not_ignored() -> None:
    """M7: a selection of a newer midasdl is refused, never widened."""
    with pytest.raises(SelectionError, match="unknown option 'near'"):
        Selection.from_dict({"near": ["54.6,-5.9"]})


def test_m7_a_selection_is_frozen() -> None:
    """M7: what was recorded cannot change afterwards."""
    with pytest.raises(FrozenInstanceError):
        Selection().counties = ("devon",)  # type: ignore[misc]
