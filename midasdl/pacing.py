"""The pace of a run: which profile holds by the schedule, and how many workers work; every change has its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from midasdl.config import Settings
from midasdl.config.resolution import with_profile
from midasdl.config.schedule import Holds, in_words, what_holds
from midasdl.identity import ProcessIdentity
from midasdl.ledger.health_statements import RECORD_STEP
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.runs import RunRegistry, beating
from midasdl.progress.audience import Listener
from midasdl.progress.events import Event, PaceChanged
from midasdl.tuning import Gauge, Tuning, TuningRules, tune, within

LOOK_EVERY_S = 1.0
"""How soon a run notices that another part of the week has begun."""

SIT_OUT_TICK_S = 0.5
"""How soon somebody who sits out a pause notices that he is asked to stop."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What holds now.

    Attributes
    ----------
    settings : Settings
        With the profile that holds; in a pause those outside of all windows.
    holds : Holds
        What the schedule says.
    """

    settings: Settings
    holds: Holds

    @property
    def name(self) -> str:
        """The profile that holds, or ``pause``."""
        return self.holds.profile or self.settings.performance.profile

    @property
    def rules(self) -> TuningRules:
        """How many workers may work."""
        return TuningRules.from_settings(self.settings)


class Paces:
    """The pace at any moment, by the schedule of some settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._windows = settings.performance.schedule
        profiles = {window.profile for window in self._windows if not Holds(window.profile).is_pause}
        self._with_profile = {profile: with_profile(settings, profile) for profile in profiles}

    @property
    def most_workers(self) -> int:
        """How many workers there can be at any time."""
        every = [self._settings, *self._with_profile.values()]
        return max(settings.performance.workers.count for settings in every)

    def at(self, now_us: int) -> Pace:
        """What holds at a moment."""
        holds = what_holds(self._windows, now_us)
        return Pace(self._with_profile.get(holds.profile or "", self._settings), holds)


def told(pace: Pace) -> str:
    """A pace as a sentence for a person."""
    holds = pace.holds
    until = "" if holds.until_us is None else f" until {in_words(holds.until_us, holds.time_zone)}"
    if holds.is_pause:
        return f"Paused by the schedule{until}."
    if holds.profile is None:
        return f"By the settings, the profile {pace.name} holds{until}."
    return f"By the schedule, the profile {pace.name} holds{until}."


def sit_out(
    ledger: Ledger, settings: Settings, run_id: int, listener: Listener, is_asked_to_stop: Callable[[], bool]
) -> Pace:
    """Wait until the schedule lets a run begin, or it is asked to stop; nothing is asked for meanwhile."""
    clock, paces, registry = ledger.clock, Paces(settings), RunRegistry(ledger)
    pace = paces.at(clock.now_us())
    if not pace.holds.is_pause:
        return pace
    waiting = registry.register(run_id, "command", "schedule", ProcessIdentity.current())
    change = PaceChanged("profile", None, pace.name, told(pace), paused=True)
    keep(ledger, settings, change)
    listener.follow(change)
    with beating(registry, waiting):
        while pace.holds.is_pause and not is_asked_to_stop():
            listener.tick(0)
            clock.wait(SIT_OUT_TICK_S)
            pace = paces.at(clock.now_us())
    registry.retire([waiting], dead=False)
    return pace


def keep(ledger: Ledger, settings: Settings, change: PaceChanged) -> None:
    """Keep a change among the steps of the server that is asked at another pace."""
    values = {"new_what": change.what, "new_from_value": change.before, "new_to_value": change.after}
    values |= {"new_reason": change.why, "new_host": urlsplit(settings.ceda.archive_url).netloc}
    with ledger.write() as connection:
        connection.execute(RECORD_STEP, {**values, "now": ledger.clock.now_us()})


class PaceKeeper:
    """Keeps a running job to its pace.

    Parameters
    ----------
    ledger : Ledger
        Changes are kept in it as steps, with their reasons.
    settings : Settings
    tell : callable
        Takes each change as an event.

    Attributes
    ----------
    pace : Pace
        What holds.

    Notes
    -----
    Concurrency: belongs to the coordinator's thread.
    """

    def __init__(self, ledger: Ledger, settings: Settings, tell: Callable[[Event], None]) -> None:
        self._ledger = ledger
        self._clock = ledger.clock
        self._paces = Paces(settings)
        self._tell = tell
        self._gauge = Gauge(ledger, urlsplit(settings.ceda.archive_url).netloc)
        self._next_look_s = self._next_sample_s = 0.0
        self.pace = self._paces.at(self._clock.now_us())
        self._tuning = Tuning(self.pace.rules.most)
        if self.pace.holds.profile is not None:
            self._note("profile", settings.performance.profile, self.pace.name, told(self.pace))

    @property
    def most_workers(self) -> int:
        """How many workers there can be at any time."""
        return self._paces.most_workers

    @property
    def wanted(self) -> int:
        """How many workers are to work now."""
        return 0 if self.pace.holds.is_pause else self._tuning.active

    def look(self, pids: Iterable[int]) -> bool:
        """See whether it is time for another pace by the schedule, or by the load; to be called often.

        Parameters
        ----------
        pids : iterable of int
            The processes of this run.

        Returns
        -------
        bool
            Whether workers must be told of other settings.
        """
        now_s = self._clock.monotonic()
        before = self.pace
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + LOOK_EVERY_S
            self._follow_schedule()
        if now_s >= self._next_sample_s:
            self._next_sample_s = now_s + self.pace.settings.performance.tuning.interval_seconds
            self._follow_load(pids)
        return before.settings is not self.pace.settings

    def _follow_schedule(self) -> None:
        before, self.pace = self.pace, self._paces.at(self._clock.now_us())
        if before.name != self.pace.name:
            self._tuning = within(self._tuning, before.rules, self.pace.rules)
            self._note("profile", before.name, self.pace.name, told(self.pace))

    def _follow_load(self, pids: Iterable[int]) -> None:
        if not self.pace.settings.performance.tuning.enabled or self.pace.holds.is_pause:
            return
        before = self._tuning
        self._tuning, why = tune(before, self._gauge.sample(pids), self.pace.rules)
        if why is not None:
            workers = f"{self._tuning.active} of {self.pace.rules.most} workers work"
            self._note("workers", str(before.active), str(self._tuning.active), f"{workers}: {why}.")

    def _note(self, what: str, before: str, after: str, why: str) -> None:
        """Keep a change for later, and tell it now."""
        change = PaceChanged(what, before, after, why, paused=self.pace.holds.is_pause)
        keep(self._ledger, self.pace.settings, change)
        self._tell(change)
