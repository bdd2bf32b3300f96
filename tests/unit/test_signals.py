"""W4: a wish to stop is heard, wherever the program is when it comes."""

from __future__ import annotations

import signal
import time
import weakref

import pytest

from midasdl.cli.signals import ending_on_signals, stopping_on_signals
from midasdl.errors import ExitCode


class Thing:
    """Can be let go of."""


def let_go_and_hear(number: signal.Signals, then_wait_s: float = 0.0) -> None:
    """A signal that comes while Python finalizes an object, as it does when a module has been imported."""
    thing = Thing()
    kept = weakref.ref(thing, lambda _: signal.raise_signal(number))
    del thing
    assert kept() is None
    time.sleep(then_wait_s)


class Stoppable:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def stop(self, exit_code: int) -> None:
        self.asked.append(exit_code)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_python_would_lose_is_heard_without_a_word(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    """An exception in a finalizer is printed and forgotten; the command ends all the same."""
    with ending_on_signals() as asked, pytest.raises(KeyboardInterrupt):
        let_go_and_hear(number, then_wait_s=10)

    assert set(asked) == {ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.TERMINATED}
    assert capfd.readouterr().err == ""


def test_a_job_that_has_begun_meanwhile_is_asked_to_stop() -> None:
    job = Stoppable()
    with ending_on_signals():
        let_go_and_hear(signal.SIGINT)
        with stopping_on_signals(job):
            time.sleep(0.5)

    assert job.asked == [ExitCode.INTERRUPTED]
