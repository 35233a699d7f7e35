"""Targets against plain numpy and scikit-image."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage import feature

from mae_et import low_frequency_crop
from mae_et.model.targets import create_target, hog, norm_pixel, pixel, unnormalize


@pytest.fixture
def patches() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, 48, generator=generator) * 3 + 1


def test_pixel(patches: torch.Tensor) -> None:
    assert torch.equal(pixel(patches), patches)


def test_norm_pixel(patches: torch.Tensor) -> None:
    expected = np.empty(patches.shape)
    for index in np.ndindex(2, 4):
        values = patches[index].double().numpy()
        expected[index] = (values - values.mean()) / np.sqrt(values.var(ddof=1) + 1e-6)
    np.testing.assert_allclose(norm_pixel(patches).numpy(), expected, atol=1e-5)


def test_norm_pixel_of_a_flat_patch_is_zero() -> None:
    assert not norm_pixel(torch.full((1, 2, 48), 0.3)).round(decimals=3).any()
    assert not norm_pixel(torch.zeros(1, 2, 48)).any()


def test_norm_pixel_ignores_brightness_and_contrast(patches: torch.Tensor) -> None:
    torch.testing.assert_close(norm_pixel(patches * 5 - 2), norm_pixel(patches), atol=1e-5, rtol=0)


def test_unnormalize_is_the_inverse(patches: torch.Tensor) -> None:
    torch.testing.assert_close(unnormalize(norm_pixel(patches), patches), patches)


@pytest.mark.parametrize(("name", "normalize"), [("pixel", pixel), ("norm_pixel", norm_pixel)])
def test_pixel_targets_by_name(name: str, normalize: Callable[..., Any]) -> None:
    target = create_target(name, patch_size=(4, 6), in_chans=2)
    images = torch.randn(1, 2, 8, 12)
    assert target.features(images) is images
    assert target.normalize is normalize
    assert target.num_values == 48


# --- histograms of oriented gradients


def skimage_hog(images: torch.Tensor, bins: int, cell: int) -> NDArray[Any]:
    """(N, C · bins, h, w): each channel by itself, a cell normalised alone, epsilon 1e-5."""
    options = {"pixels_per_cell": (cell, cell), "cells_per_block": (1, 1), "block_norm": "L2"}
    histograms = [
        [
            feature.hog(channel, orientations=bins, feature_vector=False, **options)[:, :, 0, 0]
            for channel in image
        ]
        for image in images.double().numpy()
    ]
    return np.concatenate(np.array(histograms).transpose(1, 0, 4, 2, 3), axis=1)


def sobel_of_scipy(channel: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows and columns, as the change over two pixels."""
    rows, columns = (ndimage.sobel(channel, axis=axis, mode="mirror") / 4 for axis in (0, 1))
    return rows, columns


@pytest.mark.parametrize("gradient", ["central", "sobel"])
@pytest.mark.parametrize(
    ("size", "in_chans", "bins", "cell"),
    [((64, 64), 3, 9, 8), ((28, 28), 1, 9, 4), ((24, 40), 2, 6, 8), ((8, 12), 4, 7, 2)],
)
def test_hog_is_that_of_skimage(
    monkeypatch: pytest.MonkeyPatch,
    gradient: Literal["sobel", "central"],
    size: tuple[int, int],
    in_chans: int,
    bins: int,
    cell: int,
) -> None:
    """Measured: 2e-7 at most. (Of whole numbers, so that nothing is rounded before the angle.)"""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (2, in_chans, *size), generator=generator).float()
    if gradient == "sobel":  # which skimage has no option for
        monkeypatch.setattr("skimage.feature._hog._hog_channel_gradient", sobel_of_scipy)
    ours = hog(images, bins=bins, cell=cell, gradient=gradient)
    theirs = skimage_hog(images, bins, cell)
    assert ours.shape == (2, in_chans * bins, size[0] // cell, size[1] // cell)
    assert np.abs(ours.numpy() - theirs).max() < 1e-6


def test_hog_of_a_slope_has_one_orientation() -> None:
    """Brighter to the right and, half as fast, downwards: 26.6°, the second bin of nine."""
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    histograms = hog((columns + rows / 2)[None, None])[0]
    expected = torch.zeros(9)
    expected[1] = 1
    torch.testing.assert_close(histograms[:, 1, 1], expected)  # the one without a border
    darker = hog((-columns - rows / 2)[None, None])[0]
    torch.testing.assert_close(darker, histograms)  # no sign


def test_rounding_of_the_crop_is_no_gradient() -> None:
    """A white image: its histograms would otherwise be of length one and of random direction."""
    white = (low_frequency_crop(torch.full((1, 3, 224, 224), 255.0), 160) / 255 - 0.45) / 0.225
    assert white.amax() > white.amin()  # rounding there is
    assert not hog(white).any()
    faint = white + torch.arange(160) * (1 / 255 / 0.225 / 8)  # one grey level over eight pixels
    length = hog(faint)[:, :9, 1:-1, 1:-1].norm(dim=1)
    torch.testing.assert_close(length, torch.ones_like(length), atol=1e-5, rtol=0)


def test_rounding_decides_no_orientation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few grey levels: many rows are equal, so that many angles are exactly that of an edge."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(3, (4, 1, 32, 32), generator=generator).float() * 20
    exact, normalized = hog(levels), (levels / 255 - 0.45) / 0.225
    torch.testing.assert_close(hog(normalized), exact, atol=1e-5, rtol=0)
    monkeypatch.setattr("mae_et.model.targets.ROUNDING", 0.0)
    assert (hog(normalized) - exact).abs().max() > 0.05


def test_hog_is_exact_under_autocast() -> None:
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = hog(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(hog(images), expected)
