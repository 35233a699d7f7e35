"""``python -m mae_et pack DATA --out DIR``: rewrite big images once, at the size of training.

Decoding photos of 12 megapixels at every epoch is what limits training on them. Splits, labels,
further columns, names of files and the order are kept; the same command goes on where it was
stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..config import DataConfig
from ..config.line_parser import LineParser
from ..config.parser import add_images, images_of
from ..errors import RunInterruptedError


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ValueError: The data or an option is bad.
        RunStoppedError: The disk is full, or a worker was killed.
        RunInterruptedError: Ctrl-C stopped it.
    """
    options = make_parser().parse_args(list(arguments))
    path = images_of(options)

    from ..packing import pack

    names = ("short_side", "quality", "format", "shard_mb", "num_workers", "measure")
    try:
        summary = pack(
            path,
            options.out,
            layout=options["data.layout"],
            image_column=options["data.image_column"],
            max_pixels=options["data.max_pixels"],
            **{name: options[name] for name in names},
        )
    except KeyboardInterrupt:
        raise RunInterruptedError("interrupted; the same command goes on") from None
    print("\n".join(summary.lines()))


def make_parser() -> LineParser:
    """Make the parser of the command's options."""
    parser = LineParser(prog="mae-et pack", description=__doc__)
    add = parser.add_argument
    add_images(parser)
    add("--data.layout", type=str, default="auto", help="as for pretrain")
    add("--data.image_column", type=str, help="found if it is the only one")
    add("--data.max_pixels", type=int, default=DataConfig.max_pixels, help="as for pretrain")
    add("--out", type=str, required=True, help="the folder of the shards; new or empty")
    add("--short_side", type=int, default=256, help="most pixels of an image's shorter side")
    add("--quality", type=int, default=92, help="of JPEG, 1 to 100; lossless images become PNG")
    add("--format", type=Literal["parquet", "webdataset"], default="parquet", help="of the shards")
    add("--shard_mb", type=float, default=256, help="MiB of images of a shard")
    add("--num_workers", type=int | None, help="processes that shrink images; one a core")
    add("--measure", type=bool, default=True, help="measure the loader before and after")
    return parser
