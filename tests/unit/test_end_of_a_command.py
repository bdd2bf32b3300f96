"""A command ends at once when it has said all; nothing that it said is lost by that."""

from __future__ import annotations

import atexit
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
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str | int]:
    """What the end of the process would have been: what libraries do then, and the exit code."""
    steps: list[str | int] = []
    monkeypatch.setattr(atexit, "_run_exitfuncs", lambda: steps.append("libraries"))
    monkeypatch.setattr(os, "_exit", steps.append)
    monkeypatch.setattr(entry, "run", lambda: 3)
    return steps


def test_what_was_said_is_sent_on_its_way_before_the_process_ends(
    ended: list[str | int], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, err = Slow("said"), Slow("told")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    entry.command()
    assert (ended, out.arrived, err.arrived) == (["libraries", 3], "said", "told")


@pytest.mark.parametrize("stream", [Gone(), None], ids=["gone", "none"])
def test_who_reads_nothing_changes_no_exit_code(
    stream: io.StringIO | None, ended: list[str | int], monkeypatch: pytest.MonkeyPatch
) -> None:
    err = Slow("told")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", err)
    entry.command()
    assert (ended, err.arrived) == (["libraries", 3], "told")
