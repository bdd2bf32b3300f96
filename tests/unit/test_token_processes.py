"""C2, C6: processes that need a token at once, and one that dies with the lock."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from midasdl.ceda.credentials import Credentials
from midasdl.ceda.secret import Secret
from midasdl.ceda.tokens import Token, TokenCache, TokenSource
from midasdl.clock import SystemClock

NOW = 1_790_000_000_000_000
DAY_S = 86_400
LOGIN = Credentials(username="researcher", password=Secret("rain-or-shine"))
PROCESSES = 8


def token(text: str, lifetime_s: float = 3 * DAY_S, now_us: int = NOW) -> Token:
    return Token(Secret(text), now_us, now_us + int(lifetime_s * 1e6))


# --- processes


def _need_a_token(folder: Path, tally: Path, starts: Any, answers: Any, rejected: str | None) -> None:
    clock = SystemClock()

    def slow_mint() -> Token:
        with tally.open("a") as file:
            file.write("mint\n")
        clock.nap(0.2)
        return token(f"minted-by-{os.getpid()}", now_us=clock.now_us())

    asked = TokenSource(LOGIN, TokenCache(folder, "account"), slow_mint, clock)
    starts.wait()
    answers.put((asked.current() if rejected is None else asked.replace(Secret(rejected))).reveal())


def _hold_the_lock(folder: Path, answers: Any) -> None:
    with TokenCache(folder, "account").locked(SystemClock()):
        answers.put("locked")
        signal.pause()


def context() -> Any:
    return multiprocessing.get_context("forkserver")


@pytest.mark.parametrize("rejected", [None, "old"], ids=["none-yet", "rejected"])
def test_c2_eight_processes_that_need_a_token_at_once_mint_one(tmp_path: Path, rejected: str | None) -> None:
    here, tally = context(), tmp_path / "tally"
    if rejected:
        old = TokenCache(tmp_path / "tokens", "account")
        with old.locked(SystemClock()):
            old.store(token(rejected, now_us=SystemClock().now_us()))
    starts, answers = here.Barrier(PROCESSES), here.Queue()
    work = (tmp_path / "tokens", tally, starts, answers, rejected)
    processes = [here.Process(target=_need_a_token, args=work) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    got = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert len(got) == 1
    assert rejected not in got
    assert tally.read_text() == "mint\n"


def test_c2_c6_a_holder_of_the_lock_that_is_killed_stalls_nobody(tmp_path: Path) -> None:
    clock = SystemClock()
    here = context()
    answers = here.Queue()
    holder = here.Process(target=_hold_the_lock, args=(tmp_path, answers))
    holder.start()
    assert answers.get(timeout=60) == "locked"
    with ThreadPoolExecutor(1) as pool:
        source = TokenSource(
            LOGIN, TokenCache(tmp_path, "account"), lambda: token("token-1", now_us=clock.now_us()), clock
        )
        waiting = pool.submit(source.current)
        assert not waiting.done()
        os.kill(holder.pid, signal.SIGKILL)
        assert waiting.result(timeout=30).reveal() == "token-1"
    holder.join()
