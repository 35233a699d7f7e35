"""Running statistics of batch norms that are taken from a pass of images."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from finetune.batch_norms import batch_norms, statistics_of_pass


def test_every_image_of_a_pass_counts_alike() -> None:
    norm, images = nn.BatchNorm1d(2), torch.randn(9, 2)
    network = nn.Sequential(norm, nn.BatchNorm1d(2, track_running_stats=False)).eval()
    norm.running_mean = torch.full((2,), 7.0)
    norms = batch_norms(network)
    assert norms == [norm]
    with statistics_of_pass(norms):
        for chunk in images[:4], images[4:5], images[5:8]:  # one image has no variance
            norm(chunk)
    seen = torch.cat([images[:4], images[5:8]])
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, seen.mean(0))
    variance = (4 * images[:4].var(0) + 3 * images[5:8].var(0)) / 7
    torch.testing.assert_close(norm.running_var, variance)
    assert (norm.momentum, norm.training) == (0.1, False)
    norm(images)
    torch.testing.assert_close(norm.running_mean, seen.mean(0))


def test_momentum_is_as_before_after_an_error() -> None:
    norm = nn.BatchNorm1d(2)
    with pytest.raises(RuntimeError), statistics_of_pass([norm]):
        norm(torch.zeros(3, 5))
    assert norm.momentum == 0.1
