"""Targets against plain numpy."""

import numpy as np
import pytest
import torch

from mae_et.targets import TARGETS, norm_pixel, pixel, unnormalize


@pytest.fixture
def patches() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, 48, generator=generator) * 3 + 1


def test_pixel(patches):
    assert torch.equal(pixel(patches), patches)


def test_norm_pixel(patches):
    expected = np.empty(patches.shape)
    for index in np.ndindex(2, 4):
        values = patches[index].double().numpy()
        expected[index] = (values - values.mean()) / np.sqrt(values.var(ddof=1) + 1e-6)
    np.testing.assert_allclose(norm_pixel(patches).numpy(), expected, atol=1e-5)


def test_norm_pixel_of_a_flat_patch_is_zero():
    assert not norm_pixel(torch.full((1, 2, 48), 0.3)).round(decimals=3).any()
    assert not norm_pixel(torch.zeros(1, 2, 48)).any()


def test_norm_pixel_ignores_brightness_and_contrast(patches):
    torch.testing.assert_close(norm_pixel(patches * 5 - 2), norm_pixel(patches), atol=1e-5, rtol=0)


def test_unnormalize_is_the_inverse(patches):
    torch.testing.assert_close(unnormalize(norm_pixel(patches), patches), patches)


def test_targets_by_name():
    assert {"pixel": pixel, "norm_pixel": norm_pixel} == TARGETS
