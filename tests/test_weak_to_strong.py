"""Augmentation that gets stronger from stage to stage; off, it changes nothing."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from mae_et import Curriculum
from mae_et.__main__ import main
from mae_et.data import transforms
from mae_et.data.clock import SampleClock, augment_progress
from mae_et.data.images.encoded import EncodedImage
from mae_et.data.samples import seed_generators
from mae_et.data.transforms import PretrainTransform

from .conftest import assert_same_weights, tiny, weights


def sample(number: int, **options: Any) -> Tensor:
    """Sample `number` of a colourful image."""
    file = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").rotate(30, fillcolor=(90, 30, 160)).save(file, "PNG")
    transform = PretrainTransform((32, 32), 16, **options)
    seed_generators(0, number)
    image: Tensor = transform(EncodedImage(file.getvalue(), "RGB", "a"), 0, number)["image"]
    return image


def test_progress_is_that_of_the_stage() -> None:
    curriculum = Curriculum.efficienttrain(full_size=224, patch_size=16, num_steps=10)
    found = [augment_progress(curriculum, SampleClock(4), number) for number in range(0, 40, 8)]
    assert found == [0, 0.25, 0.5, 0.75, 1]
    assert (
        augment_progress(Curriculum.constant(full_size=224, num_steps=10), SampleClock(4), 0) == 1
    )


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
    monkeypatch.setattr(transforms.v2, "ColorJitter", note_jitter)
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


def test_a_run_that_ends_as_strong_as_it_began_is_the_plain_one(
    clothes: str, finished: Path, tmp_path: Path
) -> None:
    same = tiny(clothes, tmp_path / "same", data__first_crop_scale="[0.2, 1.0]")
    weak = tiny(
        clothes, tmp_path / "weak", data__first_crop_scale="[0.9, 1.0]", data__color_jitter=0.4
    )
    assert main(["pretrain", *same]) == 0
    assert main(["pretrain", *weak]) == 0
    assert_same_weights(finished, tmp_path / "same")
    assert any(
        not torch.equal(value, weights(finished)[name])
        for name, value in weights(tmp_path / "weak").items()
    )
