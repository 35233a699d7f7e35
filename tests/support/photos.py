"""A folder of pictures with splits and classes, as packing meets them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.images import encode

CLASSES = ("10", "9", "cat")
"""In the order of names; two of them look like numbers."""


def photo(seed: int, height: int = 120, width: int = 176, mode: str = "RGB") -> Image.Image:
    """Smooth colours, different for each seed: noise would lose its colours to JPEG."""
    pixels = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    small = Image.fromarray(pixels)
    return small.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def photo_folder(root: Path, per_class: int = 12) -> Path:
    """Write JPEG files in train and val, of three classes, and one of each other kind in train."""
    for split, number in (("train", per_class), ("val", 2)):
        for place, label in enumerate(CLASSES):
            (root / split / label).mkdir(parents=True)
            for index in range(number):
                content = encode(photo(100 * place + index + 50 * (split == "val")))
                (root / split / label / f"photo {index}.of.jpg").write_bytes(content)
    kinds = root / "train" / "cat"
    (kinds / "bad.jpg").write_bytes(b"no image at all")
    (kinds / "cut.jpg").write_bytes(encode(photo(7))[:-300])
    (kinds / "small.jpg").write_bytes(encode(photo(8, 40, 56)))
    deep = np.random.default_rng(0).integers(0, 65536, (90, 70), np.uint16)
    Image.fromarray(deep).save(kinds / "deep.png")
    np.save(kinds / "bands.npy", np.random.default_rng(0).normal(size=(5, 20, 20)))
    return root
