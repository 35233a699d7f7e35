"""Print the mean and deviation per channel of a data set, for `data.mean` and `data.std`."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..config import DataConfig
from ..config.line_parser import LineParser
from ..config.parser import add_images, images_of
from ..errors import check

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ValueError: The data or an option is bad.
    """
    options = make_parser().parse_args(list(arguments))
    path = images_of(options)
    check(options.in_chans > 0, "--in_chans", options.in_chans, "above 0")
    max_pixels = options["data.max_pixels"]
    check(max_pixels > 0, "--data.max_pixels", max_pixels, "above 0")
    check(options.num_images > 0, "--num_images", options.num_images, "above 0")
    check(options.seed >= 0, "--seed", options.seed, "at least 0")

    import numpy as np

    from ..data import (
        LEAST_RANGE,
        ImageTable,
        allow_pixels,
        channel_values,
        load_splits,
        take_split,
    )

    allow_pixels(max_pixels)
    splits = load_splits(path, options["data.layout"])
    split = take_split(splits, options["data.split"], "data.split")
    images = ImageTable(split, options["data.image_column"], options.in_chans)
    order = np.random.default_rng([options.seed, 4]).permutation(len(images))
    rows = np.sort(order[: options.num_images]).tolist()
    found = channel_values(images, rows)
    if found.unreadable:
        number, first = len(found.unreadable), found.unreadable[0]
        log.warning("%d of %d images are unreadable, first: %s", number, len(rows), first)
    if found.widest < LEAST_RANGE:
        log.warning(
            "values go from %s, less than a tenth of their scale; if that is not all of it, as for "
            "12 bits in files of 16, augmentation in 8 bits (RandAug) leaves few grey levels",
            found,
        )
    for name, values in (("mean", found.mean), ("std", found.std)):
        shown = (f"{value:#.5g}".rstrip(".") for value in values.tolist())
        print(f"--data.{name} '[{', '.join(shown)}]'")


def make_parser() -> LineParser:
    """Make the parser of the command's options."""
    parser = LineParser(prog="mae-et stats", description=__doc__)
    add_images(parser)
    parser.add_argument("--data.layout", type=str, default="auto", help="as for pretrain")
    parser.add_argument("--data.split", type=str, default="train", help="the split")
    parser.add_argument("--data.image_column", type=str, help="found if it is the only one")
    parser.add_argument(
        "--data.max_pixels", type=int, default=DataConfig.max_pixels, help="as for pretrain"
    )
    parser.add_argument("--in_chans", type=int, default=3, help="channels")
    parser.add_argument("--num_images", type=int, default=2000, help="chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="chooses the images")
    return parser
