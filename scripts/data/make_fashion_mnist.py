"""Make the embedded data set: 10,000 training and 2,000 test images of Fashion-MNIST as Parquet.

    apt-get install dataset-fashion-mnist
    python scripts/data/make_fashion_mnist.py
    python scripts/data/make_fashion_mnist.py --all --out FOLDER    # all 60,000 and 10,000

They are the first images of each of the ten classes, as many of each class, in the original order;
test images are from the official test split. Source: Xiao et al.,
https://arxiv.org/abs/1708.07747 (MIT licence, see LICENSE.fashion-mnist beside this file).
"""

from __future__ import annotations

import argparse
import gzip
import io
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

SOURCE = Path("/usr/share/datasets/fashion-mnist")
TARGET = Path(__file__).parent / "fashion_mnist"
PER_CLASS: dict[str, int | None] = {"train": 1000, "test": 200}
"""Split -> images of each class in the embedded data set."""

CLASSES = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]


def read_idx(name: str, header: int) -> np.ndarray:
    """The bytes of a compressed IDX file after its header.

    Args:
        name: File in SOURCE.
        header: Length of the header in bytes.
    """
    with gzip.open(SOURCE / name) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def png(image: np.ndarray) -> dict[str, bytes | None]:
    """A grey image (H, W) uint8, in the form that `datasets` keeps images in."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png", optimize=True)
    return {"bytes": buffer.getvalue(), "path": None}


def make(folder: Path, per_class: dict[str, int | None]) -> None:
    """Write a Parquet file per split.

    Args:
        folder: Folder to write to, made if missing.
        per_class: Split -> how many of the first images of each class to take; None for all.
    """
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)}
    )
    folder.mkdir(parents=True, exist_ok=True)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = read_idx(f"{prefix}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
        labels = read_idx(f"{prefix}-labels-idx1-ubyte.gz", 8)
        chosen = np.sort(
            np.concatenate(
                [np.flatnonzero(labels == label)[: per_class[split]] for label in range(10)]
            )
        )
        table = datasets.Dataset.from_dict(
            {"image": [png(images[i]) for i in chosen], "label": labels[chosen].tolist()},
            features=features,
        )
        table.to_parquet(folder / f"{split}.parquet")
        print(split, len(table), np.bincount(labels[chosen]))


def main() -> None:
    """Write the embedded data set, or all images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="all images")
    parser.add_argument("--out", type=Path, default=TARGET, help="folder to write")
    options = parser.parse_args()
    if options.all and options.out == TARGET:
        parser.error("--all needs --out, another folder than the embedded data set's")
    make(options.out, {"train": None, "test": None} if options.all else PER_CLASS)


if __name__ == "__main__":
    main()
