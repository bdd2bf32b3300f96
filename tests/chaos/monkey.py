"""Does to a job what life does, only more often: processes die or fall asleep, the server goes away, runs meet.

Every action says how many requests it may cost: those in flight that nobody will ever finish.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress

from tests.acceptance.conftest import JobOnTrial
from tests.support.command import kill_group
from tests.support.standstill import ask_at_a_standstill

WORKERS = 5
PATIENCE_S = 60.0


class Monkey:
    """Breaks one job at seeded random moments, and keeps at least one run on it going.

    Parameters
    ----------
    job : JobOnTrial
        Loaded, not yet run.
    chance : random.Random
        Where every choice comes from.
    """

    def __init__(self, job: JobOnTrial, chance: random.Random) -> None:
        self.job = job
        self.done: Counter[str] = Counter()
        self.requests_at_risk = 0
        self._chance = chance
        self._runs: list[subprocess.Popen[str]] = []

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to break."""
        return not self.job.one("SELECT count(*) FROM task WHERE state <> 'done'")

    def play_a_round(self) -> str:
        """See that a run is on, wait for a random moment, do one thing; returns what."""
        self._see_that_a_run_is_on()
        time.sleep(self._chance.uniform(0.05, 0.6))
        action = self._chance.choice(ACTIONS)
        action(self)
        name = action.__name__
        self.done[name] += 1
        return name

    def finish(self) -> None:
        """Let whatever runs end by itself, and resume until all is done."""
        for run in self._runs:
            _listen_to_the_end(run)
        self._runs.clear()
        self.job.command("resume")

    def end(self) -> None:
        """Leave nothing running."""
        for run in self._runs:
            with suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGCONT)
            kill_group(run)

    def kill_a_worker(self) -> None:
        """``kill -9`` of one worker."""
        workers = self._living("role = 'worker'")
        if not workers:
            return
        number, pid = self._chance.choice(workers)
        with suppress(ProcessLookupError):
            os.kill(pid, 0)
            self.requests_at_risk += ask_at_a_standstill(
                [pid], lambda: self._claims(f"AND worker_id = {number}"), send=os.kill
            )
            os.kill(pid, signal.SIGKILL)

    def kill_a_coordinator(self) -> None:
        """``kill -9`` of a coordinator alone: its workers end by themselves."""
        run = self._chance.choice(self._runs)
        workers = self._living("role = 'worker'")
        self.requests_at_risk += len(workers)
        run.kill()
        run.communicate(timeout=PATIENCE_S)

    def kill_everything(self) -> None:
        """``kill -9`` of every process of every run, at once."""
        self.requests_at_risk += ask_at_a_standstill([run.pid for run in self._runs], self._claims)
        for run in self._runs:
            kill_group(run)

    def let_a_worker_nap(self) -> None:
        """A worker stands still for a moment, and goes on."""
        workers = self._living("role = 'worker'")
        if not workers:
            return
        _, pid = self._chance.choice(workers)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self._chance.uniform(0.05, 0.5))
            os.kill(pid, signal.SIGCONT)

    def let_a_run_oversleep(self) -> None:
        """A whole run stands still until its leases have ended; another takes its claims; then it wakes up."""
        sleeper = self._chance.choice(self._runs)
        if not self._put_to_sleep(sleeper):
            return
        self.requests_at_risk += self._claims()
        self._start()
        time.sleep(self._chance.uniform(0.5, 1.5))
        with suppress(ProcessLookupError):
            os.killpg(sleeper.pid, signal.SIGCONT)

    def _put_to_sleep(self, sleeper: subprocess.Popen[str]) -> bool:
        """Stop a run whose leases have ended; whether there was one to stop."""
        leases_end = (
            "UPDATE worker SET lease_until = 1 WHERE state = 'alive' AND run_id IN "
            f"(SELECT run_id FROM worker WHERE pid = {sleeper.pid})"
        )
        if sleeper.poll() is not None:
            return False
        ask_at_a_standstill([sleeper.pid], lambda: self.job.change(leases_end))
        return True

    def start_a_second_run(self) -> None:
        """Somebody types the command in another terminal."""
        self._start()

    def restart_the_server(self) -> None:
        """The server goes away in the middle of its answers, and returns."""
        self.requests_at_risk += len(self._living("role = 'worker'"))
        self.job.simulator.stop()
        time.sleep(self._chance.uniform(0.05, 0.4))
        self.job.simulator.start()

    def ask_to_stop(self) -> None:
        """SIGTERM: the run ends by itself, and gives everything back."""
        run = self._chance.choice(self._runs)
        self.requests_at_risk += len(self._living("role = 'worker'"))
        run.send_signal(signal.SIGTERM)
        _listen_to_the_end(run)

    def _see_that_a_run_is_on(self) -> None:
        for ended in [run for run in self._runs if run.poll() is not None]:
            _listen_to_the_end(ended)
            self._runs.remove(ended)
        if not self._runs:
            self._start()

    def _start(self) -> None:
        claims_before = self.job.one("SELECT total(claim_no) FROM task")
        run = self.job.command.start("run", "--workers", str(WORKERS))
        self._runs.append(run)
        deadline = time.monotonic() + PATIENCE_S
        while self.job.one("SELECT total(claim_no) FROM task") == claims_before and run.poll() is None:
            assert time.monotonic() < deadline, "a run does not come to work"
            time.sleep(0.02)

    def _living(self, condition: str) -> list[tuple[int, int]]:
        return self.job.rows(f"SELECT id, pid FROM worker WHERE state = 'alive' AND {condition}")

    def _claims(self, condition: str = "") -> int:
        return int(self.job.one(f"SELECT count(*) FROM task WHERE state = 'in_progress' {condition}"))


def _listen_to_the_end(run: subprocess.Popen[str]) -> None:
    """Whatever ended a run, it tells no person of its insides."""
    if run.stderr is not None and not run.stderr.closed:
        _, errors = run.communicate(timeout=PATIENCE_S)
        assert "Traceback" not in errors, errors


ACTIONS = (
    Monkey.kill_a_worker,
    Monkey.kill_a_worker,
    Monkey.kill_a_coordinator,
    Monkey.kill_everything,
    Monkey.let_a_worker_nap,
    Monkey.let_a_run_oversleep,
    Monkey.start_a_second_run,
    Monkey.restart_the_server,
    Monkey.ask_to_stop,
)
