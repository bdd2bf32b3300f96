"""P1: what a worker tells, and what need not be told."""

from __future__ import annotations

import threading
from multiprocessing import Pipe
from types import SimpleNamespace

import pytest

from midasdl import channel as channel_module
from midasdl.channel import SEND_EVERY_S, Bye, Channel, News
from midasdl.progress.events import CacheHit, DownloadCompleted, DownloadStarted, Event

STARTED = [DownloadStarted(number, f"data/{number}.csv") for number in range(200)]
COMPLETED = [DownloadCompleted(number, f"data/{number}.csv", 10, 1_000, 1) for number in range(200)]
HIT = CacheHit(7, "data/7.csv", 10, 1)


def told(*events: Event, buffer_size: int = 100) -> list[Event]:
    """What arrives of some events that are posted within one message."""
    here, there = Pipe(duplex=False)
    channel = Channel(there, buffer_size)
    for event in events:
        channel.post(event)
    channel.close(Bye(None))
    news = here.recv()
    assert isinstance(news, News)
    assert here.recv() == Bye(None)
    here.close()
    return list(news.events)


def test_p1_a_start_whose_end_is_told_too_is_left_out_and_one_that_is_open_is_told() -> None:
    pairs = [event for pair in zip(STARTED[:3], COMPLETED[:3], strict=True) for event in pair]
    assert told(*pairs, STARTED[3]) == [*COMPLETED[:3], STARTED[3]]


def test_p1_only_the_start_of_the_same_file_is_left_out() -> None:
    assert told(STARTED[0], HIT, COMPLETED[0]) == [STARTED[0], HIT, COMPLETED[0]]
    assert told(STARTED[1], COMPLETED[0]) == [STARTED[1], COMPLETED[0]]
    assert told(COMPLETED[0]) == [COMPLETED[0]]


def test_p1_a_full_buffer_drops_the_oldest() -> None:
    pairs = [event for pair in zip(STARTED, COMPLETED, strict=True) for event in pair]
    assert told(*pairs, buffer_size=100) == COMPLETED[100:]


class JustTooLate(threading.Event):
    """Somebody says goodbye in the moment between the end of a wait and what follows it."""

    def __init__(self, news: threading.Event) -> None:
        super().__init__()
        self._news = news

    def wait(self, timeout: float | None = None) -> bool:
        self.set()
        self._news.set()
        return False


class NeverWaitedFor(threading.Event):
    """News that are there when somebody asks for them."""

    def wait(self, timeout: float | None = None) -> bool:
        assert self.is_set(), "the channel waits for news after the goodbye"
        return True


def test_who_says_goodbye_while_news_are_sent_does_not_wait_for_more_of_them() -> None:
    _, there = Pipe(duplex=False)
    channel = Channel(there, 100)
    channel._has_news = NeverWaitedFor()
    channel._closing = JustTooLate(channel._has_news)
    channel.post(HIT)
    channel._send_on_and_on()
    assert channel._closing.is_set()


@pytest.mark.parametrize("into_s", [0.05, 0.1, 0.3])
def test_all_workers_send_at_the_same_moments(into_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: whoever listens wakes once for all of them, whenever each of them had its news."""
    now = SimpleNamespace(monotonic=lambda: 1_000 * SEND_EVERY_S + into_s)
    monkeypatch.setattr(channel_module, "time", now)
    _, there = Pipe(duplex=False)
    channel = Channel(there, 100)
    channel._closing = waits = Closing()
    channel.post(HIT)
    channel._send_on_and_on()
    assert waits.for_s == pytest.approx([SEND_EVERY_S - into_s])


class Closing(threading.Event):
    """A goodbye that comes with the first wait."""

    def __init__(self) -> None:
        super().__init__()
        self.for_s: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.for_s.append(timeout)
        return True
