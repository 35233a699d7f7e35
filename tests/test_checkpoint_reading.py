"""Reading foreign checkpoints safely, and the hand-off of the encoder to plain timm."""

import argparse
import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from mae_et import MaskedAutoencoder, export_encoder, load_mae_checkpoint
from mae_et.weights.files import load_weights, read_weights

from .reference_mae import ReferenceMAE


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Of a reference model that is as small as its width of 768 allows."""
    torch.manual_seed(0)
    return ReferenceMAE(
        image_size=(32, 32),
        patch_size=(16, 16),
        in_chans=1,
        dim=768,
        depth=1,
        num_heads=12,
        decoder_dim=16,
        decoder_depth=1,
        decoder_num_heads=16,
    ).state_dict()


SOME = {"a": torch.arange(2000.0), "b": torch.ones(3, 4), "c": torch.zeros(0)}


# --- files


@pytest.mark.parametrize("name", ["nothing.pth", "nothing.safetensors", "no/folder/mae.pth"])
def test_missing_file(tmp_path, name):
    for read in (read_weights, load_mae_checkpoint):
        with pytest.raises(ValueError, match=rf"checkpoint must exist, got .*{name}"):
            read(tmp_path / name)


@pytest.mark.parametrize("folder", ["empty", "with_config"])
def test_a_folder_that_is_no_run(tmp_path, folder):
    (tmp_path / folder).mkdir()
    if folder == "with_config":
        (tmp_path / folder / "config.yaml").write_text("model: {}\n")
    with pytest.raises(ValueError, match=rf"run's folder with a checkpoint.*{folder}"):
        load_mae_checkpoint(tmp_path / folder)


def save(weights: object, path: Path, kind: str) -> bytes:
    if kind == "safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=kind == "zip")
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_every_format_is_read(tmp_path, kind):
    path = tmp_path / ("some.safetensors" if kind == "safetensors" else "some.pth")
    save(SOME, path, kind)
    found = read_weights(path)
    assert found.keys() == SOME.keys()
    assert all(torch.equal(found[name], SOME[name]) for name in SOME)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_truncated_file(tmp_path, kind):
    path = tmp_path / ("some.safetensors" if kind == "safetensors" else "some.pth")
    whole = save(SOME, path, kind)
    for length in [*range(32), *range(32, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        error = error_of_reading(path)
        assert isinstance(error, ValueError), f"{length} of {len(whole)} bytes: {error!r}"
        assert re.search(rf"checkpoint .*{path.name} .*damaged", str(error)), f"{length}: {error}"


def error_of_reading(path: Path) -> Exception | None:
    try:
        read_weights(path)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html>\n<html><body>404</body></html>\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        b'{"message": "not found"}',
        b"\x89PNG\r\n\x1a\n" + bytes(64),
        bytes(1000),
    ],
    ids=["html", "lfs", "json", "png", "zeros"],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_another_kind(tmp_path, suffix, content):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint .* damaged"):
        read_weights(path)


class Intruder:
    """Unpickling it runs a shell command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"model": x}, lambda x: {"args": x}])
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_code_in_a_pickle_is_not_executed(tmp_path, kind, wrap):
    marker = tmp_path / "was_here"
    content = wrap(Intruder(marker))
    path = tmp_path / "mae.pth"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        save(content, path, kind)
    for read in (read_weights, load_mae_checkpoint):
        with pytest.raises(ValueError, match=r"checkpoint .*mae\.pth .*not executed"):
            read(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Intruder(marker)))  # the trap does work
    assert marker.exists()


@pytest.mark.parametrize("kind", ["code", "array"])
def test_the_message_of_an_unsafe_file_is_one_plain_line(tmp_path, kind):
    args = Intruder(tmp_path / "was_here") if kind == "code" else np.zeros(3)
    torch.save({"model": SOME, "args": args}, tmp_path / "mae.pth")
    with pytest.raises(ValueError, match="not executed") as error:
        read_weights(tmp_path / "mae.pth")
    assert str(error.value).isprintable()  # no colours
    # nor torch's advice to load the file after all:
    assert not re.search("can still be loaded|will likely succeed", str(error.value))


def test_only_namespaces_are_trusted_and_only_while_reading(tmp_path):
    before = set(torch.serialization.get_safe_globals())
    torch.save({"model": SOME, "args": argparse.Namespace(lr=1e-3)}, tmp_path / "mae.pth")
    assert read_weights(tmp_path / "mae.pth").keys() == SOME.keys()
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize(
    "content", [3, [torch.zeros(3)], torch.zeros(3), {"model": 3}, {"a": 1}, {"model": {"a": "b"}}]
)
def test_a_file_without_a_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "mae.pth")
    with pytest.raises(ValueError, match="must hold a state dict, or one under 'model'"):
        read_weights(tmp_path / "mae.pth")


# --- architectures


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_reference_training_checkpoints(tmp_path, weights, kind):
    arguments = argparse.Namespace(lr=1e-3, model="mae_vit_base_patch16", device="cuda")
    content = {"model": weights, "args": arguments, "epoch": 3, "optimizer": {"state": {}}}
    save(content, tmp_path / "mae.pth", kind)
    model = load_mae_checkpoint(tmp_path / "mae.pth")
    for name, value in weights.items():
        own = name if name.startswith(("decoder_", "mask_token")) else f"encoder.{name}"
        assert torch.equal(model.state_dict()[own], value)
    assert torch.equal(model.encoder_positions, weights["pos_embed"])


def test_an_encoder_alone_is_refused(tmp_path, weights):
    encoder = {k: v for k, v in weights.items() if not k.startswith(("decoder_", "mask_token"))}
    torch.save({"model": encoder}, tmp_path / "mae.pth")
    with pytest.raises(
        ValueError, match=r"with its decoder, got one without decoder_embed\.weight"
    ):
        load_mae_checkpoint(tmp_path / "mae.pth")


def test_another_family_is_refused(tmp_path):
    save_file({"conv1.weight": torch.zeros(3)}, tmp_path / "resnet.safetensors")
    with pytest.raises(ValueError, match=r"got one without pos_embed, patch_embed\.proj\.weight"):
        load_mae_checkpoint(tmp_path / "resnet.safetensors")


def change(weights: dict[str, Tensor], **changes: Tensor | None) -> dict[str, Tensor]:
    changed = {**weights, **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: value for name, value in changed.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks__0__attn__qkv__bias": None}, r"missing: encoder\.blocks\.0\.attn\.qkv\.bias"),
        ({"mask_token": None}, r"missing: mask_token"),
        ({"blocks__0__ls1__gamma": torch.ones(768)}, r"not known: encoder\.blocks\.0\.ls1\.gamma"),
        ({"norm__weight": torch.ones(384)}, r"encoder\.norm\.weight \(384,\) for \(768,\)"),
        (
            {"pos_embed": torch.zeros(1, 10, 768)},  # 3 × 3 patches, the decoder's are 2 × 2
            r"decoder_pos_embed \(1, 5, 16\) for \(1, 10, 16\)",
        ),
        ({"pos_embed": torch.zeros(1, 7, 768)}, r"encoder\.pos_embed \(1, 7, 768\) for"),
        ({"patch_embed__proj__weight": torch.zeros(384, 1, 16, 16)}, r"width .*768.*got width 384"),
    ],
)
def test_another_architecture(tmp_path, weights, changes, message):
    torch.save(change(weights, **changes), tmp_path / "mae.pth")
    with pytest.raises(ValueError, match=rf"mae\.pth .*{message}"):
        load_mae_checkpoint(tmp_path / "mae.pth")


def test_overrides_of_the_architecture_are_checked_against_the_weights(tmp_path, weights):
    torch.save(weights, tmp_path / "mae.pth")
    with pytest.raises(ValueError, match=r"of another architecture .*decoder_blocks\.1\."):
        load_mae_checkpoint(tmp_path / "mae.pth", decoder_depth=2)


def test_weights_that_do_not_fit_leave_the_model_alone():
    model = torch.nn.Linear(3, 2)
    before = model.weight.clone()
    with pytest.raises(ValueError, match=r"missing: bias"):
        load_weights(model, {"weight": torch.zeros(2, 3)}, "file")
    assert torch.equal(model.weight, before)
    load_weights(model, {"weight": torch.zeros(2, 3)}, "file", may_miss=("bias",))
    assert not model.weight.any()


# --- handing the encoder on


def trained(encoder: str, **arguments) -> MaskedAutoencoder:
    """A small model none of whose weights is at its initial value."""
    torch.manual_seed(0)
    encoder_args = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    if "global_pool" in arguments:
        encoder_args["global_pool"] = arguments.pop("global_pool")
    model = MaskedAutoencoder(
        encoder,
        encoder_args=encoder_args,
        **{"image_size": 32, "patch_size": 8, **arguments},
        decoder_dim=16,
        decoder_depth=1,
        decoder_num_heads=2,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape)
    return model.eval()


@pytest.mark.parametrize("input_size", [None, (16, 24)])
@pytest.mark.parametrize(
    "arguments", [{}, {"positions": "learned"}, {"image_size": (24, 48)}, {"global_pool": "avg"}]
)
@pytest.mark.parametrize(
    "encoder",
    [
        "vit_base_patch16_224",
        "vit_base_patch16_gap_224",
        "vit_small_patch14_reg4_dinov2",
        "vit_base_patch16_clip_224",
    ],
)
def test_exported_encoder_in_plain_timm(tmp_path, encoder, arguments, input_size):
    model = trained(encoder, **arguments)
    if input_size is not None:
        model.set_input_size(input_size)  # the export has full-grid positions all the same
    export_encoder(model, tmp_path / "encoder")
    opened = timm.create_model(f"local-dir:{tmp_path / 'encoder'}", pretrained=True).eval()

    own = model.encoder.state_dict()
    assert opened.state_dict().keys() == own.keys()
    for name, value in opened.state_dict().items():
        assert torch.equal(value, own[name]), name
    height, width = arguments.get("image_size", (32, 32))
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(opened.forward_features(images), model.encoder.forward_features(images))
        assert torch.equal(opened(images), model.encoder(images))
    assert opened(images).shape == (2, 32)


def test_exported_config(tmp_path):
    model = trained("vit_base_patch16_224", in_chans=1, image_size=(24, 48), patch_size=(4, 8))
    export_encoder(model, tmp_path / "encoder", mean=(0.25,), std=(0.5,))
    config = json.loads((tmp_path / "encoder" / "config.json").read_text())
    assert config["architecture"] == "vit_base_patch16_224"
    assert config["num_classes"] == 0
    assert config["pretrained_cfg"]["input_size"] == [1, 24, 48]
    assert config["pretrained_cfg"]["mean"] == [0.25]
    assert config["pretrained_cfg"]["std"] == [0.5]
    opened = timm.create_model(f"local-dir:{tmp_path / 'encoder'}", pretrained=True)
    assert list(opened.pretrained_cfg["mean"]) == [0.25]
    assert opened.patch_embed.patch_size == (4, 8)
    assert opened.patch_embed.proj.weight.shape == (32, 1, 4, 8)


def test_export_replaces_an_older_one(tmp_path):
    folder = tmp_path / "encoder"
    export_encoder(trained("vit_base_patch16_gap_224"), folder)
    (folder / "left_over").touch()
    model = trained("vit_base_patch16_224")
    export_encoder(model, folder)
    assert "cls_token" in timm.create_model(f"local-dir:{folder}", pretrained=True).state_dict()
    assert not (folder / "left_over").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]
