"""The contents of a synthetic archive's files: BADC-CSV that reads like MIDAS Open, and change logs. Pure.

Every file says that its values are made up; no two files with different places, years or datasets are alike.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

from midasdl.simulator.datasets import Dataset, Quantity
from midasdl.simulator.stations import Station

_DISCLAIMER = "These values are synthetic: made by midasdl for rehearsals and tests and not observed anywhere"
_POOL_ROWS = 257
_ID_COLUMNS = {
    "id": "station identifier",
    "id_type": "identifier type",
    "ob_hour_count": "Observation hour count",
    "version_num": "midas qc version number",
    "met_domain_name": "message type",
    "src_id": "unique source identifier or station site number",
    "rec_st_ind": "state indicator for the record",
    "ob_end_ctime": "Clock time at the end of the observation period",
    "ob_day_cnt": "Count of days in the observation period",
}
_METADATA_COLUMNS = (
    "src_id",
    "station_name",
    "station_file_name",
    "historic_county",
    "authority",
    "station_latitude",
    "station_longitude",
    "station_elevation",
    "first_year",
    "last_year",
)


class Years(NamedTuple):
    """The first and last year of a station in a dataset."""

    first: int
    last: int


class Edition:
    """What all files of one release share: version, dates, line ends and columns.

    Parameters
    ----------
    release : str
        ``YYYYMM``. Up to 201908 lines end in CR LF and metadata lacks the column ``authority``, as CEDA's do.
    """

    def __init__(self, release: str) -> None:
        self.release = release
        self.created = f"{release[:4]}-{release[4:]}-24"
        self._old = release <= "201908"

    def encode(self, lines: Iterable[str]) -> bytes:
        """Join lines as the edition ends them."""
        end = "\r\n" if self._old else "\n"
        return (end.join(lines) + end).encode("ascii")

    def global_lines(self, title: str, feature_type: str) -> list[str]:
        """Return the header rows with which every BADC-CSV file begins."""
        return [
            "Conventions,G,BADC-CSV,1",
            f"title,G,{title}",
            "source,G,midasdl simulator",
            "creator,G,midasdl simulator",
            f"comments,G,{_DISCLAIMER}",
            "activity,G,Met Office MIDAS Open: UK Land Surface Stations Data",
            f"feature_type,G,{feature_type}",
            "collection_name,G,midas-open",
            f"collection_version_number,G,dataset-version-{self.release}",
            f"history,G,Created {self.created}",
            f"last_revised_date,G,{self.created}",
        ]

    @cached_property
    def metadata_columns(self) -> tuple[str, ...]:
        """The columns of a station-metadata file."""
        return tuple(name for name in _METADATA_COLUMNS if not (self._old and name == "authority"))


class DataWriter:
    """Writes the station-years of one dataset."""

    def __init__(self, dataset: Dataset, edition: Edition, seed: int) -> None:
        self.dataset = dataset
        self._edition = edition
        chance = random.Random(f"rows {seed} {dataset.name}")  # noqa: S311 - chance that can be repeated
        self._tails = [_row_tail(dataset, chance) for _ in range(_POOL_ROWS)]
        self._columns = _columns(dataset)
        self._stamps = _stamps(hourly=dataset.hourly)
        self._column_lines = _column_lines(dataset)

    def write(self, station: Station, qc: int, year: int, size_bytes: float, chance: random.Random) -> bytes:
        """Return a file of about `size_bytes`; with at least one row it may be larger."""
        head = [*self._head(station, qc, year), *self._column_lines, "data", self._columns]
        lead = self._lead(station, qc)
        row_bytes = 21 + len(lead) + sum(map(len, self._tails)) / len(self._tails)
        rows = max(1, round((size_bytes - sum(len(line) + 1 for line in head)) / row_bytes))
        return self._edition.encode([*head, *self._rows(year, lead, rows, chance), "end data"])

    def _head(self, station: Station, qc: int, year: int) -> list[str]:
        return [
            *self._edition.global_lines(self.dataset.name, "point series"),
            f"observation_station,G,{station.name}",
            f"historic_county_name,G,{station.county}",
            "authority,G,midasdl simulator",
            f"midas_station_id,G,{station.src_id:05}",
            f"location,G,{station.latitude},{station.longitude}",
            f"height,G,{station.elevation_m},m",
            f"date_valid,G,{year}-01-01 00:00:00,{year}-12-31 23:59:59",
            f"midas_qc_version_number,G,{qc}",
            "comments,G,This file contains station observations",
            "comments,G,missing values are identified with the missing data flag",
            "missing_value,G,NA",
        ]

    def _lead(self, station: Station, qc: int) -> str:
        values = {
            **self.dataset.constants,
            "id": str(100_000 + station.src_id),
            "src_id": str(station.src_id),
            "version_num": str(qc),
        }
        return ",".join(values[name] for name in self.dataset.lead)

    def _rows(self, year: int, lead: str, rows: int, chance: random.Random) -> list[str]:
        per_stamp = -(-rows // len(self._stamps))
        count = -(-rows // per_stamp)
        first = chance.randrange(len(self._stamps) - count + 1)
        stamps, tails = self._stamps[first:], self._tails
        offset = chance.randrange(len(tails))
        return [
            f"{year}{stamps[row // per_stamp]},{lead},{tails[(offset + row) % len(tails)]}"
            for row in range(rows)
        ]


def capability(dataset: Dataset, edition: Edition, station: Station, years: Years) -> bytes:
    """Return a station's capability file."""
    return edition.encode(
        [
            *edition.global_lines(
                f"Midas Open: Station capability information for {dataset.name}", "point collection"
            ),
            f"observation_station,G,{station.name}",
            f"historic_county_name,G,{station.county}",
            "authority,G,midasdl simulator",
            f"src_id,G,{station.src_id:05}",
            f"location,G,{station.latitude},{station.longitude}",
            f"height,G,{station.elevation_m},m",
            f"date_valid,G,{years.first}-01-01 00:00:00,{years.last}-12-31 23:59:59",
            "coordinate_variable,id,x",
            "long_name,id,The identifier associated with a particular report type for this station,1",
            "type,id,int",
            "long_name,id_type,The identifier type of this station,1",
            "type,id_type,char",
            "long_name,met_domain_name,message type,1",
            "type,met_domain_name,char",
            "long_name,first_year,first year of data of this id in this version of this dataset,year",
            "type,first_year,float",
            "long_name,last_year,last year of data of this id in this version of this dataset,year",
            "type,last_year,float",
            "data",
            "id,id_type,met_domain_name,first_year,last_year",
            f"{100_000 + station.src_id},{dataset.constants['id_type']},"
            f"{dataset.constants['met_domain_name']},{years.first},{years.last}",
            "end data",
        ]
    )


def station_metadata(dataset: Dataset, edition: Edition, stations: dict[Station, Years]) -> bytes:
    """Return a dataset's table of stations."""
    columns = edition.metadata_columns
    described = [f"long_name,{name},{name.replace('_', ' ')},1" for name in columns]
    rows = [
        ",".join(_metadata_row(station, years)[name] for name in columns)
        for station, years in sorted(stations.items(), key=lambda item: item[0].src_id)
    ]
    head = edition.global_lines(f"Midas Open: Station metadata for {dataset.name}", "point collection")
    return edition.encode([*head, *described, "data", ",".join(columns), *rows, "end data"])


def change_log(dataset: Dataset, edition: Edition, stations: int) -> bytes:
    """Return a dataset's change log."""
    return edition.encode(
        [
            f"Change log for {dataset.name}, dataset-version-{edition.release}",
            "",
            _DISCLAIMER + ".",
            f"{edition.created}: {stations} stations were generated.",
        ]
    )


def station_log(dataset: Dataset, edition: Edition, station: Station, qc: int, year: int) -> bytes:
    """Return the change log of one station-year."""
    return edition.encode(
        [
            f"Changes to {dataset.name}, {station.county}, {station.label}, qc-version-{qc}, {year}",
            f"dataset-version-{edition.release}",
            f"< {year}-01-01 09:00:00,{station.src_id},NA",
            f"> {year}-01-01 09:00:00,{station.src_id},0.2",
        ]
    )


def _metadata_row(station: Station, years: Years) -> dict[str, str]:
    values = (
        str(station.src_id),
        station.name.replace("-", " ").upper(),
        station.name,
        station.county,
        "midasdl simulator",
        str(station.latitude),
        str(station.longitude),
        str(station.elevation_m),
        str(years.first),
        str(years.last),
    )
    return dict(zip(_METADATA_COLUMNS, values, strict=True))


def _stamps(*, hourly: bool) -> list[str]:
    days = [
        f"-{month:02}-{day:02}"
        for month, days in enumerate((31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), start=1)
        for day in range(1, days + 1)
    ]
    return [f"{day} {hour:02}:00:00" for day in days for hour in (range(24) if hourly else (9,))]


def _columns(dataset: Dataset) -> str:
    names = [quantity.name for quantity in dataset.quantities]
    suffixes = ("_q", "_j") if dataset.flags else ("_q",)
    flags = [name + suffix for suffix in suffixes for name in names]
    return ",".join(
        [dataset.time_column, *dataset.lead, *names, *flags, "meto_stmp_time", "midas_stmp_etime"]
    )


def _row_tail(dataset: Dataset, chance: random.Random) -> str:
    values = [_value(quantity, chance) for quantity in dataset.quantities]
    flags = ["0" if value == "NA" else "9" for value in values]
    descriptors = ["NA"] * len(values) if dataset.flags else []
    return ",".join([*values, *flags, *descriptors, "NA", "NA"])


def _value(quantity: Quantity, chance: random.Random) -> str:
    if chance.random() < quantity.missing_share:
        return "NA"
    return f"{chance.uniform(quantity.low, quantity.high):.{quantity.decimals}f}"


def _column_lines(dataset: Dataset) -> list[str]:
    time = dataset.time_column
    lines = [
        f"coordinate_variable,{time},t",
        f"long_name,{time},Date and time of observation,s",
        f"type,{time},char",
    ]
    for name in dataset.lead:
        lines += [f"long_name,{name},{_ID_COLUMNS[name]},1", f"type,{name},char"]
    for quantity in dataset.quantities:
        lines += [
            f"long_name,{quantity.name},{quantity.long_name},{quantity.unit}",
            f"type,{quantity.name},float",
        ]
        lines += [
            f"long_name,{quantity.name}_q,QC code: {quantity.long_name},1",
            f"type,{quantity.name}_q,int",
        ]
        if dataset.flags:
            lines.append(f"long_name,{quantity.name}_j,Descriptor: {quantity.long_name},1")
    lines.append("long_name,meto_stmp_time,Met Office receipt stamp time,s")
    lines.append("long_name,midas_stmp_etime,Elapsed time to storage in MIDAS,minutes")
    return lines
