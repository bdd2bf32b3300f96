"""Whoever listens to several pipes hears all who have something to say, and wakes once for those who speak together."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection

import pytest

from midasdl import ears
from midasdl.ears import TOGETHER_S, Ears

Pipes = list[tuple[Connection, Connection]]


@pytest.fixture(params=["posix", "win32"])
def on_any_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of each system; what Windows needs works elsewhere too."""
    if request.param == "win32":
        monkeypatch.setattr(ears.sys, "platform", "win32")


@pytest.fixture
def pipes() -> Pipes:
    """Three, as (end that listens, end that speaks)."""
    return [multiprocessing.Pipe() for _ in range(3)]


def listening(pipes: Pipes, nap: Callable[[float], object] = lambda _: None) -> Ears:
    made = Ears(nap)
    for ours, _ in pipes:
        made.open_for(ours)
    return made


@pytest.mark.usefixtures("on_any_system")
def test_who_speaks_and_who_has_closed_is_heard_and_nobody_else(pipes: Pipes) -> None:
    (first, says), (second, _), (third, ends) = pipes
    ours = listening(pipes)
    assert ours.wait(0.0) == []
    says.send("word")
    ends.close()
    assert set(ours.wait(60.0)) == {first, third}
    ours.shut_for(third)
    third.close()
    assert first.recv() == "word"
    assert ours.wait(0.0) == []
    ours.shut_for(second)
    ours.shut_for(second)
    pipes[1][1].send("word")
    assert ours.wait(0.0) == []
    ours.close()


@pytest.mark.usefixtures("on_any_system")
def test_who_speaks_a_moment_later_is_heard_with_the_first(pipes: Pipes) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        pipes[1][1].send("me too")

    ours = listening(pipes, nap)
    pipes[0][1].send("word")
    assert set(ours.wait(60.0)) == {pipes[0][0], pipes[1][0]}
    assert naps == [TOGETHER_S]


def test_nobody_is_waited_for_where_all_have_spoken_or_none_has(pipes: Pipes) -> None:
    ours = listening(pipes, lambda _: pytest.fail("a nap for nobody"))
    assert ours.wait(0.0) == []
    for _, theirs in pipes:
        theirs.send("word")
    assert len(ours.wait(60.0)) == 3
