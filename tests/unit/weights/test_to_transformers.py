"""Exchange with transformers, and starting from weights: every direction compared in numbers."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from mae_et import MaskedAutoencoder, load_mae_checkpoint
from mae_et.weights.to_transformers import (
    image_processor,
    save_transformers,
    to_classifier,
    to_vit_mae,
)
from tests.support.models import PROCESSOR, SMALL, BuildMAE, make_classifier
from tests.support.tensors import seeded

transformers = pytest.importorskip("transformers")


def assert_same(model: MaskedAutoencoder, other: MaskedAutoencoder) -> None:
    ours, theirs = model.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


# --- the masked autoencoder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "hog"}, r"predicts pixels \(model\.target pixel or norm_pixel\), got .* hog"),
        ({"decoder": "cross"}, r"self-attention \(model\.decoder self\), got .* cross-attention"),
    ],
)
def test_what_transformers_mae_lacks(
    make_mae: BuildMAE, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        to_vit_mae(make_mae(**options))


@pytest.mark.parametrize("target", ["pixel", "norm_pixel"])
@pytest.mark.parametrize("in_chans", [1, 3])
def test_mae_in_transformers_and_back(
    make_mae: BuildMAE, tmp_path: Path, target: str, in_chans: int
) -> None:
    model = make_mae(target=target, in_chans=in_chans, mask_ratio=0.6)
    processor = {**PROCESSOR, "mean": (0.5,) * in_chans, "std": (0.2,) * in_chans}
    save_transformers(to_vit_mae(model), image_processor(**processor), tmp_path)
    opened, info = transformers.ViTMAEForPreTraining.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info.values())
    images, noise = seeded(3, in_chans, 32, 32), seeded(3, 16, uniform=True)
    with torch.no_grad():
        ours, theirs = model(images, noise), opened(images, noise=noise)
    torch.testing.assert_close(theirs.logits, ours.prediction, atol=1e-5, rtol=0)
    torch.testing.assert_close(theirs.loss, ours.loss, atol=0, rtol=1e-5)
    assert torch.equal(theirs.mask.bool(), ours.mask)

    back = load_mae_checkpoint(tmp_path)
    assert_same(model, back)
    with torch.no_grad():
        assert torch.equal(back(images, noise).loss, ours.loss)  # the target and the ratio, too


# --- classifiers


@pytest.mark.parametrize(
    ("pool", "architecture"),
    [("token", "ViTForImageClassification"), ("avg", "BeitForImageClassification")],
)
def test_classifier_in_transformers(tmp_path: Path, pool: str, architecture: str) -> None:
    classifier = make_classifier(global_pool=pool, mlp_ratio=3)
    names = [f"class {number}" for number in range(7)]
    converted = to_classifier(classifier, names)
    save_transformers(converted, image_processor(**PROCESSOR), tmp_path)
    opened, info = transformers.AutoModelForImageClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert type(opened).__name__ == architecture
    assert not any(info.values())
    images = seeded(5, 3, 32, 32)
    with torch.no_grad():
        ours = classifier(images)
        torch.testing.assert_close(opened(images).logits, ours, atol=1e-5, rtol=0)
    assert ours.std() > 0.1
    assert [opened.config.id2label[number] for number in range(7)] == names
    assert opened.config.label2id["class 3"] == 3
    opened.train()
    with torch.no_grad():
        torch.testing.assert_close(opened(images).logits, ours, atol=1e-5, rtol=0)  # no drop path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reg_tokens": 2}, "can't express register tokens"),
        ({"init_values": 0.1}, "can't express layer scale"),
        ({"qk_norm": True}, "can't express query and key norms"),
        ({"pre_norm": True}, "can't express a norm in front of the blocks"),
        ({"class_token": False, "global_pool": "avg"}, "can't express no class token"),
        ({"no_embed_class": True}, "can't express no position of the class token"),
        ({"img_size": (32, 16)}, r"can't express oblong images \(32, 16\)"),
        ({"patch_size": (8, 4)}, r"can't express oblong patches \(8, 4\)"),
        ({"qkv_bias": False}, "can't express layers without bias"),
        ({"scale_mlp_norm": True}, "a norm or gate inside attention or MLP"),
        ({"act_layer": "relu"}, "an activation other than GELU"),
        ({"norm_layer": "rmsnorm"}, "layer norms of another kind"),
        ({"global_pool": "max"}, "average of the patches, got model.global_pool 'max'"),
        ({"global_pool": "avg", "fc_norm": False}, "in the place of timm's fc_norm"),
    ],
)
def test_what_transformers_cannot_express(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_classifier(make_classifier(**arguments), list("abcdefg"))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("vit_base_patch16_224", {"image_size": (32, 16)}, "oblong images"),
        ("vit_small_patch14_reg4_dinov2", {}, "register tokens, .*layer scale"),
        ("vit_base_patch16_clip_224", {}, "a norm in front of the blocks"),
        ("vit_base_patch16_gap_224", {}, "no class token"),
    ],
)
def test_mae_that_transformers_cannot_express(
    tiny_mae: BuildMAE, name: str, arguments: dict[str, Any], message: str
) -> None:
    options = {
        "image_size": 32,
        "patch_size": 8,
        "decoder_dim": 16,
        "decoder_depth": 1,
        **arguments,
    }
    model = tiny_mae(name, encoder_args=SMALL, **options)
    with pytest.raises(ValueError, match=message):
        to_vit_mae(model)


def test_one_epsilon(make_mae: BuildMAE, tmp_path: Path) -> None:
    model = make_mae()
    model.decoder_norm.eps = 1e-5
    with pytest.raises(ValueError, match="one layer_norm_eps for all of a model, got 1e-06 and 1e"):
        to_vit_mae(model)


def test_without_transformers(
    make_mae: BuildMAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_transformers(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "transformers":
            raise ImportError(name)
        return import_module(name, *arguments, **options)

    import_module = builtins.__import__
    converted = to_vit_mae(make_mae())
    monkeypatch.setattr(builtins, "__import__", no_transformers)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[transformers\]' in the clone"):
        save_transformers(converted, image_processor(**PROCESSOR), tmp_path)


def photo(height: int, width: int) -> Image.Image:
    """Smooth shapes with some noise, as a photo has."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    noise = generator.integers(-12, 13, smooth.shape)
    return Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("shape", "crop_pct", "shift"),
    [
        ((375, 500), 0.875, (0, 0)),
        ((375, 500), 1.0, (0, 0)),
        ((500, 333), 1.0, (0, 0)),
        ((480, 640), 0.9, (0, 0)),
        ((100, 120), 0.9, (0, 0)),  # 36.5 pixels left and right: both crop from 36
        ((100, 120), 0.875, (0, 1)),  # 41.5 pixels: timm crops from 42, transformers from 41
        ((375, 500), 0.95, (1, 0)),  # 5.5 pixels above and below: timm crops from 6
    ],
)
def test_pixels_agree_with_timm(
    tmp_path: Path, shape: tuple[int, int], crop_pct: float, shift: tuple[int, int]
) -> None:
    """Equal with PIL; the default, torchvision's resize, is up to 2 of 255 grey levels off."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    processor = image_processor(size=224, mean=mean, std=std, crop_pct=crop_pct)
    save_transformers(to_classifier(make_classifier(), list("abcdefg")), processor, tmp_path)
    transform = create_transform(
        (3, 224, 224), interpolation="bicubic", mean=mean, std=std, crop_pct=crop_pct
    )
    image, (down, right) = photo(*shape), shift
    expected = transform(image)[:, : 224 - down, : 224 - right]
    levels = torch.tensor(std)[:, None, None] * 255
    for backend, tolerance in (("pil", 0.001), ("torchvision", 2.001)):
        opened = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend=backend)
        pixels = opened(images=image, return_tensors="pt")["pixel_values"][0]
        difference = (pixels[:, down:, right:] - expected).abs() * levels  # grey levels
        assert difference.max() <= tolerance
        assert difference.mean() <= 0.01


# --- starting from weights
