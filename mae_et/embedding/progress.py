"""How far the features have got, on a terminal or in a log."""

from __future__ import annotations

import sys
import time

from accelerate import Accelerator
from tqdm import tqdm

from ..training import terminal_width

SECONDS = 30.0
"""Time between lines, where there is no terminal for a bar."""


class Advance:
    """Shows how far the main process has got: a bar on a terminal, or a line now and then.

    Args:
        accelerator: The accelerator of this process.
        total: Images to embed, over all processes.
    """

    def __init__(self, accelerator: Accelerator, total: int) -> None:
        self.world = accelerator.num_processes
        self.total, self.done = total, 0
        self.started = self.said = time.monotonic()
        self.has_bar = terminal_width() > 0
        self.is_silent = not accelerator.is_main_process
        self.bar = tqdm(total=total, unit=" images", disable=self.is_silent or not self.has_bar)

    def __enter__(self) -> Advance:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def by(self, number: int) -> None:
        """Count images; every process embeds about as many."""
        number = min(number * self.world, self.total - self.done)
        self.done += number
        self.bar.update(number)
        now = time.monotonic()
        if self.is_silent or self.has_bar or now - self.said < SECONDS:
            return
        self.said = now
        rate = self.done / (now - self.started)
        print(
            f"{self.done:,} of {self.total:,} images, {rate:,.0f} images/s, "
            f"{(self.total - self.done) / rate / 60:.0f} min left",
            file=sys.stderr,
        )
