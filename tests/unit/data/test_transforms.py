"""Augmentation that gets stronger from stage to stage; off, it changes nothing."""

from __future__ import annotations

import io
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from mae_et import data
from mae_et.curriculum import Curriculum
from mae_et.data import transforms
from mae_et.data.clock import stage_size
from mae_et.data.images.encoded import EncodedImage
from mae_et.data.samples import seed_generators
from mae_et.data.transforms import PretrainTransform
from mae_et.lowfreq import low_frequency_crop
from tests.support.images import picture, table


def sample(number: int, **options: Any) -> Tensor:
    """Sample `number` of a colourful image."""
    file = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").rotate(30, fillcolor=(90, 30, 160)).save(file, "PNG")
    transform = PretrainTransform((32, 32), 16, **options)
    seed_generators(0, number)
    image: Tensor = transform(EncodedImage(file.getvalue(), "RGB", "a"), 0, number)["image"]
    return image


def test_crop_scale_and_jitter_move_in_equal_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    scales, jitters = [], []
    draw = transforms.random_box

    def note_scale(height: int, width: int, scale: tuple[float, float]) -> Any:
        scales.append(scale)
        return draw(height, width, scale)

    def note_jitter(*strengths: float) -> Any:
        jitters.append(strengths)
        return torch.nn.Identity()

    monkeypatch.setattr(transforms, "random_box", note_scale)
    monkeypatch.setattr("torchvision.transforms.v2.ColorJitter", note_jitter)
    for number in range(3):
        sample(
            number,
            crop_scale=(0.2, 1.0),
            first_crop_scale=(0.8, 0.9),
            color_jitter=0.4,
            first_color_jitter=0.0,
            progress_at=lambda number: number / 2,
        )
    assert torch.tensor(scales).flatten().tolist() == pytest.approx([0.8, 0.9, 0.5, 0.95, 0.2, 1.0])
    assert torch.tensor(jitters).flatten().tolist() == pytest.approx(
        [0.2, 0.2, 0.2, 0.05, 0.4, 0.4, 0.4, 0.1]
    )


@pytest.mark.parametrize("extent", [(375, 500), (1, 300), (299, 7), (2, 3)])
@pytest.mark.parametrize("scale", [(0.2, 1.0), (0.95, 1.0), (1.0, 1.0)])
def test_the_box_is_that_of_torchvision(
    extent: tuple[int, int], scale: tuple[float, float]
) -> None:
    """And as many numbers are drawn, also where no box of ten fits."""
    image = torch.empty(1, *extent, device="meta")
    for seed in range(20):
        torch.manual_seed(seed)
        box, following = transforms.random_box(*extent, scale), torch.rand(())
        torch.manual_seed(seed)
        expected = v2.RandomResizedCrop(8, scale).make_params([image])
        assert box == tuple(expected[name] for name in ("top", "left", "height", "width"))
        assert following == torch.rand(())


def test_jitter_changes_colours_within_its_range() -> None:
    plain = [sample(number) for number in range(30)]
    off = partial(sample, color_jitter=0.5, first_color_jitter=0.0, progress_at=lambda number: 0.0)
    assert all(torch.equal(image, off(number)) for number, image in enumerate(plain))
    jittered = [sample(number, color_jitter=0.5) for number in range(30)]
    assert all(image.dtype == torch.uint8 for image in jittered)
    pairs = zip(jittered, plain, strict=True)
    ratios = [(image.float().mean() / other.float().mean()).item() for image, other in pairs]
    assert min(ratios) < 0.8
    assert max(ratios) > 1.2


def test_normalize() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    mean, std = map(data.channel_statistics, ((0.5, 0.2, 0.0), (0.25, 0.1, 0.5)))
    normalized = data.normalize(images, mean, std)
    torch.testing.assert_close(normalized.flatten(), torch.tensor([-2.0, 0.0, 2.0]))


STAGES = Curriculum.from_stages([(8, 1), (12, 1), (16, 1)], num_steps=6)


def stream(clothes: str, **options: Any) -> data.Samples:
    images = data.ImageTable(data.load_splits(clothes)["train"], None, 1)
    return data.Samples(images, data.PretrainTransform((16, 16), 16, **options), seed=3)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_chunk_has_the_size_of_its_stage(clothes: str, workers: int) -> None:
    """Steps 1 to 4 of 16 images: sizes 8, 12, 12 and 16, whatever the number of workers."""
    small = stream(clothes, size_at=partial(stage_size, STAGES, data.SampleClock(16)))
    batches = data.StepBatches(1, 5, clock=data.SampleClock(16), chunk_size=8, rank=0, world=1)
    loader = data.make_loader(small, batches, workers, pin_memory=False)
    sizes = []
    for numbers, chunk in zip(batches, loader, strict=True):
        sizes.append(chunk["image"].shape[-1])
        for number, image, noise in zip(numbers, chunk["image"], chunk["noise"], strict=True):
            expected = small[number]
            assert torch.equal(image, expected["image"])
            assert torch.equal(noise, expected["noise"])
    assert sizes == [8, 8, 12, 12, 12, 12, 16, 16]


def test_the_same_boxes_flips_and_masks_at_every_size(clothes: str) -> None:
    full, small = stream(clothes), stream(clothes, size_at=lambda number: (12, 12))
    for number in range(40):
        expected, sample = full[number], small[number]
        assert torch.equal(sample["noise"], expected["noise"])
        exact = low_frequency_crop(expected["image"].float(), 12)
        mirrored = exact.flip(-1)
        distance = (sample["image"] - exact).square().mean()
        contrast = exact.var()
        assert distance < 0.2 * contrast
        if (exact - mirrored).square().mean() > contrast:  # not nearly symmetric
            assert distance < (sample["image"] - mirrored).square().mean()


def test_deviation_from_the_exact_crop_on_a_smooth_picture() -> None:
    """A tenth of the contrast. Half of it is a shift: the exact crop keeps the first pixel where it
    is, a resize keeps the centre, (224 / 96 - 1) / 2 full-size pixels further.
    """
    images = table([picture(96, 96).resize((480, 480))])
    samples = [
        data.Samples(images, data.PretrainTransform((size, size), 4, (1.0, 1.0)), seed=0)[0]
        for size in (224, 96)
    ]
    exact = low_frequency_crop(samples[0]["image"].float(), 96)
    deviation = (samples[1]["image"] - exact).square().mean().sqrt() / exact.std()
    assert deviation < 0.13


def resized_and_cropped(image: Any, size: tuple[int, int]) -> Tensor:
    """What a centre crop shows, with all of the image resized first."""
    resize = v2.Resize(max(size), interpolation=v2.InterpolationMode.BICUBIC)
    return v2.Compose([resize, v2.CenterCrop(size), v2.PILToTensor()])(image)


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
@pytest.mark.parametrize("extent", [(32, 32), (50, 37), (30, 240), (241, 31), (2000, 260)])
def test_ordinary_images_are_cropped_as_ever(
    extent: tuple[int, int], size: tuple[int, int]
) -> None:
    image = picture(*extent)
    assert torch.equal(data.centre_crop(size)(image), resized_and_cropped(image, size))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
    assert torch.equal(data.centre_crop(size)(pixels), resized_and_cropped(pixels, size))


@pytest.mark.parametrize("extent", [(8, 400), (8, 401), (400, 8), (16, 999)])
def test_the_ends_of_long_images_are_cut_off_before_resizing(extent: tuple[int, int]) -> None:
    image = picture(*extent)
    kept = data.CutEnds((32, 32))(image).size
    assert max(kept) <= 8 * min(kept) + 1
    assert torch.equal(data.centre_crop((32, 32))(image), resized_and_cropped(image, (32, 32)))


@pytest.mark.parametrize("extent", [(1, 20_000), (20_000, 1), (1, 1)])
def test_a_line_of_pixels(extent: tuple[int, int]) -> None:
    """Resized as a whole, the first two would have 4.5 million columns or rows."""
    image = Image.new("RGB", extent[::-1], (1, 2, 3))
    assert max(data.CutEnds((224, 224))(image).size) <= 9
    cropped = data.centre_crop((224, 224))(image)
    assert cropped.shape == (3, 224, 224)
    assert cropped.flatten(1).unique(dim=1).flatten().tolist() == [1, 2, 3]
