"""Comparisons of what two runs have written."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from mae_et.runs import Run


def weights(run: Path) -> dict[str, Tensor]:
    """Those of the last checkpoint."""
    checkpoint = Run(run).latest_checkpoint()
    assert checkpoint is not None
    return load_file(checkpoint.weights)


def assert_same_weights(first: Path, second: Path) -> None:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name
