"""The options of ``python -m finetune predict``, read and checked before PyTorch is imported."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mae_et.config import ImagesConfig, check_local_path
from mae_et.config.line_parser import LineParser
from mae_et.config.parser import add_images, images_of
from mae_et.errors import check

COLUMNS = ("file", "prediction", "probability")
"""The columns before those of the classes."""


def predict_options(arguments: Sequence[str]) -> Any:
    """Return the options of a command line.

    Args:
        arguments: The command line after `predict`.

    Raises:
        ValueError: An option is bad.
    """
    options = predict_parser().parse_args(list(arguments))
    options.data = images_of(options, "--data")
    check_local_path("checkpoint", options.checkpoint)
    check_out(Path(options.out))
    check(options.batch_size > 0, "--batch_size", options.batch_size, "above 0")
    check(options.max_pixels > 0, "--max_pixels", options.max_pixels, "above 0")
    check(options.num_workers >= 0, "--num_workers", options.num_workers, "at least 0")
    wait = options.max_wait
    check(wait is None or 0 < wait < math.inf, "--max_wait", wait, "above 0 and finite, or null")
    return options


def predict_parser() -> LineParser:
    """Make the parser of the options."""
    about = "Classify images with a classifier."
    parser = LineParser(prog="mae-et-finetune predict", description=about)
    add, defaults = parser.add_argument, ImagesConfig
    add("--checkpoint", required=True, help="a fine-tuning run, its best/, or timm:MODEL.TAG")
    add_images(parser, "--data")
    add("--layout", type=str, default="auto", help="of a folder, as data.layout")
    add("--split", type=str | None, default=None, help="null for all splits")
    add("--image_column", type=str | None, default=None, help="null to find it")
    add("--max_pixels", type=int, default=defaults.max_pixels, help="as data.max_pixels")
    add("--out", type=str, default="predictions.csv", help="a file .csv")
    add("--batch_size", type=int, default=64, help="images per step")
    add("--num_workers", type=int, default=2, help="loader processes; 0 loads in this process")
    add("--max_wait", type=float | None, default=defaults.max_wait, help="as data.max_wait")
    add("--encoder", type=str | None, default=None, help="module:callable of your own model")
    return parser


def check_out(path: Path) -> None:
    """Check that predictions may be written to a path: to a new file, or over older predictions.

    Raises:
        ValueError: It is no CSV file, or another table, such as the metadata of images.
    """
    is_csv = path.suffix.lower() == ".csv" and not path.is_dir()
    check(is_csv, "--out", str(path), "a file with the ending .csv")
    if path.is_file() and path.stat().st_size:
        with path.open(errors="replace") as file:
            is_ours = file.readline().startswith(",".join(COLUMNS))
        check(is_ours, "--out", str(path), "a new file, or one of predictions, which is replaced")
