"""Weights of classes, and the loss that they weigh."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from finetune.config import AugmentConfig
from finetune.loss import build_mixup, class_weights, smoothed, weighted_cross_entropy

WEIGHTS = np.array([0.5, 13.0, 2.0])


def by_hand(logits: Any, shares: Any, weights: Any, smoothing: float) -> float:
    """The weighted mean in float64: a sample counts as often as its classes' weights say."""
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    targets = shares * (1 - smoothing) + smoothing / shares.shape[1]
    return float(np.mean(-(targets * logs).sum(1) * (shares * weights).sum(1)))


def test_balanced_weights() -> None:
    values = class_weights("balanced", np.array([0] * 30 + [1] * 10))
    assert values is not None
    torch.testing.assert_close(values, torch.tensor([2 / 3, 2.0]))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_weighted_loss_of_labels(smoothing: float) -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(20, 3)) * 3, rng.integers(0, 3, 20)
    targets = smoothed(torch.from_numpy(labels), 3, smoothing)
    given = torch.from_numpy(logits).float()
    found = weighted_cross_entropy(given, targets, torch.from_numpy(WEIGHTS).float(), smoothing)
    assert found.item() == pytest.approx(by_hand(logits, np.eye(3)[labels], WEIGHTS, smoothing))
    plain = weighted_cross_entropy(given, targets, None, smoothing)
    expected = F.cross_entropy(
        given, F.one_hot(torch.from_numpy(labels)).float(), label_smoothing=smoothing
    )
    assert torch.equal(plain, expected)
    if smoothing == 0:  # where torch, too, weighs nothing but samples
        weight = torch.from_numpy(WEIGHTS).float()
        torch.testing.assert_close(
            found, F.cross_entropy(given, smoothed(torch.from_numpy(labels), 3, 0), weight=weight)
        )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_loss_of_mixed_samples(smoothing: float) -> None:
    """Images that are nothing but their label tell the shares in which they were mixed."""
    labels = torch.tensor([0, 1, 2, 2, 0, 1])
    augment = AugmentConfig(mixup=0.8, cutmix=0, label_smoothing=smoothing)
    mixup = build_mixup(augment, 3)
    assert mixup is not None
    np.random.seed(0)
    images, targets = mixup(F.one_hot(labels, 3).float()[:, :, None, None], labels)
    shares = images[:, :, 0, 0].double().numpy()
    assert 0.01 < shares.max(1).min() < 0.99
    logits = np.random.default_rng(1).normal(size=(6, 3))
    found = weighted_cross_entropy(
        torch.from_numpy(logits), targets, torch.from_numpy(WEIGHTS), smoothing
    )
    assert found.item() == pytest.approx(by_hand(logits, shares, WEIGHTS, smoothing), rel=1e-5)


def test_the_frequent_class_stays_the_best_prediction() -> None:
    """What minimises the loss of a sample is its smoothed target, whatever the weights."""
    weights = class_weights("balanced", np.array([0] * 100 + [1] * 4))
    for label in (0, 1):
        logits = torch.zeros(1, 2, requires_grad=True)
        optimizer = torch.optim.LBFGS([logits], lr=0.1, max_iter=500, tolerance_grad=1e-9)
        targets = smoothed(torch.tensor([label]), 2, 0.1)

        def closure(
            logits: torch.Tensor = logits,
            targets: torch.Tensor = targets,
            optimizer: Any = optimizer,
        ) -> torch.Tensor:
            optimizer.zero_grad()
            loss = weighted_cross_entropy(logits, targets, weights, 0.1)
            loss.backward()
            return loss

        optimizer.step(closure)
        torch.testing.assert_close(logits.detach().softmax(1), targets, atol=1e-3, rtol=0)
