"""Print the mean and deviation per channel of a data set, for `data.mean` and `data.std`."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.parser import LineParser
from ..errors import check


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ValueError: The data or an option is bad.
    """
    parser = LineParser(prog="mae_et stats", description=__doc__)
    parser.add_argument("--data.path", type=str, required=True, help="images, as for pretrain")
    parser.add_argument("--data.layout", type=str, default="auto", help="as for pretrain")
    parser.add_argument("--data.split", type=str, default="train")
    parser.add_argument("--data.image_column", type=str, help="found if it is the only one")
    parser.add_argument("--in_chans", type=int, default=3, help="channels")
    parser.add_argument("--num_images", type=int, default=2000, help="chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="chooses the images")
    options = parser.parse_args(list(arguments))
    check(options.in_chans > 0, "--in_chans", options.in_chans, "above 0")
    check(options.num_images > 0, "--num_images", options.num_images, "above 0")
    check(options.seed >= 0, "--seed", options.seed, "at least 0")

    import numpy as np

    from ..data import ImageTable, channel_mean_and_std, load_splits, take_split

    splits = load_splits(options["data.path"], options["data.layout"])
    split = take_split(splits, options["data.split"], "data.split")
    images = ImageTable(split, options["data.image_column"], options.in_chans)
    order = np.random.default_rng([options.seed, 4]).permutation(len(images))
    rows = np.sort(order[: options.num_images]).tolist()
    mean, std = channel_mean_and_std(images, rows)
    for name, values in (("mean", mean), ("std", std)):
        print(f"--data.{name} '[{', '.join(f'{value:.5g}' for value in values.tolist())}]'")
