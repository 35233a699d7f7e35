"""What a loader reads in its workers, which import it."""

from __future__ import annotations

import os
import signal
from typing import Any

import torch
from PIL import Image

from mae_et import data
from mae_et.workers import STOP_SIGNALS


class Surroundings:
    """A transform that tells of the process it runs in."""

    def __call__(self, image: data.AnyImage, index: int, number: int) -> dict[str, Any]:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        return {
            "parent": os.getppid(),
            "blocked": blocked >= set(STOP_SIGNALS),
            "has_plugin": "OWN" in Image.MIME,
        }


class Numbered:
    """A transform that reads the number out of the pixels."""

    def __call__(self, image: data.AnyImage, index: int, number: int) -> dict[str, Any]:
        pixels: Any = image.decode()
        red, green, _ = pixels.getpixel((0, 0))
        return {"image": red * 256 + green, "number": number, "noise": torch.rand(())}
