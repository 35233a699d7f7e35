"""What automatic settings give: a run with all of its settings, and what it will take."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import PretrainConfig
from ..training.outlook import clock
from .choices import Choices
from .hours import Speed

FEW_STEPS = 500
"""Steps below which the table says that they are few. Ours: the demo has 470."""


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A run with all of its settings."""

    config: PretrainConfig
    choices: Choices
    speed: Speed
    seconds: float
    """About how long the run takes, in seconds."""
    steps: int
    """Optimizer steps of the run."""
    before: float
    """Seconds that went into looking at the images and measuring."""

    def table(self) -> str:
        """Return the settings that were chosen, with their reasons, and the time they take."""
        took = f"about {clock(self.seconds)} for {self.steps:,} steps: {self.speed.words()}"
        if self.steps < FEW_STEPS:
            took += (
                f"\n  {self.steps:,} steps are too few to learn much ({clock(self.before)} went "
                "into looking and measuring); more hours or a smaller --model.image_size give more"
            )
        return f"{self.choices.table()}\n  {took}"
