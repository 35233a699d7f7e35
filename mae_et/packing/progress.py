"""Show how far packing has got: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

EVERY = 30.0
"""Seconds between two lines."""


class Progress:
    """Counts images. Use it as a context manager, which closes the bar; all goes to stderr.

    Args:
        done: Images that an earlier call has packed.
        total: Images in all.
    """

    def __init__(self, done: int, total: int) -> None:
        self.first = self.done = done
        self.total = total
        self.began = self.said = time.monotonic()
        # None: a bar on a terminal only.
        self.bar = tqdm(initial=done, total=total, unit=" images", disable=None, desc="packed")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def add(self, number: int) -> None:
        """Count some images, and say how far packing is if this was long ago."""
        self.done += number
        self.bar.update(number)
        now = time.monotonic()
        if self.bar.disable and now - self.said >= EVERY:
            rate = (self.done - self.first) / (now - self.began)
            left = (self.total - self.done) / rate / 60
            print(
                f"packed {self.done:,} of {self.total:,} images, {rate:,.0f} images/s, "
                f"{left:,.0f} minutes left",
                file=sys.stderr,
            )
            self.said = now
