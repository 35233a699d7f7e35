"""Masks: how many patches stay visible, which, and that the two parts make up the whole."""

import re

import pytest
import torch

from mae_et.model.masking import mask_patches, num_visible_patches, take_patches


def noise(num_images: int = 5, num_patches: int = 16) -> torch.Tensor:
    return torch.rand(num_images, num_patches, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("num_patches", "mask_ratio", "num_visible"),
    [
        (196, 0.75, 49),
        (100, 0.75, 25),
        (144, 0.75, 36),
        (49, 0.75, 12),  # 12.25
        (25, 0.75, 6),  # 6.25
        (4, 0.75, 1),
        (196, 0.6, 78),  # 78.4
        (2, 0.5, 1),
        (196, 0.001, 195),
    ],
)
def test_num_visible(num_patches: int, mask_ratio: float, num_visible: int) -> None:
    assert num_visible_patches(num_patches, mask_ratio) == num_visible


@pytest.mark.parametrize("mask_ratio", [0, 1, -0.1, 1.5, 0.0, 1.0, float("nan")])
def test_ratio_out_of_range(mask_ratio: float) -> None:
    with pytest.raises(ValueError, match=rf"mask_ratio must be in \(0, 1\), got {mask_ratio}"):
        num_visible_patches(16, mask_ratio)


@pytest.mark.parametrize("num_patches", [3, 4, 5, 10, 16, 49])
def test_a_ratio_that_leaves_nothing_names_one_that_works(num_patches: int) -> None:
    with pytest.raises(ValueError, match=rf"no visible patch of {num_patches}") as error:
        num_visible_patches(num_patches, 0.999)
    found = re.search(r"at most ([\d.]+)", str(error.value))
    assert found is not None
    allowed = float(found[1])
    assert num_visible_patches(num_patches, allowed) == 1


@pytest.mark.parametrize("num_visible", [1, 4, 15])
def test_visible_and_masked_are_a_partition(num_visible: int) -> None:
    visible, masked, mask = mask_patches(noise(), num_visible)
    assert visible.shape == (5, num_visible)
    assert masked.shape == (5, 16 - num_visible)
    together = torch.cat([visible, masked], dim=1).sort(dim=1).values
    assert torch.equal(together, torch.arange(16).expand(5, -1))
    assert mask.dtype == torch.bool
    assert mask.sum(dim=1).tolist() == [16 - num_visible] * 5


def test_true_means_masked() -> None:
    visible, masked, mask = mask_patches(noise(), 4)
    assert not mask.gather(1, visible).any()
    assert mask.gather(1, masked).all()


def test_the_smallest_noise_stays_visible() -> None:
    values = torch.tensor([[0.9, 0.1, 0.5, 0.3], [0.0, 0.2, -1.0, 3.0]])
    visible, masked, mask = mask_patches(values, 2)
    assert visible.tolist() == [[1, 3], [2, 0]]
    assert masked.tolist() == [[2, 0], [1, 3]]
    assert mask.tolist() == [[True, False, True, False], [False, True, False, True]]


def test_take_patches() -> None:
    patches = torch.arange(2 * 3 * 2).reshape(2, 3, 2)
    taken = take_patches(patches, torch.tensor([[2, 0], [1, 1]]))
    assert taken.tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]


def test_take_patches_gradients_go_back_to_their_patch() -> None:
    patches = torch.zeros(1, 4, 3, requires_grad=True)
    take_patches(patches, torch.tensor([[3, 1]])).sum().backward()
    assert patches.grad is not None
    assert patches.grad[0].tolist() == [[0] * 3, [1] * 3, [0] * 3, [1] * 3]
