"""The archive that is made: true layout, all kinds of path, duplicates."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from midasdl.errors import ConfigurationError, StorageError
from midasdl.models import Kind
from midasdl.simulator.archive import choose_sources, make_archive
from midasdl.simulator.datasets import DATASETS
from midasdl.simulator.plan import PlannedFile, plan_files
from midasdl.simulator.stations import Gazetteer

REPOSITORY = Path(__file__).resolve().parents[2]


SHAPES = {
    Kind.DATA: r"(?P<county>[a-z0-9-]+)/(?P<station>\d{5}_[a-z0-9-]+)/qc-version-(?P<q>[01])/"
    r"{stem}_(?P=county)_(?P=station)_qcv-(?P=q)_\d{4}\.csv",
    Kind.CAPABILITY: r"(?P<county>[a-z0-9-]+)/(?P<station>\d{5}_[a-z0-9-]+)/"
    r"{stem}_(?P=county)_(?P=station)_capability\.csv",
    Kind.STATION_METADATA: r"{stem}_station-metadata\.csv",
    Kind.CHANGE_LOG: r"{stem}_change_log\.txt",
    Kind.STATION_LOG: r"change_log_station_files/{stem}_[a-z0-9-]+_\d{5}_[a-z0-9-]+_qcv-[01]_\d{4}\.txt",
}


def kind_of(path: str) -> tuple[str, Kind]:
    found = re.fullmatch(r"\./data/([a-z-]+)/dataset-version-(\d{6})/(.+)", path)
    assert found is not None, path
    dataset, release, rest = found.groups()
    stem = f"midas-open_{dataset}_dv-{release}"
    kinds = [kind for kind, shape in SHAPES.items() if re.fullmatch(shape.replace("{stem}", stem), rest)]
    assert len(kinds) == 1, path
    return dataset, kinds[0]


def manifest_lines(manifest: Path) -> list[tuple[str, str]]:
    lines = manifest.read_bytes().decode("ascii").splitlines()
    assert all(re.fullmatch(r"[0-9a-f]{32}  \./data/.+", line) for line in lines)
    return [(line[:32], line[34:]) for line in lines]


def table_of(place: Path) -> list[dict[str, str]]:
    """Read the table of a BADC-CSV file, holding it to its columns."""
    rows = list(csv.reader(io.StringIO(place.read_bytes().decode("ascii"))))
    start, end = rows.index(["data"]), rows.index(["end data"])
    assert rows[0] == ["Conventions", "G", "BADC-CSV", "1"]
    assert end == len(rows) - 1
    return [dict(zip(rows[start + 1], row, strict=True)) for row in rows[start + 2 : end]]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_archive(tmp_path_factory.mktemp("archive"), 400, seed=3)


class TestArchive:
    @pytest.mark.parametrize("files", [1, 7, 39, 40, 41, 333])
    def test_it_has_exactly_as_many_files_as_asked_for(self, tmp_path: Path, files: int) -> None:
        manifest = make_archive(tmp_path, files, mean_kb=4)
        listed = {path for _, path in manifest_lines(manifest)}
        present = {
            f"./{place.relative_to(tmp_path)}" for place in (tmp_path / "data").rglob("*") if place.is_file()
        }
        assert len(listed) == files
        assert listed == present

    @pytest.mark.skipif(shutil.which("md5sum") is None, reason="there is no md5sum here")
    def test_md5sum_agrees_with_the_manifest(self, archive: Path) -> None:
        checked = subprocess.run(
            ["md5sum", "-c", "--strict", "--quiet", archive.name], cwd=archive.parent, check=False
        )
        assert checked.returncode == 0

    def test_forty_files_hold_every_kind_of_every_dataset(self, tmp_path: Path) -> None:
        kinds = [kind_of(path) for _, path in manifest_lines(make_archive(tmp_path, 40))]
        assert sorted(kinds) == sorted((dataset.name, kind) for dataset in DATASETS for kind in SHAPES)

    def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(self, tmp_path: Path) -> None:
        same, again = (make_archive(tmp_path / name, 60, seed=1).read_bytes() for name in ("a", "b"))
        other = make_archive(tmp_path / "c", 60, seed=2).read_bytes()
        assert same == again
        assert same != other

    @pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.999])
    def test_the_share_of_duplicates_is_exact(self, tmp_path: Path, share: float) -> None:
        digests = [digest for digest, _ in manifest_lines(make_archive(tmp_path, 100, duplicate_share=share))]
        assert len(set(digests)) == max(1, 100 - round(100 * share))

    def test_copies_are_of_files_of_their_kind_and_spare_the_metadata(self) -> None:
        plan = plan_files(400, seed=0, last_year=2023)
        sources = choose_sources(plan, 0.2, seed=0)
        copies = {position: source for position, source in enumerate(sources) if source != position}
        assert len(copies) == 80
        assert all(sources[source] == source for source in copies.values())
        assert all(plan[position].kind is plan[source].kind for position, source in copies.items())
        assert not any(plan[position].kind is Kind.STATION_METADATA for position in copies)

    def test_stations_have_distinct_names_and_numbers(self) -> None:
        gazetteer = Gazetteer(5)
        stations = [gazetteer.station(index) for index in range(30_000)]
        assert (
            len({station.name for station in stations})
            == len({station.src_id for station in stations})
            == 30_000
        )
        assert all(re.fullmatch(r"\d{5}_[a-z0-9-]+", station.label) for station in stations)

    def test_some_years_are_missing_and_stations_differ_in_their_qc_versions(self) -> None:
        years: dict[str, set[int]] = defaultdict(set)
        versions: dict[str, set[int | None]] = defaultdict(set)
        for file in plan_files(2000, seed=0, last_year=2023):
            if file.kind is Kind.DATA and file.station is not None and file.year is not None:
                years[f"{file.dataset.name} {file.station.label}"].add(file.year)
                versions[f"{file.dataset.name} {file.station.label}"].add(file.qc)
        assert any(max(found) - min(found) >= len(found) for found in years.values())
        assert {frozenset(found) for found in versions.values()} == {
            frozenset({0}),
            frozenset({1}),
            frozenset({0, 1}),
        }
        assert max(max(found) for found in years.values()) <= 2023

    def test_the_manifest_is_unsorted_but_keeps_stations_together(self, archive: Path) -> None:
        paths = [path for _, path in manifest_lines(archive)]
        assert paths != sorted(paths)
        folders = [
            re.sub(r"/(qc-version-\d/)?[^/]+$", "", path)
            for path in paths
            if kind_of(path)[1] in (Kind.DATA, Kind.CAPABILITY)
        ]
        changes = sum(earlier != later for earlier, later in pairwise(folders))
        assert changes == len(set(folders)) - 1

    def test_data_files_are_tables_of_their_year(self, archive: Path) -> None:
        digests = manifest_lines(archive)
        once = [path for digest, path in digests if sum(digest == other for other, _ in digests) == 1]
        read = 0
        for path in once:
            dataset, kind = kind_of(path)
            if kind is Kind.DATA:
                rows = table_of(archive.parent / path)
                time_column = next(known.time_column for known in DATASETS if known.name == dataset)
                assert rows
                assert all(row[time_column].startswith(path[-8:-4]) for row in rows)
                assert [row[time_column] for row in rows] == sorted(row[time_column] for row in rows)
                read += 1
        assert read > 200

    def test_metadata_lists_the_stations_that_have_files(self, archive: Path) -> None:
        folders: dict[str, set[str]] = defaultdict(set)
        for _, path in manifest_lines(archive):
            dataset, kind = kind_of(path)
            if kind is Kind.DATA:
                county, station = path.split("/")[4:6]
                folders[dataset].add(f"{county}/{station}")
        for dataset, expected in folders.items():
            place = next((archive.parent / "data" / dataset).glob("*/*_station-metadata.csv"))
            rows = table_of(place)
            found = {
                f"{row['historic_county']}/{int(row['src_id']):05}_{row['station_file_name']}" for row in rows
            }
            assert found == expected
            assert all(int(row["first_year"]) <= int(row["last_year"]) for row in rows)
            assert all(49 < float(row["station_latitude"]) < 61 for row in rows)

    def test_data_files_have_the_mean_size_that_was_asked_for(self, tmp_path: Path) -> None:
        make_archive(tmp_path, 600, mean_kb=20, duplicate_share=0)
        sizes = [place.stat().st_size for place in (tmp_path / "data").rglob("*_qcv-?_????.csv")]
        assert 16_000 < sum(sizes) / len(sizes) < 24_000

    def test_several_releases_share_a_root_but_none_is_written_twice(self, tmp_path: Path) -> None:
        old = make_archive(tmp_path, 50, release="201908")
        new = make_archive(tmp_path, 50, release="202407")
        assert [old.name, new.name] == ["midas-open-v201908-md5s.txt", "midas-open-v202407-md5s.txt"]
        assert not {digest for digest, _ in manifest_lines(old)} & {
            digest for digest, _ in manifest_lines(new)
        }
        with pytest.raises(ConfigurationError, match="already holds"):
            make_archive(tmp_path, 50, release="202407")

    def test_old_releases_have_their_own_line_ends_and_columns(self, tmp_path: Path) -> None:
        make_archive(tmp_path, 40, release="201908")
        metadata = next(tmp_path.rglob("*station-metadata.csv"))
        assert metadata.read_bytes().count(b"\r\n") == metadata.read_bytes().count(b"\n") > 0
        assert "authority" not in table_of(metadata)[0]

    @pytest.mark.parametrize(
        ("arguments", "word"),
        [
            ({"files": 0}, "files"),
            ({"duplicate_share": 1.0}, "duplicate_share"),
            ({"duplicate_share": -0.1}, "duplicate_share"),
            ({"release": "20247"}, "release"),
            ({"release": "202413"}, "release"),
            ({"release": "000101"}, "release"),
            ({"mean_kb": 0}, "mean_kb"),
        ],
    )
    def test_an_argument_out_of_range_is_named(
        self, tmp_path: Path, arguments: dict[str, object], word: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=word):
            make_archive(tmp_path, **arguments)  # type: ignore[arg-type]

    def test_a_root_that_cannot_be_written_is_a_storage_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(StorageError, match="file"):
            make_archive(tmp_path / "file")

    def test_a_planned_file_knows_its_path(self) -> None:
        file = PlannedFile(DATASETS[0], Kind.CHANGE_LOG)
        assert file.path("202407") == (
            "data/uk-daily-rain-obs/dataset-version-202407/midas-open_uk-daily-rain-obs_dv-202407_change_log.txt"
        )


class TestMakeArchiveScript:
    @staticmethod
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(REPOSITORY / "examples" / "make_archive.py"), *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def test_it_says_what_it_made(self, tmp_path: Path) -> None:
        done = self.run(tmp_path / "new", "--files", 60, "--seed", 4, "--duplicates", 0.1)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("60 files with 54 distinct contents")
        assert (tmp_path / "new" / "midas-open-v202407-md5s.txt").is_file()

    def test_it_ends_with_a_message_and_a_code_of_its_own_when_it_cannot(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, "--duplicates", 3)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("error: duplicate_share")
        assert "Traceback" not in done.stderr
