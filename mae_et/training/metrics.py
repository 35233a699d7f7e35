"""What a run measures about itself between two log steps, without synchronising inside a step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ..errors import RunStoppedError


class Meter:
    """Sums over a window of steps: losses, skipped steps, images, seconds and seconds of waiting.

    Args:
        accelerator: The accelerator of this process.
        max_skipped_steps: Consecutive skipped steps after which the run stops.
    """

    def __init__(self, accelerator: Accelerator, max_skipped_steps: int) -> None:
        self.accelerator = accelerator
        self.max_skipped_steps = max_skipped_steps
        self.skipped = torch.zeros((), device=accelerator.device)
        self.skipped_in_a_row = torch.zeros((), device=accelerator.device)
        self.restart()

    def restart(self) -> None:
        """Begin a new window."""
        self._loss = torch.zeros((), device=self.accelerator.device)
        self._norm = torch.zeros((), device=self.accelerator.device)
        self._counted = torch.zeros((), device=self.accelerator.device)
        self._images = 0
        self._waited = 0.0
        self._excluded = 0.0
        self._started = time.perf_counter()

    @contextmanager
    def excluded(self) -> Iterator[None]:
        """Exclude the time of work that is not training from the window."""
        if self.accelerator.device.type == "cuda":
            torch.cuda.synchronize()  # what is still running counts as training
        start = time.perf_counter()
        yield
        self._excluded += time.perf_counter() - start

    def timed(self, iterator: Iterator[Any]) -> Iterator[Any]:
        """Pass on the items of an iterator, and count the time spent waiting for them."""
        while True:
            start = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self._waited += time.perf_counter() - start
            yield item

    def add(self, loss: Tensor, norm: Tensor, num_images: int) -> None:
        """Count a step: its loss (), gradient norm (), and images over all processes."""
        finite = norm.isfinite()
        self._loss += torch.where(finite, loss, 0.0)
        self._norm += torch.where(finite, norm, 0.0)
        self._counted += finite
        self.skipped += ~finite
        self.skipped_in_a_row = torch.where(finite, 0.0, self.skipped_in_a_row + 1)
        self._images += num_images

    def read(self) -> dict[str, float]:
        """Return the window's means, the same in every process, and begin a new window.

        This waits for the device.

        Raises:
            RunStoppedError: Too many consecutive steps had a non-finite gradient.
        """
        count = self._counted.clamp(min=1)
        loss = self.accelerator.reduce(self._loss / count, "mean")
        values = torch.stack([loss, self._norm / count, self.skipped, self.skipped_in_a_row])
        loss, norm, skipped, in_a_row = values.tolist()
        seconds = time.perf_counter() - self._started - self._excluded
        images, waited = self._images, self._waited
        self.restart()
        if in_a_row >= self.max_skipped_steps:
            raise RunStoppedError(
                f"{in_a_row:.0f} steps in a row had a non-finite gradient "
                f"(optim.max_skipped_steps is {self.max_skipped_steps}). Try a lower "
                "optim.base_lr, a longer optim.warmup_epochs, optim.clip_grad 1.0, or "
                "run.mixed_precision bf16 in place of fp16"
            )
        return {
            "loss": loss,
            "grad_norm": norm,
            "skipped_steps": int(skipped),
            "processes": self.accelerator.num_processes,
            "images": images,
            "seconds": seconds,
            "images_per_s": images / seconds,
            "data_wait": waited / seconds,
        }


class StageWait:
    """The share of a stage's time that went into waiting for data."""

    def __init__(self) -> None:
        self.size: object = None

    def add(self, metrics: Mapping[str, Any]) -> float:
        """Count a window, and return the share in [0, 1] so far; 0 for fewer than 5 windows.

        The first window of a stage is left out: workers start in it, and models are compiled.
        """
        if metrics["size"] != self.size:
            self.size, self.windows, self.seconds, self.waited = metrics["size"], 0, 0.0, 0.0
            return 0.0
        self.windows += 1
        self.seconds += metrics["seconds"]
        self.waited += metrics["seconds"] * metrics["data_wait"]
        return self.waited / self.seconds if self.windows >= 5 else 0.0
