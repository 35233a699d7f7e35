"""What the terminal says of a run while it trains."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm


class Progress:
    """A bar on a terminal, and lines in a log file; scores are lines in both.

    Used as a context manager, which ends the bar. Everything goes to stderr.

    Args:
        accelerator: of this process; only the main process says anything.
        start: the step at which the run starts.
        num_steps: the step at which it ends.
        has_bar: whether a terminal gets a bar, or lines like a file.
    """

    def __init__(
        self, accelerator: Accelerator, start: int, num_steps: int, *, has_bar: bool
    ) -> None:
        self.is_silent = not accelerator.is_main_process
        self.has_bar = has_bar and sys.stderr.isatty()
        self.num_steps = num_steps
        self.bar = tqdm(total=num_steps, initial=start, disable=self.is_silent or not self.has_bar)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def on_step(self) -> None:
        """A step is done."""
        self.bar.update()

    def on_window(self, metrics: Mapping[str, Any], done: int) -> None:
        """The metrics of a window, see `mae_et.meter`, have been read after `done` steps."""
        if self.has_bar:
            self.bar.set_postfix_str(describe(metrics))
        else:
            self._say(describe(metrics), done)

    def on_scores(self, scores: Mapping[str, float], done: int) -> None:
        """An evaluation or a probe after `done` steps has given scores."""
        self._say(", ".join(f"{name} {value:.4f}" for name, value in scores.items()), done)

    def _say(self, text: str, done: int) -> None:
        if not self.is_silent:
            tqdm.write(f"step {done} of {self.num_steps}: {text}", file=sys.stderr)


def describe(metrics: Mapping[str, Any]) -> str:
    """The metrics of a window in words."""
    skipped = f", {metrics['skipped_steps']} steps skipped" if metrics["skipped_steps"] else ""
    bad = f", {metrics['bad_images']} bad images" if metrics["bad_images"] else ""
    return (
        f"size {metrics['size']}, loss {metrics['loss']:.4f}, lr {metrics['lr']:.2e}, "
        f"{metrics['images_per_s']:.0f} images/s, {metrics['data_wait']:.0%} waiting for data"
        + skipped
        + bad
    )
