"""Exchange with transformers, and starting from weights: every direction compared in numbers."""

from __future__ import annotations

import builtins
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data import create_transform
from torch import Tensor, nn

from finetune.config import ClassifierConfig
from finetune.model.classifier import build_classifier
from mae_et import MaskedAutoencoder, export_encoder, load_mae_checkpoint
from mae_et.__main__ import main
from mae_et.model.pos_embed import resample_table
from mae_et.runs import Run
from mae_et.weights import load_initial_weights
from mae_et.weights.to_transformers import (
    image_processor,
    save_transformers,
    to_classifier,
    to_vit_mae,
)

from .conftest import tiny
from .reference_mae import ReferenceMAE

transformers = pytest.importorskip("transformers")

SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2}
PROCESSOR = {"size": 32, "mean": (0.5,) * 3, "std": (0.2,) * 3, "crop_pct": 1.0}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    transformers.utils.logging.disable_progress_bar()


def seeded(*shape: int, uniform: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.rand if uniform else torch.randn)(*shape, generator=generator)


def randomized(model: Any, seed: int = 0) -> Any:
    """Every parameter drawn anew: biases, norms and position tables too."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
    model.load_state_dict(model.state_dict())  # positions follow their tables
    return model.eval()


def make_mae(**arguments: Any) -> MaskedAutoencoder:
    sizes = {"image_size": 32, "patch_size": 8, "decoder_dim": 16, "decoder_depth": 2}
    options = {"encoder_args": SMALL, **sizes, "decoder_num_heads": 4, **arguments}
    return randomized(MaskedAutoencoder("vit_base_patch16_224", **options))


def make_classifier(name: str = "vit_base_patch16_224", **arguments: Any) -> Any:
    options = {"img_size": 32, "patch_size": 8, "num_classes": 7, **SMALL, **arguments}
    return randomized(timm.create_model(name, **options))


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
def test_what_transformers_mae_lacks(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_vit_mae(make_mae(**options))


@pytest.mark.parametrize("target", ["pixel", "norm_pixel"])
@pytest.mark.parametrize("in_chans", [1, 3])
def test_mae_in_transformers_and_back(tmp_path: Path, target: str, in_chans: int) -> None:
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


@pytest.mark.parametrize("layout", ["saved by this version", "names of its modules", ".bin"])
def test_mae_of_transformers(tmp_path: Path, layout: str) -> None:
    config = transformers.ViTMAEConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=96,
        image_size=32,
        patch_size=8,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=64,
        norm_pix_loss=True,
        mask_ratio=0.5,
    )
    model = transformers.ViTMAEForPreTraining(config)
    assert config.layer_norm_eps == 1e-12
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path)
    if layout != "saved by this version":
        (tmp_path / "model.safetensors").unlink()
        if layout == ".bin":
            torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
        else:
            save_file(model.state_dict(), tmp_path / "model.safetensors")
    images, noise = seeded(3, 3, 32, 32), seeded(3, 16, uniform=True)
    with torch.no_grad():
        theirs, ours = (
            model.eval()(images, noise=noise),
            load_mae_checkpoint(tmp_path)(images, noise),
        )
    torch.testing.assert_close(ours.prediction, theirs.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(ours.loss, theirs.loss, atol=0, rtol=1e-4)
    assert torch.equal(ours.mask, theirs.mask.bool())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act must be gelu, got relu"),
        ({"layer_norm_eps": 1e-3}, "layer_norm_eps must be at most 1e-06, got 0.001"),
        ({"qkv_bias": False}, "qkv_bias must be true, got False"),
        ({"decoder_intermediate_size": 48}, "must be 4 x decoder_hidden_size 16, got 48"),
        ({"num_attention_heads": 4}, None),  # fits, but is another model: shapes do not tell
        ({"num_hidden_layers": 3}, "missing: encoder.blocks.2"),
        ({"model_type": "vit"}, "run's folder"),
    ],
)
def test_folders_that_are_no_mae_of_ours(
    tmp_path: Path, change: dict[str, Any], message: str | None
) -> None:
    save_transformers(to_vit_mae(make_mae()), image_processor(**PROCESSOR), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    if message is None:
        assert load_mae_checkpoint(tmp_path).encoder.blocks[0].attn.num_heads == 4
    else:
        with pytest.raises(ValueError, match=message):
            load_mae_checkpoint(tmp_path)


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
    name: str, arguments: dict[str, Any], message: str
) -> None:
    options = {
        "image_size": 32,
        "patch_size": 8,
        "decoder_dim": 16,
        "decoder_depth": 1,
        **arguments,
    }
    model = MaskedAutoencoder(name, encoder_args=SMALL, **options)
    with pytest.raises(ValueError, match=message):
        to_vit_mae(model)


def test_one_epsilon(tmp_path: Path) -> None:
    model = make_mae()
    model.decoder_norm.eps = 1e-5
    with pytest.raises(ValueError, match="one layer_norm_eps for all of a model, got 1e-06 and 1e"):
        to_vit_mae(model)


def test_without_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_transformers(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "transformers":
            raise ImportError(name)
        return import_module(name, *arguments, **options)

    import_module = builtins.__import__
    converted = to_vit_mae(make_mae())
    monkeypatch.setattr(builtins, "__import__", no_transformers)
    with pytest.raises(ValueError, match=r"pip install 'mae-et\[transformers\]'"):
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


def tables_of(model: MaskedAutoencoder) -> tuple[Tensor, Tensor]:
    return model.encoder.pos_embed.detach(), model.decoder_pos_embed.detach()


@pytest.fixture
def reference() -> ReferenceMAE:
    torch.manual_seed(0)
    sizes = {"image_size": (32, 32), "patch_size": (16, 16), "dim": 768, "depth": 1}
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
def test_start_from_folders(tmp_path: Path, kind: str) -> None:
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
    tmp_path: Path, changes: dict[str, Any], options: str
) -> None:
    save_transformers(to_vit_mae(make_mae()), image_processor(**PROCESSOR), tmp_path)
    with pytest.raises(ValueError, match="of another architecture") as error:
        load_initial_weights(make_mae(**changes), tmp_path)
    assert options in str(error.value)


def test_weights_for_another_target(tmp_path: Path) -> None:
    save_transformers(to_vit_mae(make_mae()), image_processor(**PROCESSOR), tmp_path)
    histograms = make_mae(target="hog", hog={"cell": 4})
    with pytest.raises(
        ValueError, match=r"predicts 192 values of a patch, and model\.target hog has 108; give"
    ):
        load_initial_weights(histograms, tmp_path)


def test_a_folder_of_another_model(tmp_path: Path) -> None:
    classifier = to_classifier(make_classifier(), list("abcdefg"))
    save_transformers(classifier, image_processor(**PROCESSOR), tmp_path)
    with pytest.raises(ValueError, match=r"must be a ViTMAE .*, got model_type 'vit'"):
        load_initial_weights(make_mae(), tmp_path)


def test_finetuning_from_a_folder_of_transformers(tmp_path: Path) -> None:
    source = make_mae(image_size=48)
    processor = image_processor(**{**PROCESSOR, "size": 48})
    save_transformers(to_vit_mae(source), processor, tmp_path)
    options = {"encoder_args": SMALL, "image_size": 48, "patch_size": 8, "global_pool": "token"}
    classifier = build_classifier(
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


def final_weights(run: Path) -> dict[str, Tensor]:
    checkpoint = Run(run).latest_checkpoint()
    assert checkpoint is not None
    return load_file(checkpoint / "model.safetensors")


def test_pretraining_goes_on_from_weights(
    clothes: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a learning rate of nearly zero, the weights stay those of the checkpoint."""
    first, frozen = tmp_path / "first", {"optim.base_lr": 1e-20, "optim.weight_decay": 0}
    assert main(["pretrain", *tiny(clothes, first)]) == 0
    for checkpoint in (first, first / "checkpoints" / "step_00000020", first / "encoder"):
        caplog.clear()
        run = tmp_path / f"from_{checkpoint.name}"
        changes = {**frozen, "checkpoint": checkpoint, "run.seed": 5}
        with caplog.at_level(logging.WARNING):
            assert main(["pretrain", *tiny(clothes, run, **changes)]) == 0
        before, after = final_weights(first), final_weights(run)
        same = {name for name in before if torch.allclose(before[name], after[name], atol=1e-7)}
        if checkpoint.name == "encoder":
            assert {name for name in before if name.startswith("encoder.")} <= same
            assert "decoder_embed.weight" not in same
            assert [r.getMessage() for r in caplog.records if "decoder" in r.getMessage()] == [
                f"{checkpoint} has no decoder; a new one is trained"
            ]
        else:
            assert same == before.keys()
            assert "no decoder" not in caplog.text


def test_resuming_needs_the_weights_no_more(clothes: str, tmp_path: Path) -> None:
    encoder = make_mae(
        encoder_args={"embed_dim": 16, "depth": 1, "num_heads": 2},
        image_size=16,
        patch_size=4,
        in_chans=1,
    )
    export_encoder(encoder, tmp_path / "start")
    arguments = tiny(clothes, tmp_path / "run", checkpoint=tmp_path / "start")
    assert main(["pretrain", *arguments]) == 0
    finished = final_weights(tmp_path / "run")
    (tmp_path / "start").rename(tmp_path / "elsewhere")
    last = Run(tmp_path / "run").latest_checkpoint()
    assert last is not None
    last.rename(tmp_path / "run" / "dropped")  # go on from the one before
    assert main(["pretrain", *arguments, "--resume"]) == 0
    for name, value in final_weights(tmp_path / "run").items():
        assert torch.equal(value, finished[name]), name


def test_the_command_line_says_what_is_needed(
    clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_encoder(make_mae(), tmp_path / "encoder")
    assert len({file.stat().st_mode for file in (tmp_path / "encoder").iterdir()}) == 1
    (tmp_path / "empty").mkdir()
    for checkpoint, message in (
        (tmp_path / "nothing", "checkpoint must exist"),
        (tmp_path / "empty", "checkpoint must be a run's folder with a checkpoint in it"),
        (
            tmp_path / "encoder",
            "give --model.encoder vit_base_patch16_224 --model.patch_size 8 --model.in_chans 3",
        ),
        (tmp_path / "encoder", " --model.image_size 32"),
    ):
        assert main(["pretrain", *tiny(clothes, tmp_path / "run", checkpoint=checkpoint)]) == 2
        errors = capsys.readouterr().err.splitlines()
        assert len(errors) == 1
        assert message in errors[0]
    assert not (tmp_path / "run").exists()
