"""A command ends at once when it has said all; nothing that it said is lost by that."""

from __future__ import annotations

import io
import os
import sys

import pytest

from midasdl import __main__ as entry


class Gone(io.StringIO):
    """A reader that went away."""

    def flush(self) -> None:
        raise BrokenPipeError


class Slow(io.StringIO):
    """A stream that holds back what it is given."""

    arrived = ""

    def flush(self) -> None:
        self.arrived = self.getvalue()


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes with which the process would have ended."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(entry, "run", lambda: 3)
    return codes


def test_what_was_said_is_sent_on_its_way_before_the_process_ends(
    ended: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, err = Slow("said"), Slow("told")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    entry.command()
    assert (ended, out.arrived, err.arrived) == ([3], "said", "told")


@pytest.mark.parametrize("stream", [Gone(), None], ids=["gone", "none"])
def test_who_reads_nothing_changes_no_exit_code(
    stream: io.StringIO | None, ended: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    err = Slow("told")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", err)
    entry.command()
    assert (ended, err.arrived) == ([3], "told")
