"""Pictures of reconstructions."""

from __future__ import annotations

import pytest
import torch

from mae_et import low_frequency_crop
from mae_et.model.targets import hog
from mae_et.report.reconstruct import GLYPH, glyphs, reconstruct
from tests.support.models import BuildMAE


@pytest.mark.parametrize("target", ["norm_pixel", "pixel"])
def test_visible_patches_stay_and_masked_ones_are_predicted(
    tiny_mae: BuildMAE, target: str
) -> None:
    model = tiny_mae(target=target).eval()
    images, noise = torch.randn(2, 3, 16, 16), torch.rand(2, 16)
    pictures = reconstruct(model, images, 12, noise)
    cropped = low_frequency_crop(images, 12)
    torch.testing.assert_close(pictures.low_frequency, cropped)
    hidden = pictures.masked.isnan()
    assert hidden.float().mean() == 7 / 9  # 2 of 9 patches are visible
    assert torch.equal(pictures.reconstructed[~hidden], cropped[~hidden])
    patches = model.patchify(pictures.reconstructed)
    output = model(cropped, noise[:, :9])
    true = model.patchify(cropped)
    expected = output.prediction
    if target == "norm_pixel":
        expected = expected * (true.var(-1, keepdim=True) + 1e-6).sqrt() + true.mean(
            -1, keepdim=True
        )
    torch.testing.assert_close(patches[output.mask], expected[output.mask])


def test_histograms_are_drawn_along_edges() -> None:
    """A vertical edge is a horizontal gradient (bin 0 or 8), and a bright vertical stroke."""
    histograms = torch.zeros(1, 2 * 9, 1, 2)
    histograms[:, [0, 9, 8, 17], 0, 0] = 0.5  # two channels
    histograms[:, 4, 0, 1] = 1.0  # a vertical gradient, in one of them
    picture = glyphs(histograms, in_chans=2)
    assert picture.shape == (1, 1, GLYPH, 2 * GLYPH)
    left, right = picture[0, 0].split(GLYPH, dim=1)
    middle = GLYPH // 2
    assert (left[:, middle] > 0.3).all()
    assert left[middle, [0, 1, -2, -1]].max() == 0
    torch.testing.assert_close(right[middle], torch.full((GLYPH,), 0.5))
    assert right[[0, 1, -2, -1], middle].max() == 0


@pytest.mark.parametrize("decoder", ["self", "cross"])
def test_reconstructed_histograms(tiny_mae: BuildMAE, decoder: str) -> None:
    model = tiny_mae(
        image_size=(16, 24),
        patch_size=(4, 8),
        decoder=decoder,
        target="hog",
        hog={"cell": 2, "bins": 6},
    ).eval()
    images, noise = torch.randn(2, 3, 16, 24), torch.rand(2, 12)
    pictures = reconstruct(model, images, (12, 16), noise)
    cropped = low_frequency_crop(images, (12, 16))
    assert torch.equal(pictures.target, hog(cropped, bins=6, cell=2))
    assert pictures.reconstructed.shape == (2, 18, 6, 8)
    mask = model(cropped, noise[:, :6]).mask
    hidden = mask.reshape(2, 1, 3, 2).repeat_interleave(2, 2).repeat_interleave(4, 3)
    same = (pictures.reconstructed == pictures.target).all(1, keepdim=True)
    assert torch.equal(same, ~hidden)
    assert pictures.reconstructed.isfinite().all()
