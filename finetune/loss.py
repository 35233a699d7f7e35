"""The parts of a classifier's loss: mixed-up images and labels, and class weights."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from timm.data import Mixup
from torch import Tensor

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
