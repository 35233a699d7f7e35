"""What distinguishes the runs of a schedule search: the sizes of their stages, and their past."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from ..curriculum import Curriculum, Size

Past = tuple[tuple[Size, int], ...]
"""Size and steps of each stage that a run has behind it."""


HEADER = f"{'trial':<10} {'sizes':<24} {'steps':>7} {'cost':>7} {'score':>7}  by seed"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A scored run."""

    purpose: str
    sizes: tuple[Size, ...]
    """The sizes of all stages, including those after the run's end."""
    steps: int
    is_whole: bool
    """Whether the run goes to the end of its schedule."""
    cost: float
    """FLOPs, relative to those of a whole run at full size."""
    scores: tuple[float, ...]
    """Top-1 accuracy by seed, in [0, 1]."""

    @property
    def score(self) -> float:
        """The mean score over the seeds."""
        return fmean(self.scores)

    @property
    def name(self) -> str:
        """The sizes as one word."""
        return "-".join(map(size_name, self.sizes))

    def row(self) -> str:
        """Return the trial as a line under `HEADER`."""
        cells = f"{self.purpose:<10} {self.name:<24} {self.steps:>7} {self.cost:>7.1%}"
        return f"{cells} {self.score:>7.2%}  {' '.join(f'{score:.2%}' for score in self.scores)}"


def size_name(size: Size) -> str:
    """Return the name of a size, such as 160 or 160x192."""
    return str(size) if isinstance(size, int) else f"{size[0]}x{size[1]}"


def past_at(schedule: Curriculum, stop: int) -> Past:
    """Return what a schedule has behind it at a step, stage by stage."""
    stages = [stage for stage in schedule.stages if stage.start < stop]
    return tuple((stage.size, min(stage.stop, stop) - stage.start) for stage in stages)


def begins_with(path: Past, start: Past) -> bool:
    """Return whether a past continues another: it has all its stages, the last perhaps longer."""
    *whole, (size, steps) = start
    count = len(whole)
    if len(path) <= count or list(path[:count]) != whole:
        return False
    return path[count][0] == size and path[count][1] >= steps


def num_steps(path: Past) -> int:
    """Return the number of steps of a past."""
    return sum(steps for _, steps in path)
