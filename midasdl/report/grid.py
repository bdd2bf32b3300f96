"""What is covered, counted into the cells of a picture: datasets against years, counties against datasets. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from midasdl.ledger.coverage import Cover

NO_DATASET = "other files"
NO_COUNTY = "no county"
NO_YEAR = "no year"
REST = "all others"

MOST_DATASETS = 24
MOST_COUNTIES = 130
MOST_YEARS = 220
"""A picture has no more rows and columns than this, whatever names a manifest brings; what is beyond goes together."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Files that go together in a picture."""

    files: int = 0
    done: int = 0
    failed: int = 0

    def __add__(self, other: Cell) -> Cell:
        return Cell(self.files + other.files, self.done + other.done, self.failed + other.failed)

    @property
    def missing(self) -> int:
        """Files that are not there, failed ones too."""
        return self.files - self.done

    @property
    def share(self) -> float:
        """The share that is there."""
        return self.done / self.files if self.files else 0.0


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows and columns by name, and what is where they meet."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]

    def row_sum(self, row: str) -> Cell:
        """A whole row."""
        return sum((self.cells.get((row, column), Cell()) for column in self.columns), Cell())


def by_dataset_and_year(covers: Iterable[Cover]) -> Grid:
    """Datasets in rows, years in columns; years that nobody has between others stay as empty columns."""
    grid = _grid(
        covers,
        lambda cover: cover.dataset or NO_DATASET,
        lambda cover: NO_YEAR if cover.year is None else str(cover.year),
        (MOST_DATASETS, MOST_YEARS),
    )
    years = [int(name) for name in grid.columns if name.isdigit()]
    others = tuple(name for name in grid.columns if not name.isdigit())
    if years and max(years) - min(years) < MOST_YEARS:
        columns = tuple(str(year) for year in range(min(years), max(years) + 1))
        return Grid(grid.rows, (*columns, *others), grid.cells)
    return grid


def by_county_and_dataset(covers: Iterable[Cover]) -> Grid:
    """Counties in rows, datasets in columns; files without a county are left out."""
    return _grid(
        (cover for cover in covers if cover.county is not None),
        lambda cover: cover.county or NO_COUNTY,
        lambda cover: cover.dataset or NO_DATASET,
        (MOST_COUNTIES, MOST_DATASETS),
    )


def _grid(
    covers: Iterable[Cover],
    row_of: Callable[[Cover], str],
    column_of: Callable[[Cover], str],
    most: tuple[int, int],
) -> Grid:
    named = [
        (row_of(cover), column_of(cover), Cell(cover.files, cover.done, cover.failed)) for cover in covers
    ]
    rows = _names(((row, cell.files) for row, _, cell in named), most[0])
    columns = _names(((column, cell.files) for _, column, cell in named), most[1])
    cells: dict[tuple[str, str], Cell] = {}
    for row, column, cell in named:
        key = (row if row in rows else REST, column if column in columns else REST)
        cells[key] = cells.get(key, Cell()) + cell
    return Grid(rows, columns, cells)


def _names(counted: Iterable[tuple[str, int]], most: int) -> tuple[str, ...]:
    """Names in their order, without a name last; where there are too many, those with the most files, and the rest."""
    files: dict[str, int] = {}
    for name, count in counted:
        files[name] = files.get(name, 0) + count
    kept = sorted(files, key=lambda name: -files[name])[: most if len(files) <= most else most - 1]
    last = (NO_DATASET, NO_COUNTY, NO_YEAR)
    ordered = [*sorted(name for name in kept if name not in last), *(name for name in last if name in kept)]
    return (*ordered, REST) if len(files) > most else tuple(ordered)
