"""What `midasdl sql` prints for people."""

from __future__ import annotations

from midasdl.cli.table import table_lines

NAMES = ("path", "files", "share")
ROWS = [("data/a.csv", 12, 0.5), ("data/\u00e9\u4e2d.csv", 3, None)]


def test_columns_are_aligned_and_numbers_stand_to_the_right() -> None:
    assert list(table_lines(NAMES, ROWS, 80)) == [
        "path          files  share",
        "data/a.csv       12    0.5",
        "data/\u00e9\u4e2d.csv      3",
    ]


def test_what_is_too_wide_for_the_terminal_becomes_a_block_for_each_row() -> None:
    """No header of five characters is folded into five lines."""
    assert list(table_lines(NAMES, ROWS[:1], 23)) == ["-- 1", "path   data/a.csv", "files  12", "share  0.5"]
    assert next(table_lines(NAMES, ROWS[:1], 24)) == "path        files  share"
    assert next(table_lines(NAMES, ROWS[:1], None)) == "path        files  share"


def test_a_question_without_answers_shows_its_columns() -> None:
    assert list(table_lines(NAMES, [], 5)) == ["path  files  share"]


def test_a_value_stays_on_its_line_and_does_nothing_to_the_terminal() -> None:
    assert list(table_lines(("text",), [("one\ntwo\x1b[2J",)], 80))[1] == "one\\ntwo\\x1b[2J"


def test_whole_numbers_are_written_as_wished_and_stand_to_the_right_all_the_same() -> None:
    lines = list(table_lines(("kind", "files"), [("data", 12_345), ("log", 7)], 80, "{:,}".format))
    assert lines == ["kind   files", "data  12,345", "log        7"]
