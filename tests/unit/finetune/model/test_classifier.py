"""A classifier from the weights of an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from finetune.config import ClassifierConfig
from finetune.model.classifier import build_classifier, build_encoder
from mae_et import MaskedAutoencoder, export_encoder
from mae_et.model import SimMIM
from mae_et.model.pos_embed import resample_table
from mae_et.weights import linear_head
from mae_et.weights.to_transformers import (
    image_processor,
    save_transformers,
    to_vit_mae,
)
from tests.support.models import PROCESSOR, SMALL, BuildMAE, randomized
from tests.support.tensors import seeded

TINY = {"embed_dim": 16, "depth": 2, "num_heads": 2}


@pytest.fixture(scope="module")
def encoder(
    tiny_mae: BuildMAE, tmp_path_factory: pytest.TempPathFactory
) -> tuple[MaskedAutoencoder, Path]:
    """A pretrained encoder, as far as fine-tuning can tell."""
    model = tiny_mae(encoder_args=TINY, in_chans=1)
    folder = tmp_path_factory.mktemp("encoder") / "encoder"
    export_encoder(model, folder)
    return model, folder


def classifier_config(**changes: object) -> ClassifierConfig:
    fields = {
        "encoder": "vit_tiny_patch16_224",
        "encoder_args": TINY,
        "image_size": 16,
        "patch_size": 4,
        "in_chans": 1,
        "drop_path": 0.0,
        **changes,
    }
    return ClassifierConfig(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("global_pool", ["avg", "token"])
def test_classifier_has_the_encoders_features(
    encoder: tuple[MaskedAutoencoder, Path], global_pool: str
) -> None:
    model, folder = encoder
    classifier: Any = build_classifier(
        classifier_config(global_pool=global_pool), list("abc"), str(folder)
    ).model
    images = torch.randn(2, 1, 16, 16)
    features = classifier.eval().forward_features(images)
    expected = model.encoder.eval().forward_features(images)
    if global_pool == "avg":  # the norm comes after pooling, and is new
        features = model.encoder.norm(features)
    torch.testing.assert_close(features, expected)
    assert classifier.head.out_features == 3


def test_positions_are_resampled_to_the_image_size(
    encoder: tuple[MaskedAutoencoder, Path],
) -> None:
    model, folder = encoder
    classifier: Any = build_classifier(
        classifier_config(image_size=24), list("abc"), str(folder)
    ).model
    expected = resample_table(model.encoder.pos_embed, (4, 4), (6, 6), 1)
    torch.testing.assert_close(classifier.pos_embed.detach(), expected.detach())


def test_reference_checkpoint_is_read(
    encoder: tuple[MaskedAutoencoder, Path], tmp_path: Path
) -> None:
    model, _ = encoder
    weights = {name.removeprefix("encoder."): value for name, value in model.state_dict().items()}
    torch.save({"model": weights}, tmp_path / "reference.pth")
    classifier: Any = build_classifier(
        classifier_config(), list("abc"), str(tmp_path / "reference.pth")
    ).model
    assert torch.equal(
        classifier.blocks[1].attn.qkv.weight, model.encoder.blocks[1].attn.qkv.weight
    )


def test_other_attention_heads_are_another_architecture(
    encoder: tuple[MaskedAutoencoder, Path],
) -> None:
    changed = classifier_config(encoder_args={**TINY, "num_heads": 4})
    with pytest.raises(ValueError, match="2 attention heads for 4"):
        build_classifier(changed, list("abc"), str(encoder[1]))


def test_an_encoder_of_another_name_says_its_own(tiny_mae: BuildMAE, tmp_path: Path) -> None:
    """Its attention heads are those of that name, which its folder does not repeat."""
    model = tiny_mae(encoder_args={"depth": 1})
    export_encoder(model, tmp_path / "encoder")
    others = {"encoder": "vit_base_patch16_224", "in_chans": 3}
    changed = classifier_config(**others, encoder_args={"depth": 1, "embed_dim": 192})
    with pytest.raises(
        ValueError, match=r"3 attention heads for 12\); give --model.encoder vit_tiny_patch16_224 "
    ):
        build_classifier(changed, list("abc"), str(tmp_path / "encoder"))


def test_finetuning_from_a_folder_of_transformers(tiny_mae: BuildMAE, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    sizes = {"encoder_args": SMALL, "image_size": 48, "patch_size": 8}
    source = randomized(tiny_mae("vit_base_patch16_224", **sizes))
    processor = image_processor(**{**PROCESSOR, "size": 48})
    save_transformers(to_vit_mae(source), processor, tmp_path)
    options: dict[str, Any] = {
        "encoder_args": SMALL,
        "image_size": 48,
        "patch_size": 8,
        "global_pool": "token",
    }
    classifier: Any = build_classifier(
        ClassifierConfig(**options), list("abc"), str(tmp_path)
    ).model.eval()
    images = seeded(2, 3, 48, 48)
    with torch.no_grad():
        ours, theirs = classifier.forward_features(images), source.encoder.forward_features(images)
    assert torch.equal(ours, theirs)
    with pytest.raises(ValueError, match=r"give --model\.patch_size 8 --model\.in_chans 3"):
        build_classifier(
            ClassifierConfig(**{**options, "patch_size": 4, "in_chans": 1}),
            list("abc"),
            str(tmp_path),
        )


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("vit_tiny_patch16_224", "head"),
        ("resnet10t", "fc"),
        ("convnext_atto", "head.fc"),
        ("swin_tiny_patch4_window7_224", "head.fc"),
        ("deit_tiny_distilled_patch16_224", None),  # two
        ("mobilenetv4_conv_small", "classifier"),
    ],
)
def test_the_linear_head_of_a_network(name: str, head: str | None) -> None:
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=3)
    found = linear_head(network)
    assert found is (None if head is None else network.get_submodule(head))
    assert linear_head(nn.Sequential(nn.Linear(4, 3))) is None


PVT = {"embed_dims": [8], "depths": [1], "num_heads": [1], "mlp_ratios": [2], "sr_ratios": [1]}


@pytest.mark.parametrize("global_pool", ["avg", "token"])
def test_a_pvt_pools_as_it_was_pretrained(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, global_pool: str
) -> None:
    """Its own way is a class token, which SimMIM does not train."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"image_size": 16, "patch_size": 4, "in_chans": 1}
    model = SimMIM("pvt_v1_tiny", encoder_args=PVT, **sizes).eval()
    export_encoder(model, tmp_path / "encoder")
    arguments = {**PVT, "patch_size": 4}
    changes = {"encoder_args": arguments, "patch_size": None, "global_pool": global_pool}
    config = classifier_config(encoder="pvt_v1_tiny", **changes)
    images = seeded(2, 1, 16, 16)
    classifier: Any = build_classifier(config, list("abc"), str(tmp_path / "encoder")).model
    pooled = classifier.eval().forward_head(classifier.forward_features(images), pre_logits=True)
    frozen = build_encoder(config, str(tmp_path / "encoder")).eval()(images)
    assert torch.equal(pooled, frozen)
    assert torch.allclose(frozen, model.features(images), atol=1e-6) == (global_pool == "avg")
    assert ("--model.global_pool avg" in caplog.text) == (global_pool == "token")
