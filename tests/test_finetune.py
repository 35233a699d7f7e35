"""Fine-tuning runs: the hand-off, exact resume, and counting over processes."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from finetune.__main__ import main
from finetune.config import ClassifierConfig
from finetune.model.classifier import build_classifier
from mae_et import MaskedAutoencoder, data, export_encoder
from mae_et.data.labels import LabelledImages, choose_labels
from mae_et.model.pos_embed import resample_table
from mae_et.runs import Run

from .conftest import launch_two, tiny_finetune

TINY = {"embed_dim": 16, "depth": 2, "num_heads": 2}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> tuple[MaskedAutoencoder, Path]:
    """A pretrained encoder, as far as fine-tuning can tell."""
    torch.manual_seed(0)
    model = MaskedAutoencoder(
        "vit_tiny_patch16_224",
        encoder_args=TINY,
        image_size=16,
        patch_size=4,
        in_chans=1,
        decoder_dim=16,
        decoder_depth=1,
        decoder_num_heads=2,
    )
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
    classifier = build_classifier(
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
    classifier = build_classifier(classifier_config(image_size=24), list("abc"), str(folder)).model
    expected = resample_table(model.encoder.pos_embed, (4, 4), (6, 6), 1)
    torch.testing.assert_close(classifier.pos_embed.detach(), expected.detach())


def test_reference_checkpoint_is_read(
    encoder: tuple[MaskedAutoencoder, Path], tmp_path: Path
) -> None:
    model, _ = encoder
    weights = {name.removeprefix("encoder."): value for name, value in model.state_dict().items()}
    torch.save({"model": weights}, tmp_path / "reference.pth")
    classifier = build_classifier(
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


def test_an_encoder_of_another_name_says_its_own(tmp_path: Path) -> None:
    """Its attention heads are those of that name, which its folder does not repeat."""
    model = MaskedAutoencoder(
        "vit_tiny_patch16_224",
        encoder_args={"depth": 1},
        image_size=16,
        patch_size=4,
        decoder_dim=16,
        decoder_depth=1,
        decoder_num_heads=2,
    )
    export_encoder(model, tmp_path / "encoder")
    others = {"encoder": "vit_base_patch16_224", "in_chans": 3}
    changed = classifier_config(**others, encoder_args={"depth": 1, "embed_dim": 192})
    with pytest.raises(
        ValueError, match=r"3 attention heads for 12\); give --model.encoder vit_tiny_patch16_224 "
    ):
        build_classifier(changed, list("abc"), str(tmp_path / "encoder"))


def test_balanced_choice_of_labels() -> None:
    labels = np.repeat(np.arange(4), [10, 20, 30, 40])
    chosen = choose_labels(labels, list("abcd"), per_class=5, fraction=None, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [5, 5, 5, 5]
    assert (chosen == choose_labels(labels, list("abcd"), per_class=5, fraction=None, seed=0)).all()
    assert (chosen != choose_labels(labels, list("abcd"), per_class=5, fraction=None, seed=1)).any()
    chosen = choose_labels(labels, list("abcd"), per_class=None, fraction=0.1, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [1, 2, 3, 4]
    assert len(choose_labels(labels, list("abcd"), per_class=None, fraction=None, seed=0)) == 100


def test_eval_split_has_the_classes_of_the_training_split(clothes: str) -> None:
    """Class numbers come from the names, whatever a split's own order or part of the classes."""
    rows = data.load_splits(clothes)["test"].select(range(3)).remove_columns("label")
    held_out = LabelledImages(rows.add_column("kind", ["c", "b", "c"]), "kind", ["a", "b", "c"])
    assert held_out.labels.tolist() == [2, 1, 2]
    with pytest.raises(ValueError, match=r"must have the classes .* with d, which"):
        LabelledImages(rows.add_column("kind", ["c", "d", "c"]), "kind", ["a", "b", "c"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, None, 1], "1 rows without"),
        ([0.5, 1.0, 1.5], "float64"),
        ([0, -2, 1], "from 0, got -2"),
    ],
)
def test_labels_that_are_none(clothes: str, values: list[float], message: str) -> None:
    rows = data.load_splits(clothes)["test"].select(range(3))
    with pytest.raises(ValueError, match=message):
        LabelledImages(rows.add_column("kind", values), "kind")


def test_workers_do_not_change_the_training(clothes: str, tmp_path: Path) -> None:
    for workers in (0, 2):
        arguments = tiny_finetune(
            clothes, tmp_path / str(workers), data__num_workers=workers, model__drop_path=0.5
        )
        assert main(arguments) == 0
    first, second = (
        load_file(tmp_path / name / "last" / "model.safetensors") for name in ("0", "2")
    )
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_labels_of_strings_and_integers(clothes: str) -> None:
    train = data.load_splits(clothes)["train"]
    labelled = LabelledImages(train, None)
    names = [labelled.class_names[label] for label in labelled.labels]
    as_strings = LabelledImages(train.add_column("kind", names), "kind")
    assert [as_strings.class_names[label] for label in as_strings.labels] == names
    as_numbers = LabelledImages(train.add_column("number", labelled.labels.tolist()), "number")
    assert as_numbers.labels.tolist() == labelled.labels.tolist()
    assert as_numbers.class_names == [str(label) for label in range(10)]


def test_run_writes_a_classifier_for_plain_timm(
    encoder: tuple[MaskedAutoencoder, Path], clothes: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    arguments = tiny_finetune(
        clothes,
        run,
        checkpoint=encoder[1],
        model__encoder_args=json.dumps(TINY),
        augment__randaug="rand-m9-mstd0.5-inc1",
        data__labels_per_class=4,
    )
    assert main(arguments) == 0
    evaluations = [line for line in Run(run).read_metrics() if "top1" in line]
    assert [line["step"] for line in evaluations] == [3, 5]  # 40 images: epochs of 2.5 steps
    assert all(0 <= line["top1"] <= line["top5"] <= 1 for line in evaluations)
    for name in ("best", "last"):
        classifier = timm.create_model(f"local-dir:{run / name}", pretrained=True)
        assert classifier(torch.randn(1, 1, 16, 16)).shape == (1, 10)
        config = json.loads((run / name / "config.json").read_text())
        assert config["label_names"][9] == "Ankle boot"
    assert config["metrics"]["top1"] == evaluations[-1]["top1"]


def test_layer_decay_and_schedule_reach_the_optimizer(
    clothes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mae_et.training import loop

    seen: list[dict[float, float]] = []
    step = loop.step_if_finite

    def noted(accelerator: object, model: object, optimizer: object, clip: object) -> object:
        seen.append({g["lr_scale"]: g["lr"] for g in optimizer.param_groups})  # type: ignore[attr-defined]
        return step(accelerator, model, optimizer, clip)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "step_if_finite", noted)
    arguments = tiny_finetune(
        clothes, tmp_path / "run", optim__layer_decay=0.5, optim__base_lr=0.16, optim__min_lr=0
    )
    assert main(arguments) == 0
    assert sorted(seen[0]) == [0.25, 0.5, 1.0]  # stem, the one block, norm and head
    peak = 0.16 * 16 / 256
    for index, rates in enumerate(seen):
        progress = index / 10
        lr = (
            peak * progress / 0.5
            if progress < 0.5
            else peak * 0.5 * (1 + math.cos(math.pi * (progress - 0.5) / 0.5))
        )
        for scale, rate in rates.items():
            assert rate == pytest.approx(lr * scale)


def test_resumed_run_equals_the_uninterrupted_one(
    encoder: tuple[MaskedAutoencoder, Path],
    clothes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also if the encoder that it began with is no longer there."""
    from finetune.train import Finetuner

    def arguments(name: str) -> list[str]:
        return tiny_finetune(
            clothes,
            tmp_path / name,
            augment__randaug="rand-m5-mstd0.5-inc1",
            checkpoint=start,
            model__encoder_args=TINY,
        )

    start = tmp_path / "encoder"
    shutil.copytree(encoder[1], start)
    assert main(arguments("whole")) == 0

    class Interrupted(Exception):  # noqa: N818
        pass

    train_step = Finetuner.train_step

    def interrupted(self: Finetuner, step: int, *rest: object) -> object:
        if step == 8:
            raise Interrupted
        return train_step(self, step, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Finetuner, "train_step", interrupted)
        assert main(arguments("broken")) == 1
    assert "Interrupted" in capsys.readouterr().err
    shutil.rmtree(start)
    assert main([*arguments("broken"), "--resume"]) == 0
    whole, broken = (
        load_file(tmp_path / n / "last" / "model.safetensors") for n in ("whole", "broken")
    )
    for name in whole:
        assert torch.equal(whole[name], broken[name]), name


@pytest.mark.slow
def test_two_processes_count_every_image_once(clothes: str, tmp_path: Path) -> None:
    """30 test images in batches of 8 over 2 processes; no augmentation that depends on the rank."""
    plain = {
        "augment.mixup": 0,
        "augment.cutmix": 0,
        "model.drop_path": 0,
        "augment.erase": 0,
        "optim.epochs": 1,
        "optim.warmup_epochs": 0.5,
    }
    assert main(tiny_finetune(clothes, tmp_path / "one", **plain)) == 0
    result = launch_two(["finetune", *tiny_finetune(clothes, tmp_path / "two", **plain)])
    assert result.returncode == 0, result.stderr
    assert Run(tmp_path / "two").read_metrics()[0]["processes"] == 2
    one, two = (Run(tmp_path / name).read_metrics()[-1] for name in ("one", "two"))
    assert one["top1"] == two["top1"]
    assert one["top5"] == two["top5"]
    assert one["eval_loss"] == pytest.approx(two["eval_loss"], abs=1e-4)


@pytest.mark.slow
def test_two_processes_sweep_a_network_with_batch_norm(clothes: str, tmp_path: Path) -> None:
    """One launch runs several trainings; batch-norm statistics are shared, so all score alike."""
    options: dict[str, object] = {
        "model.encoder": "resnet10t",
        "model.encoder_args": "{channels: [8, 8, 16, 16]}",
        "model.patch_size": "null",
        "model.image_size": 32,
        "model.drop_path": 0,
        "curriculum.name": "efficienttrain",
        "optim.ema_decay": 0.9,
        "run.patience": 5,
    }
    arguments = [*tiny_finetune(clothes, tmp_path / "two", **options), "--sweep.layer_decay=0.5,1"]
    result = launch_two(["finetune", *arguments])
    assert result.returncode == 0, result.stderr
    for decay in ("0.5", "1"):
        run = tmp_path / "two" / f"layer_decay_{decay}"
        lines = Run(run).read_metrics()
        assert lines[0]["processes"] == 2
        report = json.loads((run / "report.json").read_text())
        assert report["images"] == 30
        best = max(line["top1"] for line in lines if "top1" in line)
        assert report["top1"] == pytest.approx(best)  # of both processes, by rank 0's weights
