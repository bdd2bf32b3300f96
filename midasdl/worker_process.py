"""A worker as a process of its own: what it is given, how it is built, how it ends.

The pipe to the coordinator carries progress one way and the wish to stop the other. When it closes, the
coordinator is gone and the worker stops too.
"""

from __future__ import annotations

import os
import random
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

from midasdl.cache import CacheStore
from midasdl.ceda.connect import connect
from midasdl.ceda.credentials import Credentials
from midasdl.channel import Bye, Channel
from midasdl.clock import Clock, SystemClock
from midasdl.config import Settings
from midasdl.errors import MidasdlError, StoppedError, WorkerCrashedError
from midasdl.identity import ProcessIdentity
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.runs import RunRegistry
from midasdl.ledger.tasks import TaskQueue
from midasdl.policy import WorkerPolicy, longest_wait_us
from midasdl.politeness.backoff import Backoff
from midasdl.politeness.gate import Gate
from midasdl.politeness.limiter import Limits, limits_from, rules_from
from midasdl.processes import ignore_signals, let_garbage_wait
from midasdl.progress.events import Waiting
from midasdl.version import PROJECT_URL
from midasdl.worker import DownloadWorker

STOP = "stop"
"""End soon, by force if need be."""

REST = "rest"
"""Finish what is in flight, however long it takes, give back the rest and end."""

LOOK = "look"
"""If you have nothing to do, look again: another worker has found that nothing is left."""

CRASH_HELP = f"Nothing is lost. See more with -vv, and please report it at {PROJECT_URL}/issues"

FOLDERS_AT_ONCE = 4
"""Enough to hide the answers of a slow disk behind each other."""

GRACE_S = 4.0
"""A request in flight may end within this after the wish to stop; then the process ends all the same."""


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """Everything that a worker process is given; travels through a pipe, never through argv."""

    ledger: Path
    run_id: int
    name: str
    data_root: Path
    settings: Settings
    credentials: Credentials
    began_us: int
    """When the workers began to be started; who replaces a dead one comes later and belongs to them all the same."""

    quota: int | None = None


def work(order: WorkerOrder, pipe: Connection) -> None:
    """The whole life of a worker process. Signals are the coordinator's business.

    Notes
    -----
    Concurrency: the first thread only waits. Another one gets its memory from pages of its own, where the first would
    be given holes in pages that it shares with the process it was forked off, 2 MB of which would become its own.
    """
    ignore_signals()
    life = threading.Thread(target=_live, args=(order, pipe), name="work")
    life.start()
    life.join()


def _live(order: WorkerOrder, pipe: Connection) -> None:
    clock = SystemClock()
    channel = Channel(pipe, order.settings.performance.batching.channel_buffer_size)
    standing = Standing(order.settings)
    doze = Doze(clock)
    threading.Thread(target=_obey, args=(pipe, clock, standing, doze), daemon=True, name="obey").start()
    try:
        bye = _work_off(order, clock, channel, standing, doze)
    except StoppedError:
        channel.close(Bye(None, is_at_rest=True))
    except MidasdlError as error:
        channel.close(Bye(error))
    except Exception as error:
        what = f"A worker met something that midasdl did not foresee: {type(error).__name__}: {error}."
        channel.close(Bye(WorkerCrashedError(what, CRASH_HELP, traceback.format_exc())))
    else:
        channel.close(bye)


class Standing:
    """The settings that hold for a worker now; the coordinator may send others while it works.

    Notes
    -----
    Concurrency: settings come in one thread and are followed in another; what is replaced are whole frozen values.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._follow: Callable[[Settings], None] = lambda _: None

    def limits(self, host: str) -> Limits:
        """The limits at a host, as they are now."""
        return limits_from(self.settings.performance.ceda_client, host)

    def change(self, settings: Settings) -> None:
        """Let others hold from now on."""
        self.settings = settings
        self._follow(settings)

    def be_followed(self, follow: Callable[[Settings], None]) -> None:
        """Call `follow` with the settings that hold, now and after each change."""
        self._follow = follow
        follow(self.settings)


class Doze:
    """The sleep of a worker that has nothing to do: every word of the coordinator's ends it.

    Notes
    -----
    Concurrency: one thread sleeps, another wakes it. A word that comes while it does not sleep ends the next sleep.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._word = threading.Event()

    def sleep(self, seconds: float) -> bool:
        """Sleep for so long at most; whether the worker has been asked to stop."""
        self._word.wait(seconds)
        self._word.clear()
        return self._clock.wait(0)

    def end(self) -> None:
        """Wake who sleeps."""
        self._word.set()


def _work_off(
    order: WorkerOrder, clock: SystemClock, channel: Channel, standing: Standing, doze: Doze
) -> Bye:
    """Build the worker inside its process, let it run, and say why it has ended."""
    with Ledger.open(order.ledger, clock) as ledger:
        worker_id = RunRegistry(ledger).register(
            order.run_id, "worker", order.name, ProcessIdentity.current()
        )
        channel.greet(worker_id)
        settings = order.settings
        gate = Gate(
            ledger,
            worker_id,
            standing.limits,
            random.uniform,
            before_long_wait=lambda: worker.record(),  # noqa: PLW0108 - made further down
            rules=rules_from(settings),
        )
        access = connect(
            settings,
            order.credentials,
            gate,
            clock,
            outage_s=settings.run.server_patience_seconds,
            tell=lambda why: channel.post(Waiting(why)),
            since_us=order.began_us,
        )
        worker = DownloadWorker(
            worker_id,
            queue_from(settings, ledger),
            store_from(settings, order.data_root),
            access.client,
            gate,
            policy_from(settings),
            clock,
            channel.post,
            random.uniform,
            doze=doze.sleep,
        )

        def follow(now: Settings) -> None:
            gate.follow(rules_from(now))
            worker.follow(replace(policy_from(now), quota=order.quota))

        standing.be_followed(follow)
        let_garbage_wait()
        try:
            worker.run()
        finally:
            access.close()
        is_spent = worker.quota_left <= 0
        return Bye(None, quota_is_spent=is_spent, is_at_rest=not (is_spent or worker.nothing_left))


def policy_from(settings: Settings) -> WorkerPolicy:
    """What a worker decides by, from the settings."""
    backoff = settings.performance.ceda_client.backoff
    waits = Backoff(
        backoff.base_backoff_ms / 1000, backoff.max_backoff_seconds, backoff.multiplier, backoff.jitter_factor
    )
    cache = settings.performance.cache
    return WorkerPolicy(
        backoff.max_retries,
        waits,
        settings.performance.workers.count,
        look_ahead=settings.performance.batching.prefetch_count,
        reread=cache.verification_sample_rate if cache.verification_enabled else 0.0,
    )


def queue_from(settings: Settings, ledger: Ledger) -> TaskQueue:
    """The queue as a worker sees it, from the settings."""
    return TaskQueue(
        ledger,
        keep_all_history=settings.history.keep == "all" or settings.logging.follows_tasks,
        longest_wait_us=longest_wait_us(policy_from(settings)),
    )


def store_from(settings: Settings, root: Path) -> CacheStore:
    """The local archive as a worker sees it, from the settings."""
    cache = settings.performance.cache
    return CacheStore(
        root,
        settings.storage.duplicates,
        settings.storage.min_free_bytes,
        cache.temp_file_directory,
        FOLDERS_AT_ONCE if cache.parallel_directory_creation else 1,
    )


def _obey(pipe: Connection, clock: SystemClock, standing: Standing, doze: Doze) -> None:
    """Follow the coordinator's word; when it says stop, or has ended, let the worker stop, soon or by force."""
    with suppress(EOFError, OSError):
        while (word := pipe.recv()) != STOP:
            if isinstance(word, Settings):
                standing.change(word)
            elif word == REST:
                clock.stop()
            doze.end()
    clock.stop()
    doze.end()
    threading.Event().wait(GRACE_S)
    os._exit(0)
