"""Write what a classifier gets right and wrong: predictions, accuracies and a confusion matrix."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
from torch import Tensor

from mae_et.data import without_bars
from mae_et.errors import is_installed

if TYPE_CHECKING:
    from matplotlib.figure import Figure


log = logging.getLogger(__name__)


MAX_NAMED_CLASSES = 40
"""The most classes that the picture names."""


MAX_NAME_LENGTH = 30


def write_results(
    folder: Path, files: Sequence[str], logits: Tensor, labels: Tensor, class_names: Sequence[str]
) -> dict[str, Any]:
    """Write predictions.parquet, report.json and confusion.png (if matplotlib is installed).

    Args:
        folder: The folder, which exists.
        files: The name of each image.
        logits: (N, classes).
        labels: (N,), class numbers.
        class_names: The names of the classes by number.

    Returns:
        What report.json holds: "top1", "top5", "mean_class_accuracy", "images" and, by class,
        "images" and "accuracy".
    """
    probabilities = logits.softmax(dim=1)
    confidence, predicted = probabilities.max(dim=1)
    counts = confusion_matrix(labels.numpy(), predicted.numpy(), len(class_names))
    report = accuracies(logits, labels, counts, class_names)
    predictions = {
        "image": list(files),
        "label": [class_names[label] for label in labels.tolist()],
        "prediction": [class_names[label] for label in predicted.tolist()],
        "probability": confidence.numpy(),
        "probabilities": probabilities.numpy(),
    }
    with without_bars():
        datasets.Dataset.from_dict(predictions).to_parquet(folder / "predictions.parquet")
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    if not is_installed("matplotlib"):
        log.warning("no confusion.png without matplotlib: pip install -e '.[report]' in the clone")
    else:
        figure = draw_confusion(counts, class_names)
        figure.savefig(folder / "confusion.png", bbox_inches="tight")
    return report


def confusion_matrix(labels: Any, predicted: Any, num_classes: int) -> Any:
    """Count the images of each class (row) by predicted class (column): (classes, classes)."""
    pairs = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes)


def accuracies(
    logits: Tensor, labels: Tensor, counts: Any, class_names: Sequence[str]
) -> dict[str, Any]:
    """Return top-1, top-5 and per-class accuracies in [0, 1]; None for a class without images."""
    ranked = logits.topk(min(5, logits.shape[1])).indices  # (N, 5)
    hits = ranked == labels[:, None]
    images = counts.sum(axis=1)
    by_class = {
        name: {
            "images": int(images[label]),
            "accuracy": counts[label, label] / images[label] if images[label] else None,
        }
        for label, name in enumerate(class_names)
    }
    known = [entry["accuracy"] for entry in by_class.values() if entry["accuracy"] is not None]
    return {
        "top1": hits[:, 0].float().mean().item(),
        "top5": hits.any(dim=1).float().mean().item(),
        "mean_class_accuracy": sum(known) / len(known),
        "images": len(labels),
        "classes": by_class,
    }


def draw_confusion(counts: Any, class_names: Sequence[str]) -> Figure:
    """Draw the confusion matrix: each row is a class, and the share of its images by prediction."""
    from matplotlib.figure import Figure

    num_classes = len(class_names)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    is_named = num_classes <= MAX_NAMED_CLASSES
    names = [shorten(name, MAX_NAME_LENGTH, placeholder="…") for name in class_names]
    cells = max(2.5, 0.5 * num_classes) if is_named else 8  # inches, as are the margins
    margin = 1 + 0.08 * max(map(len, names)) if is_named else 1
    figure = Figure(figsize=(cells + margin + 1, cells + margin), layout="compressed", dpi=120)
    axis = figure.subplots()
    picture = axis.imshow(shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    figure.colorbar(picture, ax=axis, label="% of the images of the class", shrink=0.8)
    axis.set_title(
        f"{np.trace(counts) / max(counts.sum(), 1):.1%} of {counts.sum():,} images are right"
    )
    axis.grid(False)  # whatever the style of the notebook
    axis.spines[:].set_visible(True)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("true class")
    if is_named:
        axis.set_xticks(range(num_classes), names, rotation=90, parse_math=False)
        axis.set_yticks(range(num_classes), names, parse_math=False)
        _write_shares(axis, shares)
    return figure


def _write_shares(axis: Any, shares: Any) -> None:
    """Write the shares of 1 % and more into their cells, and frame those that are right."""
    from matplotlib.patches import Rectangle

    for row, column in np.argwhere(shares >= 1):
        share = shares[row, column]
        color = "white" if share > 50 else "black"
        axis.text(column, row, f"{share:.0f}", ha="center", va="center", color=color, size=8)
    for label in range(len(shares)):
        place = (label - 0.5, label - 0.5)
        axis.add_patch(Rectangle(place, 1, 1, fill=False, edgecolor="#D55E00", linewidth=1))
