"""What a terminal shows of work on images: a bar, or a line now and then where there is none."""

from __future__ import annotations

import os
import sys
import time

from tqdm import tqdm

EVERY = 30.0
"""Seconds between two lines."""


class ImageBar:
    """Counts images. Use it as a context manager, which closes the bar; all goes to stderr.

    Args:
        total: Images in all.
        done: Images that an earlier call has been through.
        what: What has happened to an image that is counted, such as "packed"; empty to leave it
            out.
        is_silent: Whether nothing is shown, as in all processes but one.
    """

    def __init__(
        self, total: int, *, done: int = 0, what: str = "", is_silent: bool = False
    ) -> None:
        self.first = self.done = done
        self.total, self.what, self.is_silent = total, what, is_silent
        self.began = self.said = time.monotonic()
        self.bar = tqdm(
            initial=done,
            total=total,
            unit=" images",
            desc=what or None,
            disable=is_silent or terminal_width() == 0,
        )

    def __enter__(self) -> ImageBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def add(self, number: int) -> None:
        """Count some images, and say how far the work is if this was long ago."""
        self.done += number
        self.bar.update(number)
        now = time.monotonic()
        if self.is_silent or not self.bar.disable or now - self.said < EVERY:
            return
        self.said = now
        rate = (self.done - self.first) / (now - self.began)
        left = (self.total - self.done) / rate / 60
        print(
            f"{self.what} {self.done:,} of {self.total:,} images, {rate:,.0f} images/s, "
            f"{left:,.0f} minutes left".lstrip(),
            file=sys.stderr,
        )


def terminal_width() -> int:
    """Return the width of the terminal behind stderr in columns; 0 if there is none or unknown."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return 0
