"""Show the progress of a run on the terminal while it trains."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm

from ..curriculum import Curriculum
from ..errors import is_installed
from ..terminal import terminal_width
from .outlook import clock

BAR = "{n_fmt}/{total_fmt} |{bar}| {elapsed}{postfix}"
"""How tqdm draws the bar: the time taken, then the last window. Its own time left would be wrong,
since later stages are slower."""


class Progress:
    """A bar on a terminal, and lines in a log file; scores are lines in both.

    Use it as a context manager, which closes the bar. Everything goes to stderr.

    Args:
        accelerator: The accelerator of this process; only the main process prints anything.
        start: The step at which the run starts.
        schedule: Its stages.
        num_steps: The step at which it ends.
        has_bar: Whether a terminal gets a bar; if not, it gets lines, like a file.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        start: int,
        schedule: Curriculum,
        num_steps: int,
        has_bar: bool,
    ) -> None:
        self.accelerator, self.schedule = accelerator, schedule
        self.best: dict[str, float] = {}
        self.is_silent = not accelerator.is_main_process
        self.has_bar = has_bar and (terminal_width() > 0 or is_notebook())
        self.start, self.num_steps = start, num_steps
        self.bar = _bar_type()(
            total=num_steps,
            initial=start,
            disable=self.is_silent or not self.has_bar,
            bar_format=BAR,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def on_start(
        self,
        folder: Path,
        batch_size: int,
        num_images: int,
        num_held_out: int,
    ) -> None:
        """Say what the run will do, before its first step."""
        world, device = self.accelerator.num_processes, self.accelerator.device.type
        schedule = self.schedule
        self.say(
            f"{folder}: {num_images} images, {num_held_out} held out; steps of {batch_size}: "
            f"{steps_by_size(schedule)}; processes on {device}: {world}"
        )
        if self.start == self.num_steps:
            self.say(f"all {self.num_steps} steps are done already")
        elif self.start:
            self.say(f"resuming after step {self.start} of {self.num_steps}")
        if batch_size > num_images:
            self.say(
                f"optim.batch_size {batch_size} is more than the {num_images} training images: "
                f"{schedule.num_steps} steps in all. A smaller batch makes more steps"
            )

    def on_step(self) -> None:
        """Count a step."""
        self.bar.update()

    def on_window(self, metrics: Mapping[str, Any], done: int, left: float | None = None) -> None:
        """Show the metrics of a window, read after `done` steps.

        Args:
            metrics: See `metrics`.
            done: The steps taken so far.
            left: Seconds that the run still takes, if they are known.
        """
        stage = self.schedule.stages.index(self.schedule.stage_at(done - 1)) + 1
        text = f"stage {stage}/{len(self.schedule.stages)}, {describe(metrics, left, self.best)}"
        if self.has_bar:
            self.bar.set_postfix_str(text)
        else:
            self._say_of(done, text)

    def on_scores(self, scores: Mapping[str, float], done: int) -> None:
        """Print the scores of an evaluation or a probe after `done` steps."""
        for name, value in scores.items():
            if "loss" not in name:
                self.best[name] = max(value, self.best.get(name, value))
        self._say_of(done, ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))

    def _say_of(self, done: int, text: str) -> None:
        self.say(f"step {done} of {self.num_steps}: {text}")

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        if not self.is_silent:
            tqdm.write(line, file=sys.stderr)


def _bar_type() -> type[tqdm[Any]]:
    """Return the bar of notebooks in one; tqdm's own choice warns where there can be none."""
    if not is_notebook():
        return tqdm
    from tqdm.notebook import tqdm as notebook_bar

    return notebook_bar


def is_notebook() -> bool:
    """Return whether this process is the kernel of a notebook that can show a bar."""
    return "ipykernel" in sys.modules and is_installed("ipywidgets")


def steps_by_size(schedule: Curriculum) -> str:
    """Describe the steps of a schedule, joining consecutive stages of one size."""
    by_size = groupby(schedule.stages, key=lambda stage: stage.size)
    parts = []
    for size, group in by_size:
        stages = list(group)
        times = f" (batch ×{stages[0].times})" if stages[0].times > 1 else ""
        parts.append(f"{sum(stage.num_steps for stage in stages)} at size {size}{times}")
    return ", ".join(parts)


def describe(
    metrics: Mapping[str, Any], left: float | None = None, best: Mapping[str, float] | None = None
) -> str:
    """Describe the metrics of a window, the most important ones first.

    Args:
        metrics: See `metrics`.
        left: Seconds that the run still takes, if they are known.
        best: The best scores so far, by name.
    """
    skipped = f", {metrics['skipped_steps']} steps skipped" if metrics["skipped_steps"] else ""
    bad = f", {metrics['bad_images']} bad images" if metrics["bad_images"] else ""
    remaining = "" if left is None else f", {clock(left)} left"
    scores = "".join(f", best {name} {value:.2%}" for name, value in (best or {}).items())
    return (
        f"size {metrics['size']}, {metrics['images_per_s']:.0f} images/s{remaining}, "
        f"loss {metrics['loss']:.4f}{scores}, {metrics['data_wait']:.0%} waiting"
        f"{skipped}{bad}, lr {metrics['lr']:.2e}"
    )
