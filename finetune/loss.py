"""The parts of a classifier's loss: mixed-up images and labels, and class weights."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from timm.data import Mixup
from torch import Tensor
from torch.nn import functional as F

from .config import AugmentConfig


def mixes(augment: AugmentConfig) -> bool:
    """Return whether images and labels are mixed up, for which timm pairs the images of a batch."""
    return augment.mixup_prob > 0 and augment.mixup + augment.cutmix > 0


def build_mixup(augment: AugmentConfig, num_classes: int) -> Mixup | None:
    """Build timm's mixup and cutmix; return None if neither is used."""
    if not mixes(augment):
        return None
    return Mixup(
        mixup_alpha=augment.mixup,
        cutmix_alpha=augment.cutmix,
        prob=augment.mixup_prob,
        label_smoothing=augment.label_smoothing,
        num_classes=num_classes,
    )


def class_weights(weights: Literal["balanced"] | list[float] | None, labels: Any) -> Tensor | None:
    """Return the weights of the classes (classes,), with a mean of one over the training images.

    Args:
        weights: See `FinetuneOptimConfig.class_weights`.
        labels: (N,), class numbers of the training images.

    Raises:
        ValueError: The number of weights is not the number of classes.
    """
    if weights is None:
        return None
    counts = torch.from_numpy(np.bincount(labels)).float()
    if weights == "balanced":
        weights = (1 / counts).tolist()
    if len(weights) != len(counts):
        raise ValueError(
            f"optim.class_weights must be {len(counts)} numbers, one per class, got {len(weights)}"
        )
    values = torch.tensor(weights)
    return values * counts.sum() / (values * counts).sum()


def smoothed(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Return the targets (N, classes) of labels (N,), smoothed as those of mixup are."""
    return F.one_hot(labels, num_classes).float() * (1 - smoothing) + smoothing / num_classes


def weighted_cross_entropy(
    logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float
) -> Tensor:
    """Return the mean cross-entropy () of a batch, with each sample weighted by its class.

    A mixed sample has the mean of its classes' weights, by their shares. Weights inside of the
    cross-entropy, as torch has them, would also scale what smoothing gives to the other classes:
    for weights of 0.5 and 13 and a smoothing of 0.1, the best prediction for an image of the
    frequent class would be the rare one (https://github.com/pytorch/pytorch/issues/104776).

    Args:
        logits: (N, classes).
        targets: (N, classes), smoothed.
        weights: (classes,), the weights of the classes; None for equal ones.
        smoothing: The label smoothing of the targets, in [0, 1).
    """
    if weights is None:
        return F.cross_entropy(logits, targets)
    sample_weights = ((targets * weights).sum(1) - smoothing * weights.mean()) / (1 - smoothing)
    return (F.cross_entropy(logits, targets, reduction="none") * sample_weights).mean()
