"""Which weights are a head's, and what becomes of them where the classes are others."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from finetune.config import ClassifierConfig, DataConfig
from finetune.model import build_classifier, save_classifier
from finetune.model.backbone import class_axes, create_model
from tests.support.models import randomized

IMAGES = torch.linspace(-1, 1, 4 * 3 * 8 * 8).view(4, 3, 8, 8)


class Own(nn.Module):
    """Its head is called as that of torchvision's networks; a layer before it is as wide."""

    def __init__(self, num_classes: int, hidden: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, kernel_size=4, stride=4)
        self.hidden = nn.Linear(4, hidden)
        self.fc = nn.Linear(hidden, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.conv(images).mean((2, 3))
        logits: Tensor = self.fc(self.hidden(pooled).tanh())
        return logits


class Layers(Own):
    """All of its layers after the pooling are a head, one of them as wide as the classes."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.head = nn.Sequential(self.hidden, nn.Tanh(), self.fc)
        del self.hidden, self.fc

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.conv(images).mean((2, 3)))
        return logits


class AsWide(Own):
    """Its hidden layer always has a unit for each class."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, hidden=num_classes)


class Maxout(Own):
    """Its head has two rows for a class, in an order that nobody knows."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(2 * num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).unflatten(1, (2, -1)).amax(1)


class Pair(Own):
    """It has two classes and no other number."""

    def __init__(self, num_classes: int) -> None:
        if num_classes != 2:
            raise RuntimeError("two classes")
        super().__init__(num_classes)


def config(encoder: type[nn.Module]) -> ClassifierConfig:
    name = f"{__name__}:{encoder.__name__}"
    return ClassifierConfig(
        encoder=name, image_size=8, patch_size=None, in_chans=3, drop_path=0.0, encoder_args={}
    )


def saved(folder: Path, encoder: type[nn.Module], names: str = "ab") -> Any:
    """A classifier, also written to the folder."""
    model = randomized(build_classifier(config(encoder), list(names), "none").model)
    source = DataConfig(path="x", mean=(0.5,) * 3, std=(0.2,) * 3)
    save_classifier(model, folder, config(encoder), source, list(names), {})
    return model


@pytest.mark.parametrize(
    ("encoder", "names", "said"),
    [
        (Own, "ab", None),
        (Own, "ba", "in another order; it is reordered"),
        (Own, "cd", "has other classes; a new one takes its place"),
        (Own, "abc", "has other classes; a new one takes its place"),
        (Layers, "ba", "in another order; it is reordered"),
        (Layers, "cd", "has other classes; a new one takes its place"),
        (AsWide, "ba", "in another order; it is reordered"),
        (Maxout, "ab", None),
        (Maxout, "ba", "it can't be reordered; a new one takes its place"),
        (Pair, "ab", "which weights of .*:Pair are its head's is unknown: .* two classes"),
    ],
)
def test_a_head_of_any_name(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    encoder: type[nn.Module],
    names: str,
    said: str | None,
) -> None:
    """Its outputs are those of the same classes, or it is new; one line says which."""
    old = saved(tmp_path / "old", encoder)
    torch.manual_seed(5)
    with caplog.at_level(logging.WARNING):
        new: Any = build_classifier(config(encoder), list(names), str(tmp_path / "old")).model
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == (said is not None)
    with torch.no_grad():
        before, after = old(IMAGES), new.eval()(IMAGES)
    if said is None or "reordered" in said.split(";")[-1] or encoder is Pair:
        assert torch.allclose(after, before[:, ["ab".index(name) for name in names]], atol=1e-6)
    else:
        torch.manual_seed(5)
        fresh = build_classifier(config(encoder), list(names), "none").model.state_dict()
        last = [name for name in fresh if name.startswith(("fc.", "head."))]
        assert all(torch.equal(new.state_dict()[name], fresh[name]) for name in last)
    if said is not None:
        assert re.search(said, messages[0])
    assert torch.equal(new.conv.weight, old.conv.weight)


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("vit_tiny_patch16_224", 32, {"head"}),
        ("deit_tiny_distilled_patch16_224", 32, {"head", "head_dist"}),
        ("resnet18", 32, {"fc"}),
        ("convnext_atto", 32, {"head.fc"}),
        ("repvit_m0_9", 32, {"head.head.l", "head.head_dist.l"}),
    ],
)
def test_the_axes_that_number_the_classes(name: str, size: int, expected: set[str]) -> None:
    """They are those of the layers that timm names; finding them draws no random number."""
    built: dict[str, Any] = {"image_size": size, "in_chans": 3, "num_classes": 3, "model_args": {}}
    model = create_model(name, **built).model
    before = torch.get_rng_state()
    axes = class_axes(model, name, **built)
    assert torch.equal(torch.get_rng_state(), before)
    assert axes == {f"{one}.{kind}": (0,) for one in expected for kind in ("weight", "bias")}
