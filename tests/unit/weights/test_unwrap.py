"""Checkpoints as other people's code writes them."""

from __future__ import annotations

import argparse
import logging
import pathlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from finetune.config import ClassifierConfig
from finetune.model import build_classifier
from mae_et import MaskedAutoencoder
from mae_et.weights import find_weights, load_initial_weights, read_weights
from mae_et.weights.unwrap import AVERAGES, NETWORKS, tensors_of
from tests.support.models import BuildMAE, make_classifier, randomized

SIZES: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2}
MODEL = ClassifierConfig(
    encoder="vit_tiny_patch16_224", encoder_args=SIZES, image_size=28, patch_size=4, in_chans=1
)


def encoder_weights(seed: int = 0) -> dict[str, Tensor]:
    model = build_classifier(MODEL, ["a", "b"], "none").model
    weights: dict[str, Tensor] = randomized(model, seed).state_dict()
    return {n: v for n, v in weights.items() if not n.startswith(("head.", "fc_norm."))}


def prefixed(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in weights.items()}


def itself(**others: Any) -> dict[str, Any]:
    """A dict that wraps itself."""
    loop = {"epoch": 3, **others}
    loop["model"] = loop
    return loop


OURS, OTHER = encoder_weights(), encoder_weights(seed=1)

FILES: dict[str, Any] = {
    "plain": OURS,
    "model": {"model": OURS, "epoch": 3},
    "state_dict": {"state_dict": OURS, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}},
    "numbers beside tensors": {**OURS, "epoch": 3, "name": "vit"},
    "arguments": {"model": OURS, "args": argparse.Namespace(out=pathlib.Path("/x"), lr=1e-3)},
    "numpy numbers": {"model": OURS, "best": np.float64(0.5), "hits": np.int64(3)},
    "distributed": {"model": prefixed("module.", OURS)},
    "compiled": prefixed("_orig_mod.", OURS),
    "compiled and distributed": {"state_dict": prefixed("module._orig_mod.", OURS)},
    "backbone": {"model": prefixed("backbone.", OURS)},
    "encoder": {"state_dict": prefixed("encoder.", OURS)},
    "averaged": {"model": OTHER, "model_ema": OURS},
    "teacher": {"student": prefixed("module.", OTHER), "teacher": prefixed("backbone.", OURS)},
    "teacher by prefix": prefixed("teacher.backbone.", OURS) | prefixed("student.", OTHER),
    "nested": {"checkpoint": {"model": OURS}},
    "numbers of an average": {"model": OURS, "ema": {"decay": torch.tensor(0.99)}},
    "a loss beside it": {"loss": torch.tensor(0.5), "step": torch.ones(1), "encoder": OURS},
    "numbers as keys": {"model": {**OURS, 3: torch.ones(2, 2)}, 0: OTHER},
    "wrapped within": {
        "module."
        + name.replace("blocks.0.", "blocks.0._fsdp_wrapped_module._orig_mod.").replace(
            "blocks.1.", "_checkpoint_wrapped_module.blocks.1."
        ): value
        for name, value in OURS.items()
    },
    "of an average elsewhere": {
        "state_dict": OURS,
        "callbacks": {"EMA": {"ema_weights": OTHER}, "Stop": {"best": torch.ones(2, 2)}},
        "optimizer": {"state": {n: {"a": v, "b": v} for n, v in enumerate(OURS.values())}},
    },
    "of a shadow": {"model": OURS, "ema": {"decay": 0.9, "shadow": OTHER}},
    "of a list": {**OURS, "ema": {"shadow_params": list(OTHER.values())}},
    "with a projector": prefixed("backbone.", OURS) | {"projector.0.weight": torch.ones(3, 3)},
}


@pytest.mark.parametrize("name", FILES)
def test_the_weights_are_found(tmp_path: Path, name: str) -> None:
    torch.save(FILES[name], tmp_path / "some.pth")
    model = build_classifier(MODEL, ["a", "b"], str(tmp_path / "some.pth")).model.state_dict()
    for key in OURS.keys() & model.keys():
        assert torch.equal(model[key], OURS[key]), key


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model", "some.pth does not tell how many attention heads it has; 2 are taken"),
        ("averaged", "'model_ema' is used, and not model"),
        ("of an average elsewhere", "'state_dict' is used, and not callbacks.EMA.ema_weights"),
        ("of a shadow", "'model' is used, and not ema.shadow"),
        ("of a list", "'the network' is used, and not ema.shadow_params"),
        ("numbers of an average", ""),
        ("compiled", "weights are read by the names that they have without wrappers"),
        ("backbone", "weights are read without the prefix 'backbone.'"),
        ("with a projector", "'backbone.' and without 1 others, such as projector.0.weight"),
    ],
)
def test_what_is_unwrapped_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, said: str
) -> None:
    torch.save(FILES[name], tmp_path / "some.pth")
    with caplog.at_level(logging.WARNING):
        build_classifier(MODEL, ["a", "b"], str(tmp_path / "some.pth"))
    assert said in caplog.text
    heads = sum("attention heads" in record.getMessage() for record in caplog.records)
    assert (heads, len(caplog.records)) == (1, 1 + (said[:1] not in ("", "s")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"actor": OURS, "critic": OTHER}, "the state dict of one network, .*got actor, critic"),
        (prefixed("left.", OURS) | prefixed("right.", OTHER), "got the prefixes left., right."),
        (itself(), "the state dict of one network, .*got epoch, model"),
        (itself(weight=torch.ones(2, 2)), "the state dict of one network, .*got epoch, weight"),
        ({0: OURS, 1: OTHER}, "the state dict of one network, .*got 0, 1"),
        ({"loss": torch.tensor(0.5)}, "the state dict of one network, .*got loss"),
        ({"model": {"epoch": 3}}, "the state dict of one network"),
        ({"model": [torch.ones(2)]}, "the state dict of one network"),
        (
            {"model": OURS, "time": datetime.now(UTC)},
            "an object of datetime.datetime",
        ),
    ],
)
def test_what_is_ambiguous_is_named(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "some.pth")
    with pytest.raises(ValueError, match=message) as caught:
        find_weights(tmp_path / "some.pth").read()
    assert len(str(caught.value).splitlines()) == 1


def test_a_prefix_that_is_the_network_s_own_stays(tmp_path: Path) -> None:
    """Of a network of one's own, which has a transformer as its backbone."""
    own = make_own()
    torch.save(own.state_dict(), tmp_path / "own.pth")
    config = ClassifierConfig(
        encoder=f"{__name__}:make_own", image_size=28, patch_size=None, in_chans=1, encoder_args={}
    )
    loaded = build_classifier(config, ["a", "b"], str(tmp_path / "own.pth")).model.state_dict()
    for name, value in own.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(loaded[name], value), name


class Own(torch.nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.backbone = make_classifier(**SIZES, img_size=28, patch_size=4, in_chans=1)
        self.neck = torch.nn.Linear(3, 3)
        self.head = torch.nn.Linear(7, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.head(self.backbone(images))
        return result


def make_own(num_classes: int = 2, **_: object) -> torch.nn.Module:
    torch.manual_seed(len(torch.__version__))
    return randomized(Own(num_classes), seed=3)


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_a_classifier_given_to_pretraining(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tiny_mae: BuildMAE, pool: str
) -> None:
    mae: MaskedAutoencoder = tiny_mae("vit_tiny_patch16_224", encoder_args=SIZES, in_chans=1)
    classifier = make_classifier(**SIZES, img_size=32, patch_size=4, in_chans=1, global_pool=pool)
    path = tmp_path / "classifier.pth"
    torch.save({"model": randomized(classifier).state_dict()}, path)
    if pool == "avg":
        with pytest.raises(ValueError, match="is a classifier that averages patches before"):
            load_initial_weights(mae, path)
        return
    with caplog.at_level(logging.WARNING):
        assert not load_initial_weights(mae, path)
    assert "is a classifier; its head is left out" in caplog.text
    assert torch.equal(mae.encoder.norm.weight, classifier.norm.weight)


@pytest.mark.parametrize(
    ("names", "keep_head", "kept", "said"),
    [
        (None, False, None, "does not name its classes"),
        (None, True, [0, 1, 2], ""),
        (["a", "b", "c"], False, [0, 1, 2], ""),
        (["c", "a", "b"], False, [1, 2, 0], "in another order; it is reordered"),
        (["x", "y", "z"], False, None, "has other classes"),
        (["x", "y", "z"], True, [0, 1, 2], ""),
        (["c", "a", "b"], True, [1, 2, 0], "in another order; it is reordered"),
    ],
)
def test_which_head_stays(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    names: list[str] | None,
    keep_head: bool,
    kept: list[int] | None,
    said: str,
) -> None:
    from mae_et.weights import Pretrained, load_encoder

    old, new = (randomized(make_classifier(**SIZES, num_classes=3), seed) for seed in (0, 1))
    before = new.head.weight.clone()
    weights = {f"encoder.{name}": value for name, value in old.state_dict().items()}
    pretrained = Pretrained(weights=weights, class_names=names, num_heads=2)
    with caplog.at_level(logging.WARNING):
        axes = {"head.weight": (0,), "head.bias": (0,)}
        load_encoder(
            new, pretrained, "some.pth", ["a", "b", "c"], class_axes=axes, keep_head=keep_head
        )
    assert said in caplog.text
    assert bool(said) is bool(caplog.text)
    expected = before if kept is None else old.head.weight[kept]
    assert torch.equal(new.head.weight, expected)
    expected = old.head.bias[kept] if kept else new.head.bias
    assert torch.equal(new.head.bias, expected)


def test_a_mask_token_alone_is_no_decoder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tiny_mae: BuildMAE
) -> None:
    """As in SimMIM, BEiT and DINOv2; the new model's own token stays."""
    mae: MaskedAutoencoder = tiny_mae(
        "vit_tiny_patch16_224", encoder_args=SIZES, in_chans=1, image_size=28, patch_size=4
    )
    before = mae.mask_token.clone()
    vit = make_classifier(**SIZES, img_size=28, patch_size=4, in_chans=1, num_classes=0)
    weights = {**vit.state_dict(), "mask_token": torch.ones(1, 1, 32)}
    torch.save(weights, tmp_path / "some.pth")
    with caplog.at_level(logging.WARNING):
        assert not load_initial_weights(mae, tmp_path / "some.pth")
    assert "has a mask token and no decoder; the token is left out" in caplog.text
    assert torch.equal(mae.mask_token, before)
    assert torch.equal(mae.encoder.norm.weight, vit.norm.weight)


def test_dicts_that_hold_each_other_many_times(tmp_path: Path) -> None:
    """Every known key leads back; nobody follows all ways through them."""
    loop: dict[str, Any] = {"other": {}}
    for key in (*AVERAGES, *NETWORKS):
        loop[key] = loop["other"][key] = loop
    with pytest.raises(ValueError, match="the state dict of one network"):
        tensors_of(loop, tmp_path)
    many: dict[str, Any] = {f"x{number}": {} for number in range(30)}
    for inner in many.values():
        inner.update(many)
    assert tensors_of({**OURS, **many}, tmp_path).keys() == OURS.keys()


def test_no_head_to_keep(tmp_path: Path) -> None:
    torch.save(OURS, tmp_path / "encoder.pth")
    with pytest.raises(ValueError, match=r"--keep_head must be false, .* no head of 2 classes"):
        build_classifier(MODEL, ["a", "b"], str(tmp_path / "encoder.pth"), keep_head=True)


def test_numpy_objects_are_still_refused(tmp_path: Path) -> None:
    torch.save({"model": OURS, "objects": np.array([print], object)}, tmp_path / "some.pth")
    with pytest.raises(ValueError, match="holds more than tensors"):
        read_weights(tmp_path / "some.pth")
