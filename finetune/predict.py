"""Classify images: ``python -m finetune predict --checkpoint RUN --data FOLDER --out CSV``.

The CSV has a line per image: its file (or the table and its row there), the predicted class, its
probability, and the probability of every class. Lines of images that can't be decoded have no
prediction.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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
from .predict_options import COLUMNS


def classify(options: Any) -> None:
    """Classify images and write the CSV.

    Args:
        options: Those of `predict_options`.

    Raises:
        ValueError: The classifier or the images are unusable.
    """
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
    loader = make_loader(
        images, batches, options.num_workers, pin_memory=False, max_wait=options.max_wait
    )
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
