"""Make the embedded data set: 10,000 training and 2,000 test images of Fashion-MNIST as Parquet.

    apt-get install dataset-fashion-mnist
    python scripts/data/make_fashion_mnist.py
    python scripts/data/make_fashion_mnist.py --all --out FOLDER    # all 60,000 and 10,000

Balanced over the ten classes, the first images of each class in the original order; test images
are from the official test split. Source: Xiao et al., https://arxiv.org/abs/1708.07747 (MIT
licence, see LICENSE.fashion-mnist beside this file).
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
    with gzip.open(SOURCE / name) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def png(image: np.ndarray) -> dict[str, bytes | None]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png", optimize=True)
    return {"bytes": buffer.getvalue(), "path": None}


def make(folder: Path, per_class: dict[str, int | None]) -> None:
    """Write a Parquet file per split: the first images of each class, or all of them for None."""
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
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", action="store_true", help="all images")
    parser.add_argument("--out", type=Path, default=TARGET, help="folder to write")
    options = parser.parse_args()
    if options.all and options.out == TARGET:
        parser.error("--all needs --out, another folder than the embedded data set's")
    make(options.out, {"train": None, "test": None} if options.all else PER_CLASS)


if __name__ == "__main__":
    main()
