"""Images that cost no disk and no decoder, for benchmarks.

With this folder on PYTHONPATH: `--data.path python:in_memory:images`.
"""

from __future__ import annotations

import io

import datasets
import numpy as np

NUM_IMAGES, SIZE = 2048, 224


def images() -> datasets.Dataset:
    """Random pixels (SIZE, SIZE, 3) as bytes of .npy files, in the memory of the process."""
    generator = np.random.default_rng(0)

    def npy() -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, generator.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))
        return buffer.getvalue()

    return datasets.Dataset.from_dict({"image": [npy() for _ in range(NUM_IMAGES)]})
