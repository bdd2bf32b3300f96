"""I8: what may hang or fail is done aside, and holds nobody up."""

from __future__ import annotations

import threading

from midasdl.metrics.aside import Aside

PATIENCE_S = 30.0


def test_i8_whoever_hands_on_to_something_that_hangs_goes_on() -> None:
    """I8: a hundred thousand items for an outlet that never returns: the last few are held, the rest is dropped."""
    hangs, begun, taken = threading.Event(), threading.Event(), []

    def act(item: int) -> None:
        taken.append(item)
        begun.set()
        hangs.wait(PATIENCE_S)

    aside: Aside[int] = Aside("hangs", act, most=3)
    aside.post(0)
    assert begun.wait(PATIENCE_S)
    for number in range(1, 100_001):
        aside.post(number)

    assert not aside.close(patience_s=0.05)
    assert (aside.held, aside.dropped) == (3, 99_997)
    hangs.set()
    assert aside.close(PATIENCE_S)
    assert taken == [0, 99_998, 99_999, 100_000]


def test_i8_what_fails_is_told_once_in_a_row_and_tried_again() -> None:
    """I8: an outlet that fails for a while is told twice if it worked between, and gets what comes afterwards."""
    told: list[str] = []
    taken: list[str] = []
    done = threading.Semaphore(0)

    def act(item: str) -> None:
        try:
            if item == "bad":
                raise OSError("away")
            taken.append(item)
        finally:
            done.release()

    aside = Aside("fails", act, most=10, tell=lambda error: told.append(str(error)))
    for item in ("bad", "bad", "good", "bad", "last"):
        aside.post(item)
        assert done.acquire(timeout=PATIENCE_S)

    assert aside.close(PATIENCE_S)
    assert taken == ["good", "last"]
    assert told == ["away", "away"]


def test_i8_who_still_makes_way_at_the_end_gets_more_time() -> None:
    """O4: a log that is slow and not stuck is written to its end, before the run ends."""
    taken: list[int] = []
    steps = threading.Semaphore(0)

    def act(item: int) -> None:
        assert steps.acquire(timeout=PATIENCE_S)
        taken.append(item)

    aside: Aside[int] = Aside("slow", act, most=10)
    for number in range(3):
        aside.post(number)
    releasing = threading.Timer(0.1, lambda: steps.release(3))
    releasing.start()

    assert aside.close(PATIENCE_S)
    assert taken == [0, 1, 2]
