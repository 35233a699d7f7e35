"""Mean and deviation per channel of a data set: what `data.mean` and `data.std` should be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from . import data
from .cli import LineParser
from .config import check


def channel_mean_and_std(images: data.ImageTable, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(C,), (C,): over the pixels of whole images, values in [0, 1], every image weighing the same.

    Images that can't be decoded are left out.

    Raises:
        ValueError: none can be decoded.
    """
    moments = []
    for row in rows:
        try:
            pixels = np.asarray(images[row].decode(), dtype=np.float64) / 255
        except data.UnreadableImageError:
            continue
        flat = torch.from_numpy(pixels).reshape(pixels.shape[0] * pixels.shape[1], -1)
        moments.append(torch.stack([flat.mean(0), flat.square().mean(0)]))
    if not moments:
        raise ValueError(f"data.path must hold images, got {len(rows)} of which none is readable")
    mean, square = torch.stack(moments).mean(0)
    return mean, (square - mean.square()).clamp(min=0).sqrt()


def main(arguments: Sequence[str]) -> None:
    """The command ``mae_et stats``.

    Raises:
        ValueError: the data or an option is bad.
    """
    parser = LineParser(prog="mae_et stats", description=__doc__)
    parser.add_argument("--data.path", type=str, required=True, help="images, as for pretrain")
    parser.add_argument("--data.split", type=str, default="train")
    parser.add_argument("--data.image_column", type=str, help="found if it is the only one")
    parser.add_argument("--in_chans", type=int, default=3, help="1, 3 or 4")
    parser.add_argument("--num_images", type=int, default=2000, help="chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="chooses the images")
    options = parser.parse_args(list(arguments))
    check(options.in_chans in (1, 3, 4), "--in_chans", options.in_chans, "1, 3 or 4")
    check(options.num_images > 0, "--num_images", options.num_images, "above 0")
    check(options.seed >= 0, "--seed", options.seed, "at least 0")
    splits = data.load_splits(options["data.path"])
    split = data.take_split(splits, options["data.split"], "data.split")
    images = data.ImageTable(split, options["data.image_column"], options.in_chans)
    order = np.random.default_rng([options.seed, 4]).permutation(len(images))
    rows = np.sort(order[: options.num_images]).tolist()
    mean, std = channel_mean_and_std(images, rows)
    for name, values in (("mean", mean), ("std", std)):
        print(f"--data.{name} '[{', '.join(f'{value:.4f}' for value in values.tolist())}]'")
