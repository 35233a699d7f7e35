"""List the images of a run that could not be decoded, and hold their number to a limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from accelerate.utils import gather_object

from ..config import ImagesConfig
from ..errors import RunStoppedError
from .run_folder import RunFolder


class BadImages:
    """Lists the images that could not be decoded, and stops the run if there are too many.

    A resumed run continues its existing list. Repaired images are taken off it by hand.

    Args:
        num_images: Number of images of the data set.
        source: The data configuration, which says how many of them may be unreadable.
        run: The run folder, which holds the list.
    """

    def __init__(self, num_images: int, source: ImagesConfig, run: RunFolder) -> None:
        self.num_images = num_images
        self.is_strict = source.bad_images == "raise"
        self.max_share = source.max_bad_share
        self.run = run
        self.listed = run.read_bad_images()
        self._noted: dict[str, str] = {}

    def noted(self, chunks: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Pass on the chunks, and note their unreadable images for the next `check`."""
        for chunk in chunks:
            for name, reason in chunk["unreadable"]:
                if self.is_strict or name not in self.listed:
                    self._noted.setdefault(name, reason)
            yield chunk

    def check(self) -> int:
        """List what all processes have noted, each image once; every process must call this.

        Returns:
            The number of images on the list.

        Raises:
            RunStoppedError: Too many images of the data set are unreadable.
        """
        accelerator, noted = self.run.accelerator, self._noted
        if accelerator.num_processes > 1:
            count = torch.tensor(len(noted), device=accelerator.device)
            if accelerator.reduce(count, "sum").item():
                noted = dict(sorted(gather_object(list(noted.items()))))
        new = {name: reason for name, reason in noted.items() if name not in self.listed}
        self._noted = {}
        self.listed |= new
        self.run.write_bad_images(new)
        number = len(self.listed)
        if self.is_strict and noted:
            allowed, (name, reason) = "data.bad_images is raise", next(iter(noted.items()))
        elif not self.is_strict and number > self.max_share * self.num_images:
            allowed = f"data.max_bad_share allows {self.max_share:.2%}"
            name, reason = next(iter(self.listed.items()))
        else:
            return number
        raise RunStoppedError(
            f"{number} of {self.num_images} images are unreadable, and {allowed}; "
            f"one of them: {name}: {reason}"
        )
