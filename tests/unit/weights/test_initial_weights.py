"""Starting from weights of every kind, compared in numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mae_et import MaskedAutoencoder, export_encoder
from mae_et.model.pos_embed import resample_table
from mae_et.weights import load_initial_weights
from mae_et.weights.to_transformers import (
    image_processor,
    save_transformers,
    to_classifier,
    to_vit_mae,
)
from tests.support.models import PROCESSOR, SMALL, BuildMAE, make_classifier
from tests.support.reference_mae import ReferenceMAE
from tests.support.tensors import seeded

pytest.importorskip("transformers")


def tables_of(model: MaskedAutoencoder) -> tuple[Tensor, Tensor]:
    return model.encoder.pos_embed.detach(), model.decoder_pos_embed.detach()


@pytest.fixture
def reference() -> ReferenceMAE:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"image_size": (32, 32), "patch_size": (16, 16), "dim": 768, "depth": 1}
    model = ReferenceMAE(
        **sizes, num_heads=12, decoder_dim=32, decoder_depth=1, decoder_num_heads=16
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=0.1)
    return model


def like_the_reference(**arguments: Any) -> MaskedAutoencoder:
    sizes = {"image_size": 32, "decoder_dim": 32, "decoder_depth": 1, "decoder_num_heads": 16}
    options = {"encoder_args": {"depth": 1}, **sizes, **arguments}
    return MaskedAutoencoder("vit_base_patch16_224", **options)


def test_start_from_an_official_file(tmp_path: Path, reference: ReferenceMAE) -> None:
    torch.save({"model": reference.state_dict()}, tmp_path / "mae.pth")
    model = like_the_reference()
    assert load_initial_weights(model, tmp_path / "mae.pth")
    images, noise = seeded(2, 3, 32, 32), seeded(2, 4, uniform=True)
    with torch.no_grad():
        expected, _, _ = reference(images, noise)
        torch.testing.assert_close(model(images, noise).loss, expected, atol=0, rtol=1e-5)


def test_start_at_another_image_size(tmp_path: Path, reference: ReferenceMAE) -> None:
    torch.save(reference.state_dict(), tmp_path / "mae.pth")
    model = like_the_reference(image_size=(48, 64))
    assert load_initial_weights(model, tmp_path / "mae.pth")
    weights = reference.state_dict()
    for table, name in zip(tables_of(model), ("pos_embed", "decoder_pos_embed"), strict=True):
        assert torch.equal(table, resample_table(weights[name], (2, 2), (3, 4), 1))
    assert torch.equal(model.encoder_positions, model.encoder.pos_embed)
    model.set_input_size(32)  # and back: the model's own grid is the source
    expected = resample_table(model.encoder.pos_embed, (3, 4), (2, 2), 1)
    assert torch.equal(model.encoder_positions, expected)


def test_start_from_an_encoder_alone(tmp_path: Path, reference: ReferenceMAE) -> None:
    weights = reference.state_dict()
    encoder = {k: v for k, v in weights.items() if not k.startswith(("decoder_", "mask_token"))}
    torch.save({"model": encoder}, tmp_path / "mae.pth")
    model = like_the_reference()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert not load_initial_weights(model, tmp_path / "mae.pth")
    for name, value in model.state_dict().items():
        expected = before if not name.startswith("encoder.") else None
        own = encoder[name.removeprefix("encoder.")] if expected is None else before[name]
        assert torch.equal(value, own), name


def test_half_a_decoder_is_refused(tmp_path: Path, reference: ReferenceMAE) -> None:
    weights = reference.state_dict()
    del weights["decoder_pred.bias"]
    torch.save(weights, tmp_path / "mae.pth")
    with pytest.raises(ValueError, match=r"missing: decoder_pred\.bias"):
        load_initial_weights(like_the_reference(), tmp_path / "mae.pth")


@pytest.mark.parametrize("kind", ["encoder", "transformers"])
def test_start_from_folders(make_mae: BuildMAE, tmp_path: Path, kind: str) -> None:
    source = make_mae(image_size=48)
    if kind == "encoder":
        export_encoder(source, tmp_path / "weights")
    else:
        (tmp_path / "weights").mkdir()
        processor = image_processor(**{**PROCESSOR, "size": 48})
        save_transformers(to_vit_mae(source), processor, tmp_path / "weights")
    model = make_mae(image_size=32)
    assert load_initial_weights(model, tmp_path / "weights") is (kind == "transformers")
    ours, theirs = model.state_dict(), source.state_dict()
    tables = {"encoder.pos_embed"} | ({"decoder_pos_embed"} if kind == "transformers" else set())
    for name in ours:
        if name in tables:
            assert torch.equal(ours[name], resample_table(theirs[name], (6, 6), (4, 4), 1)), name
        elif name.startswith("encoder.") or kind == "transformers":
            assert torch.equal(ours[name], theirs[name]), name


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        (
            {"patch_size": 4, "in_chans": 1},
            "(patch size 8 for 4, 3 channels for 1); give --model.patch_size 8 --model.in_chans 3",
        ),
        (
            {"encoder_args": {"embed_dim": 48, "depth": 1, "num_heads": 4}},
            "give --model.encoder_args.embed_dim 32 --model.encoder_args.depth 2 "
            "--model.encoder_args.num_heads 2",
        ),
        ({"encoder_args": {**SMALL, "num_heads": 4}}, "(2 attention heads for 4)"),
        (
            {"decoder_dim": 32, "decoder_depth": 1, "decoder_num_heads": 8},
            "give --model.decoder_dim 16 --model.decoder_depth 2 --model.decoder_num_heads 4",
        ),
        (
            {"decoder": "cross"},
            "(self-attention in the decoder for cross); give --model.decoder self",
        ),
    ],
)
def test_what_another_architecture_needs(
    make_mae: BuildMAE, tmp_path: Path, changes: dict[str, Any], options: str
) -> None:
    save_transformers(to_vit_mae(make_mae()), image_processor(**PROCESSOR), tmp_path)
    with pytest.raises(ValueError, match="of another architecture") as error:
        load_initial_weights(make_mae(**changes), tmp_path)
    assert options in str(error.value)


def test_weights_for_another_target(make_mae: BuildMAE, tmp_path: Path) -> None:
    save_transformers(to_vit_mae(make_mae()), image_processor(**PROCESSOR), tmp_path)
    histograms = make_mae(target="hog", hog={"cell": 4})
    with pytest.raises(
        ValueError, match=r"predicts 192 values of a patch, and model\.target hog has 108; give"
    ):
        load_initial_weights(histograms, tmp_path)


def test_a_folder_of_another_model(make_mae: BuildMAE, tmp_path: Path) -> None:
    classifier = to_classifier(make_classifier(), list("abcdefg"))
    save_transformers(classifier, image_processor(**PROCESSOR), tmp_path)
    with pytest.raises(ValueError, match=r"must be a ViTMAE .*, got model_type 'vit'"):
        load_initial_weights(make_mae(), tmp_path)
