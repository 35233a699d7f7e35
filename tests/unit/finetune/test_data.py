"""The supervised loaders: timm's transforms in uint8, by the stage of the step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from finetune import config as sections
from finetune.data import (
    Augmentation,
    LabelledSplits,
    TrainTransform,
    erase,
    load_labelled,
    randaug_policies,
)
from mae_et.config import ProbeConfig
from mae_et.data import LabelledImages, eval_transform
from mae_et.data.images.encoded import EncodedImage
from mae_et.data.samples import seed_generators
from mae_et.data.transforms import channel_statistics, normalize
from mae_et.lowfreq import low_frequency_crop
from tests.support.images import encode, picture

POLICY = "rand-m9-mstd0.5-inc1"


def make_config(**changes: Any) -> sections.FinetuneConfig:
    """A configuration for images of 64 pixels and 10 of them in a step."""
    parts = {
        "model": sections.ClassifierConfig(image_size=64),
        "curriculum": sections.SupervisedCurriculumConfig(name="efficienttrain"),
        "data": sections.DataConfig(path="disk:x"),
        "augment": sections.AugmentConfig(),
        "optim": sections.FinetuneOptimConfig(batch_size=10),
        "probe": ProbeConfig(),
        "run": sections.FinetuneRunConfig(),
        **changes,
    }
    return sections.FinetuneConfig(checkpoint="none", **parts)


def photo() -> EncodedImage:
    return EncodedImage(encode(picture(160, 120), "PNG"), "RGB", "photo")


@pytest.mark.parametrize(("policy", "erasing"), [(None, 0.0), (None, 1.0), (POLICY, 0.5)])
def test_the_same_images_as_timm_makes(policy: str | None, erasing: float) -> None:
    """Its own pipeline from Pillow to float32, with the same draws: crops, flips, what is erased.

    Pillow and torch resize with an error of a grey level, which RandAug may blow up.
    """
    augment = sections.AugmentConfig(randaug=policy, erase=erasing)
    config = make_config(augment=augment)
    ours = Augmentation(config, 64, policy)
    mean, std = config.data.mean, config.data.std
    theirs = create_transform(
        (3, 64, 64),
        is_training=True,
        scale=augment.crop_scale,
        color_jitter=None,
        auto_augment=policy,
        interpolation="bicubic",
        mean=mean,
        std=std,
        re_prob=erasing,
        re_mode="const",  # which sets to 0, and draws the same rectangle as "pixel"
    )
    image, deviations, num_erased = photo(), [], 0
    for number in range(20):
        seed_generators(0, number)
        sample = ours(image)
        assert sample["image"].dtype == torch.uint8
        seed_generators(0, number)
        expected = theirs(image.decode())
        kept = sample.get("kept", torch.ones(1, 64, 64, dtype=torch.bool))
        pixels = normalize(sample["image"], channel_statistics(mean), channel_statistics(std))
        assert ((expected == 0).all(0, keepdim=True) == ~kept).all()
        deviations.append(((pixels - expected) * kept).abs().mean())
        num_erased += int(not kept.all())
    assert np.median(deviations) < 0.2 / 255 / 0.22
    assert num_erased == {0.0: 0, 1.0: 20}.get(erasing, num_erased)
    assert 0 < num_erased < 20 or policy is None


def test_erased_pixels_are_normal_noise() -> None:
    images, kept = torch.full((4, 3, 64, 64), 5.0), torch.ones(4, 1, 64, 64, dtype=torch.bool)
    kept[1, :, 10:50, 20:60] = False
    erased = erase(images, kept)
    assert (erased[kept.expand_as(erased)] == 5).all()
    noise = erased[1, :, 10:50, 20:60]  # 4800 numbers
    assert noise.mean().abs() < 4 / 4800**0.5
    assert noise.std() == pytest.approx(1, abs=0.05)
    assert len(noise.unique()) > 4000


def test_magnitudes_and_sizes_follow_the_stage() -> None:
    """Each stage has its magnitude; its images are of its size with data.downsample loader."""
    config = make_config()
    assert randaug_policies(config, 5) == [f"rand-m{m}-mstd0.5-inc1" for m in (1, 3, 5, 7, 9)]
    schedule = config.curriculum.build(full_size=64, multiple=16, num_steps=10)
    transform = TrainTransform(config, np.zeros(1), schedule)
    used: list[int] = []

    def noting(stage: int) -> Any:
        return lambda _: used.append(stage) or {}

    transform.by_stage = [noting(stage) for stage in range(5)]
    for number in range(0, 100, 10):
        transform(cast(Any, None), 0, number)
    assert used == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]

    plus = sections.SupervisedCurriculumConfig(name="efficienttrain_plus", sizes="deit")
    assert randaug_policies(replace(config, curriculum=plus), 10) == [
        f"rand-m{magnitude}-mstd0.5-inc1" for magnitude in range(10)
    ]
    assert plus.build(full_size=224, multiple=16, num_steps=100).num_steps == 235
    own = replace(plus, sizes=[112, 160, 224])
    assert randaug_policies(replace(config, curriculum=own), 3) == [
        f"rand-m{magnitude}-mstd0.5-inc1" for magnitude in ("0", "4.5", "9")
    ]

    for downsample, sizes in {"device": [64] * 5, "loader": [48, 48, 48, 48, 64]}.items():
        source = sections.DataConfig(path="disk:x", downsample=cast(Any, downsample))
        transform = TrainTransform(make_config(data=source), np.zeros(1), schedule)
        samples = [transform(photo(), 0, number) for number in range(0, 100, 20)]
        assert [sample["image"].shape for sample in samples] == [(3, s, s) for s in sizes]
        assert [sample["kept"].shape for sample in samples] == [(1, s, s) for s in sizes]


def test_the_loader_shows_at_a_small_size_what_the_exact_crop_shows() -> None:
    """The same boxes and flips; about as far apart as in pretraining, see `mae_et.data`."""
    augment = sections.AugmentConfig(randaug=None, crop_scale=(0.5, 1.0))
    config = make_config(augment=augment)
    full, small = (Augmentation(config, size, None) for size in (64, 48))
    for number in range(20):
        seed_generators(0, number)
        exact = low_frequency_crop(full(photo())["image"].float(), 48)
        seed_generators(0, number)
        deviation = (small(photo())["image"] - exact).square().mean().sqrt()
        assert deviation < 0.25 * exact.std()


@pytest.mark.parametrize("policy", ["rand-m10-n8-inc1", "rand-m1-n8"])
def test_the_strongest_randaug_is_possible(policy: str) -> None:
    """Posterize of timm would keep 0 bits at the ends of its scale, which Pillow refuses."""
    augment = Augmentation(make_config(), 64, policy)
    for _ in range(30):
        assert augment(photo())["image"].shape == (3, 64, 64)


@pytest.mark.parametrize("crop_mode", [None, "center", "squash", "border"])
@pytest.mark.parametrize("size", [(64, 64), (48, 96)])
@pytest.mark.parametrize("extent", [(160, 120), (40, 300), (320, 41)])
def test_evaluation_is_timms(
    extent: tuple[int, int], size: tuple[int, int], crop_mode: str | None
) -> None:
    options: dict[str, Any] = {"input_size": (3, *size), "crop_mode": crop_mode}
    options |= {"interpolation": "bicubic", "crop_pct": 0.875}
    theirs = create_transform(**options, is_training=False, normalize=False)
    image = picture(*extent)
    assert torch.equal(eval_transform(**options)(image), theirs(image))


@pytest.mark.parametrize("extent", [(1, 20_000), (20_000, 1)])
def test_a_line_of_pixels_is_evaluated_in_little_memory(extent: tuple[int, int]) -> None:
    """All of it, at 256 pixels of height, would be 5.1 million pixels wide."""
    image = Image.new("RGB", extent[::-1], (1, 2, 3))
    transform = eval_transform(input_size=(3, 224, 224), interpolation="bicubic", crop_pct=0.875)
    assert max(transform.transforms[0](image).size) <= 9
    cropped = transform(image)
    assert cropped.shape == (3, 224, 224)
    assert cropped.flatten(1).unique(dim=1).flatten().tolist() == [1, 2, 3]


def load(path: str, fold: tuple[int, int] | None = None) -> LabelledSplits:
    return load_labelled(sections.DataConfig(path=path, mean=(0.3,), std=(0.35,), fold=fold))


def pictures(images: LabelledImages) -> list[bytes]:
    return [row["image"].tobytes() for row in images.dataset]


def test_folds_share_out_each_class(clothes: str) -> None:
    seen: list[bytes] = []
    for part in (1, 2, 3):
        splits = load(clothes, (part, 3))
        assert set(np.bincount(splits.held_out.labels).tolist()) <= {2, 3}  # of eight in a class
        assert not set(pictures(splits.held_out)) & set(pictures(splits.train))
        seen += pictures(splits.held_out)
    assert sorted(seen) == sorted(pictures(load(clothes).train))


def test_more_folds_than_images_of_a_class(clothes: str) -> None:
    with pytest.raises(ValueError, match=r"data\.fold must be of at most 8 parts, .*\[1, 9\]"):
        load(clothes, (1, 9))
