"""What the request log remembers, and what can be asked of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midasdl.errors import StorageError
from midasdl.simulator.requestlog import (
    RequestLog,
    RequestRecord,
    busiest_window,
    gaps,
    peak_in_flight,
)


def record(number: int, started: float, ended: float) -> RequestRecord:
    return RequestRecord(number, started, ended, "GET", "download", "/badc/x", 200, 1)


class TestRequestLog:
    def test_gaps_are_between_starts_whatever_the_order_of_the_records(self) -> None:
        assert gaps([record(2, 1.5, 9), record(1, 1.0, 2), record(3, 3.5, 4)]) == [0.5, 2.0]
        assert gaps([]) == gaps([record(1, 0, 1)]) == []

    def test_requests_that_touch_do_not_overlap(self) -> None:
        assert peak_in_flight([record(1, 0, 1), record(2, 1, 2), record(3, 1.5, 3)]) == 2
        assert peak_in_flight([record(1, 1, 1)]) == 1
        assert peak_in_flight([]) == 0

    @given(st.lists(st.integers(0, 40)), st.integers(1, 20))
    def test_the_busiest_window_is_what_counting_gives(self, starts: list[int], seconds: int) -> None:
        records = [record(number, start, start + 1) for number, start in enumerate(starts)]
        counts = [sum(start <= other < start + seconds for other in starts) for start in starts]
        assert busiest_window(records, seconds) == max(counts, default=0)

    def test_each_record_is_a_line_of_json(self, tmp_path: Path) -> None:
        log = RequestLog(tmp_path / "log.jsonl")
        log.open()
        opened = log.begin(5.0, 3)
        opened.path, opened.status = "/badc/ü \udcff", 200
        log.commit(opened, 6.5)
        log.close()
        line = json.loads((tmp_path / "log.jsonl").read_text(encoding="ascii"))
        assert (line["number"], line["started"], line["ended"], line["connection"]) == (1, 5.0, 6.5, 3)
        assert line["path"] == "/badc/ü \udcff"

    def test_records_come_in_the_order_of_their_starts(self) -> None:
        log = RequestLog()
        first, second = log.begin(1.0, 1), log.begin(2.0, 2)
        log.commit(second, 3.0)
        log.commit(first, 4.0)
        assert [entry.number for entry in log.snapshot()] == [1, 2]
        log.clear()
        assert log.snapshot() == []

    def test_a_request_ended_when_its_last_bytes_left(self) -> None:
        log = RequestLog()
        opened = log.begin(1.0, 1)
        log.ending(opened, 2.0)
        log.commit(opened, 9.0)
        assert log.snapshot()[0].ended == 2.0

    def test_a_log_that_cannot_be_written_is_a_storage_error(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="log"):
            RequestLog(tmp_path / "none" / "log").open()
