"""What follows from facts: the right values are those of the papers, and of the rules as stated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mae_et.auto import encoders, rules
from mae_et.auto.choices import Choices
from mae_et.auto.facts import ImageFacts, MachineFacts

CPU = MachineFacts(
    device="cpu", processes=1, cores=2, memory=8 << 30, host_memory=8 << 30, has_bf16=False
)
GPU = MachineFacts(
    device="cuda", processes=8, cores=12, memory=80 << 30, host_memory=8 << 30, has_bf16=True
)


def facts(**changes: Any) -> ImageFacts:
    found: dict[str, Any] = {
        "number": 10_000,
        "sampled": 500,
        "unreadable": 0,
        "reason": "",
        "grey": 0,
        "channels": 3,
        "short_sides": (300,) * 500,
        "flat": 0.01,
        "mean": (0.5,) * 3,
        "std": (0.25,) * 3,
    }
    return ImageFacts(**found | changes)


def chosen(found: ImageFacts, **given: Any) -> Choices:
    choices = Choices({name.replace("__", "."): value for name, value in given.items()})
    rules.choose_images(choices, found)
    return choices


@pytest.mark.parametrize(
    ("sides", "image_size", "patch_size"),
    [
        ((28,) * 500, 28, 4),
        ((32,) * 500, 32, 4),
        ((64,) * 500, 64, 8),
        ((96,) * 500, 96, 8),
        ((112,) * 500, 112, 16),
        ((130,) * 500, 128, 16),
        ((224,) * 500, 224, 16),
        ((3000,) * 500, 224, 16),
        ((10,) * 49 + (100,) * 451, 96, 8),  # below a tenth, which are enlarged
        ((48,) * 51 + (300,) * 449, 48, 4),
        ((8,) * 500, 8, 2),
    ],
)
def test_sizes(sides: tuple[int, ...], image_size: int, patch_size: int) -> None:
    choices = chosen(facts(short_sides=sides))
    assert (choices["model.image_size"], choices["model.patch_size"]) == (image_size, patch_size)
    assert image_size // patch_size >= min(7, image_size // 2)
    assert ("10% are smaller and are enlarged" in choices.table()) == (sides[0] == 10)


SWIN = {"depths": [1, 1], "num_heads": [1, 2], "embed_dim": 16, "patch_size": 2, "window_size": 4}
CONVNEXT = {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8]}


@pytest.mark.parametrize(
    ("encoder", "side", "arguments", "size", "unit"),
    [
        ("convnext_atto", 300, CONVNEXT, 224, 32),  # as published
        ("swin_tiny_patch4_window7_224", 30, SWIN, 28, 4),
    ],
)
def test_sizes_and_units_of_a_network(
    encoder: str, side: int, arguments: dict[str, Any], size: int, unit: int
) -> None:
    given = {"model__method": "simmim", "model__encoder": encoder, "model__encoder_args": arguments}
    choices = chosen(facts(short_sides=(side,) * 500), **given)
    assert (choices["model.image_size"], choices["model.mask_unit"]) == (size, unit)
    assert (choices["model.target"], choices["model.mask_ratio"]) == ("pixel", 0.6)
    (network,) = rules.encoders_for(choices, facts(), CPU)
    rules.choose_encoder(choices, network, "")
    assert not any("decoder" in field for field in choices.chosen())
    rules.choose_batch(choices, facts(number=10**6), 1, 100, network.width)
    peak = 8e-4 * (4096 / 2048 * 1024 / network.width) ** 0.5
    assert choices["optim.base_lr"] * 16 == pytest.approx(min(peak, 3e-3), rel=0.05)
    assert 1 <= rules.cpu_micro_batch(choices, CPU, network) <= 64


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "model.encoder must be given with model.method simmim"),
        (
            {"model__encoder": "resnet18"},
            "of at least 64 pixels for resnet18, .*--model.image_size 64",
        ),
        ({"model__encoder": "mlp_mixer"}, "must be the name of a timm model"),
    ],
)
def test_a_network_that_does_not_fit(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chosen(facts(short_sides=(40,) * 500), model__method="simmim", **given)


def test_images_without_room_for_patches() -> None:
    with pytest.raises(ValueError, match="of at least 8 pixels, got a tenth of them with a short"):
        chosen(facts(short_sides=(5,) * 500))
    choices = chosen(facts(short_sides=(5,) * 500), model__image_size=8)
    assert choices["model.patch_size"] == 2
    choices = chosen(facts(short_sides=(300,) * 500), model__patch_size=14)
    assert choices["model.image_size"] == 224
    with pytest.raises(ValueError, match="of at least 32 pixels"):
        chosen(facts(short_sides=(28,) * 500), model__patch_size=16)


@pytest.mark.parametrize(
    ("changes", "in_chans", "reason"),
    [
        ({"grey": 500, "channels": 1}, 1, "all of the 500 images looked at are grey"),
        ({"grey": 400}, 3, "400 of the 500 images looked at are grey, the others coloured"),
        ({}, 3, "the 500 images looked at are read as 3 channels"),
        ({"channels": 5}, 5, "the 500 images looked at are read as 5 channels"),
    ],
)
def test_channels(changes: dict[str, Any], in_chans: int, reason: str) -> None:
    choices = chosen(facts(**changes))
    assert choices["model.in_chans"] == in_chans
    assert reason in choices.table()


def test_flat_ground_is_not_normalised() -> None:
    assert chosen(facts())["model.target"] == "norm_pixel"
    assert chosen(facts(flat=0.4))["model.target"] == "pixel"
    assert chosen(facts(flat=0.4), model__target="hog")["model.target"] == "hog"


@pytest.mark.parametrize(
    ("number", "machine", "names"),
    [
        (500, GPU, ["micro (96 wide, 4 blocks)"]),
        (50_000, GPU, ["ViT-S", "ViT-Ti", "micro (96 wide, 4 blocks)"]),
        (1_281_167, GPU, ["ViT-B", "ViT-S", "ViT-Ti", "micro (96 wide, 4 blocks)"]),
        (1_281_167, CPU, ["ViT-Ti", "micro (96 wide, 4 blocks)"]),
    ],
)
def test_encoders(number: int, machine: MachineFacts, names: list[str]) -> None:
    found = rules.encoders_for(Choices({}), facts(number=number), machine)
    assert [encoder.name for encoder in found] == names


@pytest.mark.parametrize(
    ("name", "width", "decoder"),
    [
        ("vit_base_patch16_224", 768, (512, 8, 16)),
        ("vit_small_patch16_224", 384, (256, 4, 8)),
        ("vit_large_patch16_224", 1024, (512, 8, 16)),
        ("vit_medium_patch16_gap_240", 512, (256, 4, 8)),
    ],
)
def test_an_encoder_that_is_given(name: str, width: int, decoder: tuple[int, int, int]) -> None:
    sizes = {"model.image_size": 224, "model.patch_size": 16, "model.in_chans": 3}
    choices = Choices({"model.encoder": name, **sizes})
    (encoder,) = rules.encoders_for(choices, facts(number=100), CPU)
    assert (encoder.width, encoder.decoder) == (width, decoder)
    rules.choose_encoder(choices, encoder, "")
    assert choices["model.encoder"] == name
    assert "model.encoder_args" not in choices.chosen()
    assert choices["model.decoder_dim"] == decoder[0]


def test_an_encoder_that_is_given_by_its_arguments() -> None:
    sizes = {"model.image_size": 32, "model.patch_size": 4, "model.in_chans": 3}
    arguments = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    choices = Choices({"model.encoder_args": arguments, **sizes})
    (encoder,) = rules.encoders_for(choices, facts(number=50_000), GPU)
    assert (encoder.width, encoder.timm_name) == (32, "vit_tiny_patch16_224")
    with pytest.raises(ValueError, match=r"a plain timm VisionTransformer .*got 'resnet18'"):
        rules.encoders_for(Choices({"model.encoder": "resnet18", **sizes}), facts(), CPU)


def test_the_batch_and_rate_of_imagenet_are_those_of_mae() -> None:
    choices = Choices({})
    imagenet = facts(number=1_281_167)
    rules.choose_batch(choices, imagenet, 8, 400, 768)
    assert choices["optim.batch_size"] == 4096
    assert choices["optim.base_lr"] == pytest.approx(1.5e-4)
    rules.choose_warmup(choices, 400)
    assert choices["optim.warmup_epochs"] == 40
    assert rules.default_epochs(1_281_167) == 400
    assert rules.default_epochs(80_000) == 1600
    assert rules.default_epochs(10) == 1600


@pytest.mark.parametrize(
    ("number", "epochs", "processes", "batch"),
    [
        (10_000, 10, 1, 64),
        (10_000, 200, 1, 128),  # 2,000,000 samples by 8,000 steps: 250
        (10_000, 1600, 1, 1024),
        (300, 100, 1, 32),
        (30, 100, 1, 8),
        (10_000, 10, 6, 48),
        (1_281_167, 1600, 8, 4096),
    ],
)
def test_batches(number: int, epochs: float, processes: int, batch: int) -> None:
    choices = Choices({})
    rules.choose_batch(choices, facts(number=number), processes, epochs, 192)
    assert choices["optim.batch_size"] == batch
    assert batch % processes == 0
    peak = choices["optim.base_lr"] * batch / 256
    assert peak == pytest.approx(min(3e-3, 2.4e-3 * (batch / 4096 * 4) ** 0.5), rel=0.03)


def test_machines() -> None:
    on_cpu, on_gpu = Choices({}), Choices({})
    rules.choose_machine(on_cpu, CPU)
    rules.choose_machine(on_gpu, GPU)
    assert on_cpu.chosen() == {"run.mixed_precision": "no", "data.num_workers": 1}
    assert on_gpu.chosen() == {"run.mixed_precision": "bf16", "data.num_workers": 11}


def test_a_cpu_takes_as_many_images_as_its_memory_allows() -> None:
    choices = Choices(
        {
            "model.image_size": 224,
            "model.patch_size": 16,
            "model.decoder_dim": 512,
            "model.decoder_depth": 8,
        }
    )
    few, some, many = (
        rules.cpu_micro_batch(choices, replace(CPU, memory=gib << 30), encoders.ENCODERS[3])
        for gib in (1, 8, 80)
    )
    assert 1 <= few < some < many == 64


def replayed(waiting: dict[Any, float], **given: Any) -> Any:
    choices = chosen(facts(short_sides=(224,) * 500), **given)
    choices.choose("optim.batch_size", given.pop("optim__batch_size", 64), "")
    choices.choose("optim.micro_batch_size", 64, "")
    is_chosen = rules.choose_replay(choices, CPU, waiting, 0.1)
    parts = choices["data.replay"] if is_chosen else []
    return [(part["size"], part["ratio"], part["batches"]) for part in parts]


def test_images_are_used_again_where_the_loader_is_slow() -> None:
    """As in the paper at 96 and 160 of 224 pixels, as far as there is memory for the images."""
    tenth = int(0.1 * CPU.host_memory / (64 * 3 * 224 * 224))
    assert replayed({96: 0.5, 160: 0.3, 224: 0.2}) == [(96, 4, tenth), (160, 2, min(256, tenth))]
    assert replayed({96: 0.5, 160: 0.05, 224: 0.0}) == [(96, 4, tenth)]
    assert replayed({96: 0.05, 160: 0.05, 224: 0.9}) == []
    small = {"model__image_size": 64, "model__patch_size": 8}
    tenth = int(0.1 * CPU.host_memory / (64 * 3 * 64 * 64))
    assert replayed({24: 0.5, 48: 0.3}, **small) == [(24, 4, tenth), (48, 2, 256)]


def test_a_batch_that_does_not_divide_is_not_replayed() -> None:
    assert replayed({96: 0.5}, optim__batch_size=30)[0][:2] == (96, 2)
    assert replayed({96: 0.5}, optim__batch_size=15) == []


def test_what_is_given_is_kept_and_shown() -> None:
    choices = Choices({"data.mean": (0.1,)})
    assert choices.choose("data.mean", (0.5,), "measured") == (0.1,)
    assert choices.choose("optim.epochs", 12.0, "a rule") == 12.0
    assert choices.chosen() == {"optim.epochs": 12.0}
    lines = [line.split() for line in choices.table().splitlines()]
    assert lines == [["data.mean", "[0.1]", "given"], ["optim.epochs", "12", "a", "rule"]]
