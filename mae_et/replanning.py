"""Schedules that change on the way, so that a run ends in time although its speed is another one.

The rest of the schedule is passed in fewer steps, or in more: each of its stages keeps its share of
them and its part of the learning-rate schedule. A schedule that was replanned is a pure function of
the step, as any other, and up to the step at which it changed it is the one that was planned.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .curriculum import Curriculum


@dataclass(frozen=True, kw_only=True)
class ReplannedCurriculum(Curriculum):
    """A curriculum whose steps from `since` on are fewer or more than planned.

    Args:
        stages: The stages, as many as planned.
        planned: The curriculum without this change.
        since: The first step that is not as planned.
    """

    planned: Curriculum
    since: int

    def lr_progress(self, step: int) -> float:
        """Return the part of the learning-rate schedule, in [0, 1], that precedes a step.

        Raises:
            ValueError: The step is outside [0, num_steps].
        """
        self._check(step, self.num_steps)
        if step <= self.since:
            return self.planned.lr_progress(step)
        index = self._index(step - 1)
        first, stage = self.planned.stages[index], self.stages[index]
        start = self.planned.lr_progress(max(first.start, self.since))
        stop = self.planned.lr_progress(first.stop)
        passed = step - max(stage.start, self.since)
        return start + (stop - start) * passed / (stage.stop - max(stage.start, self.since))


def replan(planned: Curriculum, since: int, num_steps: int) -> ReplannedCurriculum:
    """Pass what is left of a curriculum in another number of steps.

    Args:
        planned: The curriculum.
        since: The step from which on it changes; a run has come this far.
        num_steps: The steps that the whole run has then. Every stage that is left gets at least
            one, however few they are.

    Raises:
        ValueError: The numbers are not those of a run on its way.
    """
    if not 0 <= since < min(num_steps, planned.num_steps):
        raise ValueError(
            "run.replanned must hold [step, steps of the run] of a run of "
            f"{planned.num_steps} steps, got [{since}, {num_steps}]"
        )
    left = [stage for stage in planned.stages if stage.stop > since]
    num_steps = max(num_steps, since + len(left))
    share = (num_steps - since) / (planned.num_steps - since)
    stages = [stage for stage in planned.stages if stage.stop <= since]
    for number, stage in enumerate(left, 1):
        start = stages[-1].stop if stages else 0
        wanted = since + round(share * (stage.stop - since))
        stop = min(max(wanted, max(start, since) + 1), num_steps - (len(left) - number))
        stages.append(replace(stage, start=start, stop=stop))
    return ReplannedCurriculum(stages=tuple(stages), planned=planned, since=since)


def replan_all(planned: Curriculum, replanned: Iterable[tuple[int, int]]) -> Curriculum:
    """Apply what changed a run, one after another; see `replan`.

    Args:
        planned: The curriculum.
        replanned: (step, steps of the run) of each time.
    """
    for since, num_steps in replanned:
        planned = replan(planned, since, num_steps)
    return planned
