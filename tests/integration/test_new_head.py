"""Fine-tuning that begins with the linear probe of the frozen encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from finetune import head, train
from finetune.__main__ import main
from finetune.batch_norms import batch_norms
from finetune.data import evaluation_samples, load_labelled
from finetune.finetuner import Finetuner
from mae_et import export_encoder
from mae_et.config.training import ProbeConfig
from mae_et.evaluation import Features, linear_probe
from mae_et.model import create_masked
from mae_et.runs import Run
from tests.support.arguments import tiny_finetune
from tests.support.launch import run_two
from tests.support.models import BuildMAE

TINY = {"embed_dim": 16, "depth": 2, "num_heads": 2}


@pytest.fixture(scope="module")
def encoder(tiny_mae: BuildMAE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained encoder, as far as fine-tuning can tell."""
    folder = tmp_path_factory.mktemp("encoder") / "encoder"
    export_encoder(tiny_mae(encoder_args=TINY, in_chans=1), folder)
    return folder


def arguments(clothes: str, run: Path, encoder: Path, **options: object) -> list[str]:
    fixed = {"model.encoder_args": json.dumps(TINY), "optim.new_head": "probe", "data.eval_crop": 1}
    return tiny_finetune(clothes, run, checkpoint=encoder, **{**fixed, **options})


def refused(*_: object, **__: object) -> None:
    raise AssertionError("a probe was trained")


def scores(run: Path) -> list[dict[str, Any]]:
    return [line for line in Run(run).read_metrics() if "top1" in line]


def seen_by(network: nn.Module, samples: Any) -> tuple[Features, Tensor]:
    """What the network's head gets for all images of the samples, and what it makes of it."""
    chosen = [samples[row] for row in range(len(samples))]
    images = torch.stack([sample["image"] for sample in chosen]).float() / 255
    vit: Any = network.eval()
    with torch.no_grad():
        values = vit.forward_head(vit.forward_features((images - 0.3) / 0.35), pre_logits=True)
        logits = vit.head(values)
    labels = torch.as_tensor([int(sample["label"]) for sample in chosen])
    return Features(values=values, labels=labels), logits


def test_training_begins_with_the_probes_accuracy(
    encoder: Path, clothes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: list[float] = []
    evaluate = Finetuner.evaluate

    def noted(self: Finetuner, chunks: Any) -> dict[str, float]:
        if not expected:
            network = self.unwrapped.model
            splits = load_labelled(self.config.data)
            known, _ = seen_by(network, evaluation_samples(self.config, splits.train))
            asked, logits = seen_by(network, evaluation_samples(self.config, splits.held_out))
            device = torch.device("cpu")
            top1, _ = linear_probe(known, asked, ProbeConfig(), seed=0, device=device)
            expected.append(top1)
            hits = (logits.argmax(1) == asked.labels).float().mean()
            assert float(hits) == pytest.approx(top1)
        return evaluate(self, chunks)

    monkeypatch.setattr(Finetuner, "evaluate", noted)
    assert main(arguments(clothes, tmp_path / "run", encoder)) == 0
    first = scores(tmp_path / "run")[0]
    assert first["step"] == 0
    assert first["top1"] == pytest.approx(expected[0])
    assert first["top1"] > 0.2  # of ten classes, from random features
    assert Run(tmp_path / "run").section("optim")["new_head"] == "probe"


def test_the_probe_sees_the_batch_norms_of_training(
    clothes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not the statistics of pretraining, which may be those of other images."""
    arguments_of = {"channels": [8, 8, 16, 16], "output_stride": 8}
    options = {"model.encoder": "resnet10t", "model.encoder_args": json.dumps(arguments_of)}
    masked = {"method": "simmim", "encoder": "resnet10t", "encoder_args": arguments_of}
    model = create_masked({**masked, "image_size": 16, "in_chans": 1})
    for norm in batch_norms(model.encoder):
        assert norm.running_mean is not None
        norm.running_mean.fill_(-2)
    export_encoder(model, tmp_path / "encoder", mean=[0.3], std=[0.35])
    outputs: list[Tensor] = []
    evaluate = Finetuner.evaluate

    def noted(self: Finetuner, chunks: Any) -> dict[str, float]:
        if not outputs:
            samples = evaluation_samples(self.config, load_labelled(self.config.data).train)
            images = torch.stack([samples[row]["image"] for row in range(len(samples))])
            for norm in batch_norms(self.classifier):
                assert norm.momentum == 0.1
                norm.momentum = 0.0  # to look changes nothing
            for training in (False, True):
                with torch.no_grad():
                    self.classifier.train(training)
                    outputs.append(self.predict(images))
        return evaluate(self, chunks)

    monkeypatch.setattr(Finetuner, "evaluate", noted)
    options |= {"model.patch_size": "null", "optim.micro_batch_size": "16"}
    assert main(arguments(clothes, tmp_path / "run", tmp_path / "encoder", **options)) == 0
    at_evaluation, in_training = outputs
    apart = (at_evaluation - in_training).norm() / (in_training - in_training.mean(0)).norm()
    assert apart < 0.2


def test_best_is_the_probe_if_training_destroys_it(
    encoder: Path, clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    spoilt = {"optim.base_lr": 30, "optim.warmup_epochs": 0.1, "optim.clip_grad": 1}
    assert main(arguments(clothes, run, encoder, **spoilt)) == 0
    start, *rest = (line["top1"] for line in scores(run))
    assert start > max(rest)
    said = capsys.readouterr().out
    assert f"training reached {max(rest):.2%} at most, less than the {start:.2%}" in said
    report = json.loads((run / "report.json").read_text())
    assert report["top1"] == pytest.approx(start)
    config = json.loads((run / "best" / "config.json").read_text())
    assert config["metrics"]["top1"] == start


def test_resuming_trains_no_probe(
    encoder: Path, clothes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step = Finetuner.train_step

    class Interrupted(Exception):  # noqa: N818
        pass

    def interrupted(self: Finetuner, step: int, *rest: Any) -> Any:
        if step == 8:
            raise Interrupted
        return train_step(self, step, *rest)

    assert main(arguments(clothes, tmp_path / "whole", encoder)) == 0
    with monkeypatch.context() as patch:
        patch.setattr(Finetuner, "train_step", interrupted)
        assert main(arguments(clothes, tmp_path / "broken", encoder)) == 1
    with monkeypatch.context() as patch:
        patch.setattr(train, "start_from_probe", refused)
        assert main([*arguments(clothes, tmp_path / "broken", encoder), "--resume"]) == 0
    whole, broken = (
        load_file(tmp_path / name / "last" / "model.safetensors") for name in ("whole", "broken")
    )
    for name in whole:
        assert torch.equal(whole[name], broken[name]), name
    assert [(line["step"], line["top1"]) for line in scores(tmp_path / "whole")] == [
        (line["step"], line["top1"]) for line in scores(tmp_path / "broken")
    ]


def test_a_head_for_the_same_classes_stays(
    encoder: Path, clothes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is evaluated before the first step too."""
    assert main(arguments(clothes, tmp_path / "first", encoder)) == 0
    monkeypatch.setattr(train, "start_from_probe", refused)
    assert main(arguments(clothes, tmp_path / "second", tmp_path / "first" / "last")) == 0
    last, start = scores(tmp_path / "first")[-1], scores(tmp_path / "second")[0]
    assert (start["step"], start["top1"]) == (0, last["top1"])


def test_no_probe_for_a_folder_that_holds_a_run(
    encoder: Path,
    clothes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(arguments(clothes, tmp_path / "run", encoder)) == 0
    monkeypatch.setattr(head, "linear_classifier", refused)
    assert main(arguments(clothes, tmp_path / "run", encoder)) == 2
    assert "run.output_dir must be new" in capsys.readouterr().err


def test_without_an_encoder(
    clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(tiny_finetune(clothes, run, optim__new_head="probe")) == 2
    assert "optim.new_head must be random or auto without an encoder" in capsys.readouterr().err
    assert not run.exists()
    assert main(tiny_finetune(clothes, run, optim__new_head="auto")) == 0
    assert scores(run)[0]["step"] > 0


def test_a_head_that_is_not_linear(
    clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_mae: BuildMAE
) -> None:
    """Distilled networks have two heads."""
    options: dict[str, object] = {
        "model.encoder": "deit_tiny_distilled_patch16_224",
        "model.encoder_args": json.dumps(TINY),
        "model.global_pool": "token",
    }
    scratch = tmp_path / "scratch"
    assert main(tiny_finetune(clothes, scratch, **options)) == 0
    config = json.loads((scratch / "last" / "config.json").read_text())
    config["label_names"] = [f"other {name}" for name in config["label_names"]]
    (scratch / "last" / "config.json").write_text(json.dumps(config))
    options["checkpoint"] = scratch / "last"
    capsys.readouterr()
    run = tmp_path / "run"
    assert main(tiny_finetune(clothes, run, optim__new_head="probe", **options)) == 2
    assert "optim.new_head must be random for deit_tiny_distilled" in capsys.readouterr().err
    assert main(tiny_finetune(clothes, run, optim__new_head="auto", **options)) == 0


@pytest.mark.slow
def test_two_processes_begin_with_the_same_head(
    encoder: Path, clothes: str, tmp_path: Path
) -> None:
    assert main(arguments(clothes, tmp_path / "one", encoder)) == 0
    result = run_two(["finetune", *arguments(clothes, tmp_path / "two", encoder)])
    assert result.returncode == 0, result.stderr
    one, two = (scores(tmp_path / name)[0] for name in ("one", "two"))
    assert (one["step"], one["top1"], one["top5"]) == (two["step"], two["top1"], two["top5"])
    assert one["eval_loss"] == pytest.approx(two["eval_loss"], abs=1e-4)
