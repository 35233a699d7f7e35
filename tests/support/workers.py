"""What a loader reads in its workers, which import it."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

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
            "not_collected": gc.get_freeze_count(),
            "page_faults": min(page_faults() for _ in range(4)),
        }


def page_faults() -> int:
    """The page faults of writing to 20 MiB, or 5120 pages, in blocks as of images."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.ones(2**22, np.uint8) for _ in range(5)]
    assert len(blocks) == 5
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


class Numbered:
    """A transform that reads the number out of the pixels."""

    def __call__(self, image: data.AnyImage, index: int, number: int) -> dict[str, Any]:
        pixels: Any = image.decode()
        red, green, _ = pixels.getpixel((0, 0))
        return {"image": red * 256 + green, "number": number, "noise": torch.rand(())}


class LoadedModules(Dataset[list[bool]]):
    """One item: whether the process that reads it has imported each of some modules."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> list[bool]:
        return [name in sys.modules for name in self.names]


class Unsendable:
    """An object that cannot be sent to another process."""

    def __reduce__(self) -> Any:
        raise TypeError("this stays where it is")


class Faulty(Dataset[dict[str, Any]]):
    """Batches of which that of a number goes wrong in a way of its own."""

    def __init__(self, fault: str, number: int) -> None:
        self.fault, self.number = fault, number

    def __len__(self) -> int:
        return 100

    def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        value: Any = torch.tensor(numbers[0])
        if numbers[0] == self.number:
            match self.fault:
                case "hangs":
                    time.sleep(600)
                case "bus error":
                    os.kill(os.getpid(), signal.SIGBUS)
                case "no shared memory":
                    raise RuntimeError("unable to allocate shared memory(shm) for file </t>: …")
                case "files":
                    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
                case "cannot be sent":
                    return [{"unreadable": [Unsendable()]}]
        return [{"number": value, "unreadable": []}]
