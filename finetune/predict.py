"""Classify images: ``python -m finetune predict --checkpoint RUN --data FOLDER --out CSV``.

The CSV has a line per image: its file (or the table and its row there), the predicted class, its
probability, and the probability of every class. Lines of images that can't be decoded have no
prediction.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mae_et.config import ImagesConfig
from mae_et.config.parser import LineParser
from mae_et.data import (
    EveryImage,
    ImageTable,
    allow_pixels,
    channel_statistics,
    eval_transform,
    is_image_folder,
    load_splits,
    make_loader,
    normalize,
    process_batches,
    take_split,
)
from mae_et.errors import ProcessStoppedError, check

from .model import load_classifier

COLUMNS = ("file", "prediction", "probability")
"""The columns before those of the classes."""


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ValueError: An option, the classifier or the images are unusable.
    """
    parser = LineParser(prog="finetune predict", description="Classify images with a classifier.")
    parser.add_argument(
        "--checkpoint", required=True, help="a fine-tuning run, its best/, or timm:MODEL.TAG"
    )
    parser.add_argument("--data", required=True, help="a folder, or a path as for data.path")
    parser.add_argument("--layout", type=str, default="auto", help="of a folder, as data.layout")
    parser.add_argument("--split", type=str | None, default=None, help="default: all splits")
    parser.add_argument("--image_column", type=str | None, default=None)
    parser.add_argument(
        "--max_pixels", type=int, default=ImagesConfig.max_pixels, help="of an image, as in data"
    )
    parser.add_argument("--out", type=str, default="predictions.csv", help="a file .csv")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--num_workers", type=int, default=2)
    parser.add_argument(
        "--max_wait", type=float | None, default=ImagesConfig.max_wait, help="as in data"
    )
    parser.add_argument(
        "--encoder", type=str | None, default=None, help="module:callable of a model of your own"
    )
    options = parser.parse_args(list(arguments))
    check_out(Path(options.out))
    check(options.batch_size > 0, "--batch_size", options.batch_size, "above 0")
    check(options.max_pixels > 0, "--max_pixels", options.max_pixels, "above 0")
    check(options.num_workers >= 0, "--num_workers", options.num_workers, "at least 0")
    wait = options.max_wait
    check(wait is None or 0 < wait < math.inf, "--max_wait", wait, "above 0 and finite, or null")

    allow_pixels(options.max_pixels)
    model, class_names, preprocessing = load_classifier(options.checkpoint, options.encoder)
    in_chans = preprocessing["input_size"][0]
    tables = load_tables(
        options.data, options.layout, options.split, options.image_column, in_chans
    )
    transform = eval_transform(**preprocessing)
    images = EveryImage(tables, transform)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batches = process_batches(len(images), options.batch_size, 0, 1)
    loader = make_loader(images, batches, options.num_workers, pin_memory=False, max_wait=wait)
    mean, std = (channel_statistics(preprocessing[name], device) for name in ("mean", "std"))
    rows = predictions(model.to(device), loader, mean, std)
    try:
        number, unreadable = write_csv(Path(options.out), rows, class_names)
    except ProcessStoppedError as error:  # in the words of this command, which resumes nothing
        words = str(error).partition(" --resume")[0].replace("data.", "--")
        raise ProcessStoppedError(words) from error
    for line in unreadable:
        print(f"unreadable: {line}", file=sys.stderr)
    check(len(unreadable) < number, "--data", options.data, f"images; none of {number} is readable")
    print(f"{number} images: {options.out}")


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


def load_tables(
    path: str, layout: str, split: str | None, image_column: str | None, in_chans: int
) -> list[ImageTable]:
    """Load the images of one split or of all, with as many channels as the classifier has.

    Args:
        path: A folder, or a path as for data.path.
        layout: The layout of a folder, as for data.layout.
        split: The split; None for all.
        image_column: The column of images; None to find it.
        in_chans: Image channels.

    Raises:
        ValueError: The images do not exist.
    """
    try:
        if split is None and layout == "auto" and is_image_folder(path):
            layout = "flat"  # all images, whatever the folders that hold them are called
        splits = load_splits(path, layout)
    except ValueError as error:  # in the words of this command's options
        message = str(error).replace("--data.layout", "--layout")
        raise ValueError(message.replace("data.path", "--data")) from error
    chosen = splits if split is None else {split: take_split(splits, split, "--split")}
    return [ImageTable(rows, image_column, in_chans) for rows in chosen.values()]


@torch.inference_mode()
def predictions(
    model: nn.Module, loader: Iterable[dict[str, Any]], mean: Tensor, std: Tensor
) -> Iterator[tuple[str, str, list[float]]]:
    """Yield the file, error and probabilities (classes) of each image; no numbers are an error.

    Args:
        model: The classifier, on its device.
        loader: The images.
        mean: (C, 1, 1), for the normalisation.
        std: (C, 1, 1), for the normalisation.
    """
    model.eval()
    for batch in loader:
        images = normalize(batch["image"].to(mean.device), mean, std)
        probabilities = model(images).float().softmax(dim=1)
        finite = probabilities.isfinite().all(dim=1).tolist()
        for file, error, is_finite, row in zip(
            batch["file"], batch["error"], finite, probabilities.tolist(), strict=True
        ):
            unknown = "" if is_finite else f"{file}: the classifier's outputs are not finite"
            yield file, error or unknown, row


def write_csv(
    path: Path, rows: Iterator[tuple[str, str, list[float]]], class_names: Sequence[str]
) -> tuple[int, list[str]]:
    """Write the predictions as CSV.

    Args:
        path: The CSV file.
        rows: File, error and probabilities of each image.
        class_names: The names of the classes by number.

    Returns:
        The number of images, and the errors of the unreadable ones.

    Raises:
        ValueError: The file cannot be written.
    """
    number = 0
    unreadable: list[str] = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".tmp")
        file = unfinished.open("w", newline="")
    except OSError as error:
        raise ValueError(f"--out must be a file to write, got {path} ({error})") from error
    with file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, *class_names])
        for name, reason, probabilities in rows:
            number += 1
            if reason:
                unreadable.append(reason)
                writer.writerow([name, "", "", *("" for _ in class_names)])
                continue
            best = max(range(len(class_names)), key=probabilities.__getitem__)
            shown = [f"{probability:.6f}" for probability in probabilities]
            writer.writerow([name, class_names[best], shown[best], *shown])
    unfinished.replace(path)
    return number, unreadable
