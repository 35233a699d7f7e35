"""Mean and deviation per channel of a data set: what `data.mean` and `data.std` should be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from . import data
from .checks import check
from .cli import LineParser


def channel_mean_and_std(images: data.ImageTable, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(C,), (C,): over the pixels of whole images, every image weighing the same.

    In the unit of `data.mean`: unsigned numbers are divided by the largest of their type.

    Images that can't be decoded are left out.

    Raises:
        ValueError: none can be decoded.
    """
    means, variances, reasons = [], [], list[str]()
    for row in rows:
        try:
            pixels = v2.functional.to_image(images[row].decode())  # (C, H, W)
        except data.UnreadableImageError as error:
            reasons.append(str(error))
            continue
        flat = pixels.flatten(1).double() / 255
        means.append(flat.mean(1))
        variances.append(flat.var(1, correction=0))
    if not means:
        raise ValueError(
            f"data.path must hold images, got {len(rows)} of which none is readable"
            + "".join(f"; first: {reason}" for reason in reasons[:1])
        )
    mean = torch.stack(means)
    variance = torch.stack(variances).mean(0) + mean.var(0, correction=0)
    return mean.mean(0), variance.sqrt()


def main(arguments: Sequence[str]) -> None:
    """The command ``mae_et stats``.

    Raises:
        ValueError: the data or an option is bad.
    """
    parser = LineParser(prog="mae_et stats", description=__doc__)
    parser.add_argument("--data.path", type=str, required=True, help="images, as for pretrain")
    parser.add_argument("--data.split", type=str, default="train")
    parser.add_argument("--data.image_column", type=str, help="found if it is the only one")
    parser.add_argument("--in_chans", type=int, default=3, help="channels")
    parser.add_argument("--num_images", type=int, default=2000, help="chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="chooses the images")
    options = parser.parse_args(list(arguments))
    check(options.in_chans > 0, "--in_chans", options.in_chans, "above 0")
    check(options.num_images > 0, "--num_images", options.num_images, "above 0")
    check(options.seed >= 0, "--seed", options.seed, "at least 0")
    splits = data.load_splits(options["data.path"])
    split = data.take_split(splits, options["data.split"], "data.split")
    images = data.ImageTable(split, options["data.image_column"], options.in_chans)
    order = np.random.default_rng([options.seed, 4]).permutation(len(images))
    rows = np.sort(order[: options.num_images]).tolist()
    mean, std = channel_mean_and_std(images, rows)
    for name, values in (("mean", mean), ("std", std)):
        print(f"--data.{name} '[{', '.join(f'{value:.5g}' for value in values.tolist())}]'")
