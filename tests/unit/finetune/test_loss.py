"""Weights of classes."""

from __future__ import annotations

import numpy as np
import torch

from finetune.loss import class_weights


def test_balanced_weights() -> None:
    values = class_weights("balanced", np.array([0] * 30 + [1] * 10))
    assert values is not None
    torch.testing.assert_close(values, torch.tensor([2 / 3, 2.0]))
