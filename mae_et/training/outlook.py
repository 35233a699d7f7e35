"""When a run will end, judged by the steps that it has taken, and whether that is late."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from ..config import RunConfig
from ..curriculum import Curriculum, Size, area

LATE, EARLY = 1.05, 0.95
"""The shares of its hours above and below which a run is late or early."""

SETTLED, LEAST_SETTLED = 0.05, 120.0
"""The share of the hours, and at least the seconds, after which the speed is judged.

At first, workers start; and a run that is replanned starts them anew, which has to pay.
"""

IN_TIME = 0.985
"""The share of its hours in which a run that is replanned is to end."""

REPLANS = ("shorten", "fit")
"""Values of `run.on_late` that change the steps that are left."""

AGAIN = "Started again, --hours plans with the present speed"
FOLLOWS = {
    "go": f"--resume auto --run.on_late shorten passes the rest in fewer steps. {AGAIN}",
    "shorten": "the rest of its schedule is passed in fewer steps",
    "fit": "the rest of its schedule is passed in fewer steps",
    "stop": f"it is stopped then, with a checkpoint. {AGAIN}",
}
"""What follows if a run is late, by `run.on_late`."""


@dataclass
class _Pace:
    """The steps of a size that have been timed."""

    windows: int = 0
    steps: int = 0
    seconds: float = 0.0

    def add(self, steps: int, seconds: float) -> None:
        """Count a window; the first one is forgotten, in which workers start."""
        if self.windows == 1:
            self.steps, self.seconds = 0, 0.0
        self.windows += 1
        self.steps += steps
        self.seconds += seconds


class Outlook:
    """Estimates the time that the rest of a run takes.

    A size that no step was taken at counts by what was planned for it, scaled as the latest size
    turned out; without a plan, by its pixels. Evaluations and checkpoints take the same time at
    every size, so they count by steps.

    Args:
        schedule: The stages of the run.
        planned: Seconds of a step at each size, as measured before the run; empty if unknown.
    """

    def __init__(self, schedule: Curriculum, planned: Mapping[Size, float] | None = None) -> None:
        self.schedule = schedule
        self._planned = planned or {
            stage.size: float(stage.times * area(stage.size)) for stage in schedule.stages
        }
        self._paces: dict[Size, _Pace] = {}
        self._latest: Size | None = None
        self._steps, self._trained = 0, 0.0
        self.start()

    def start(self) -> None:
        """Begin to count the time: the first step is next."""
        self._began = time.monotonic()

    def add(self, size: Size, steps: int, seconds: float) -> None:
        """Count a window of steps.

        Args:
            size: The size that they were taken at.
            steps: How many they were.
            seconds: What they took.
        """
        self._paces.setdefault(size, _Pace()).add(steps, seconds)
        self._latest = size
        self._steps += steps
        self._trained += seconds

    def seconds_left(self, done: int) -> float | None:
        """Return the time that the steps after `done` take, and with them evaluations and saving.

        Args:
            done: The steps taken so far.

        Returns:
            Seconds; None before the first window.
        """
        if self._latest is None:
            return None
        beside = max(0.0, time.monotonic() - self._began - self._trained) / self._steps
        return sum(
            max(0, stage.stop - max(stage.start, done)) * (self._per_step(stage.size) + beside)
            for stage in self.schedule.stages
        )

    def _per_step(self, size: Size) -> float:
        if size in self._paces:
            return self._paces[size].seconds / self._paces[size].steps
        assert self._latest is not None
        slower = self._per_step(self._latest) / self._planned[self._latest]
        return self._planned[size] * slower


class Deadline:
    """Says once if a run is going to be late, and whether its hours are over.

    Args:
        run: The section `run` of the configuration.
        began: When the hours began, by `time.monotonic`.
    """

    def __init__(self, run: RunConfig, began: float) -> None:
        self.run, self.began, self.is_said = run, began, False
        self._trains_since = time.monotonic()

    def warning(self, left: float | None) -> str | None:
        """Return what to say of a run that will be late; None if it will not, or it has been said.

        Args:
            left: The seconds that it still takes, if they are known.
        """
        expected = self._expected(left)
        hours = self.run.hours
        if hours is None or expected is None or expected <= LATE or self.is_said:
            return None
        self.is_said = True
        return (
            f"the run is slower than planned: {expected * hours:.3g} hours in place of "
            f"{hours:g}; {FOLLOWS[self.run.on_late]}"
        )

    def share(self, left: float | None) -> float | None:
        """Return how many times the steps that are left there is time for.

        Args:
            left: The seconds that they take, if they are known.

        Returns:
            A number from 0, below 1 if the run is late; None if it is to be left as it is, or is
            done.
        """
        expected = self._expected(left)
        if not left or expected is None or self.run.on_late not in REPLANS:
            return None
        is_early = self.run.on_late == "fit" and expected < EARLY
        if not (is_early or expected > LATE):
            return None
        assert self.run.hours is not None
        there_is = IN_TIME * 3600 * self.run.hours - (time.monotonic() - self.began)
        return max(0.0, there_is / left)

    def _expected(self, left: float | None) -> float | None:
        """Return the share of its hours that the run takes in all; None if it is not known yet."""
        hours, now = self.run.hours, time.monotonic()
        if hours is None or left is None:
            return None
        if now - self._trains_since < max(SETTLED * 3600 * hours, LEAST_SETTLED):
            return None
        return (now - self.began + left) / (3600 * hours)

    def is_over(self) -> bool:
        """Return whether the run has to stop now."""
        hours = self.run.hours
        passed = time.monotonic() - self.began
        return hours is not None and self.run.on_late == "stop" and passed > 3600 * hours


def clock(seconds: float) -> str:
    """Return a time as hours and minutes, or minutes and seconds, such as 2:05 h or 0:41 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours}:{minutes_left:02} h" if hours else f"{minutes}:{rest:02} min"
