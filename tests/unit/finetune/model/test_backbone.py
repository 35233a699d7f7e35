"""Backbones by name: what can not be built, and what is not used."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from finetune.model.backbone import create_model
from mae_et.model.any_size import SizedModel

VIT = {"patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}


def build(name: str, model_args: dict[str, Any], drop_path: float = 0.0) -> SizedModel:
    return create_model(
        name,
        image_size=32,
        in_chans=3,
        num_classes=5,
        drop_path=drop_path,
        model_args=model_args,
    )


@pytest.mark.parametrize(
    ("name", "model_args", "message"),
    [
        ("resnet5", {}, "timm model or module:callable, got 'resnet5'; nearest: resnet50"),
        ("resnet18", {"width": 3}, "'resnet18' can't be built with .*'width'"),
        ("resnet18", {"img_size": 3}, "model.encoder_args must not have img_size"),
        ("deit_tiny_patch16_224", {"patch_size": 5}, "multiple of the patch size 5"),
        ("tests.nowhere:windowed", {}, "can't import module 'tests.nowhere'"),
        (":windowed", {}, "can't import module ''"),
        (
            "tests.support.own_model:nothing",
            {},
            "'tests.support.own_model:nothing': .*no attribute 'nothing'",
        ),
        ("tests.support.own_model:not_callable", {}, "must be callable, got int"),
        ("tests.support.own_model:no_module", {}, "must return a torch.nn.Module, got str"),
        ("tests.support.own_model:features", {}, r"into logits \(2, 5\), got \(2, 6\)"),
        ("tests.support.own_model:windowed", {"dim": 3}, "can't be built with .*'dim'"),
    ],
)
def test_models_that_can_not_be_built(name: str, model_args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        build(name, model_args)
    assert "\n" not in str(error.value)


def test_drop_path_that_a_model_lacks(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        build("tests.support.own_model:windowed", {}, drop_path=0.1)
    assert "model.drop_path 0.1 is unused" in caplog.text
    caplog.clear()
    sized = build("deit_tiny_patch16_224", VIT, drop_path=0.1)
    assert sized.model.blocks[-1].drop_path1.drop_prob == pytest.approx(0.1)  # type: ignore
    assert not caplog.text
