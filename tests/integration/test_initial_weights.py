"""Runs that start from weights."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from mae_et import export_encoder
from mae_et.__main__ import main
from mae_et.runs import Run
from tests.support.arguments import tiny
from tests.support.compare import weights
from tests.support.models import SMALL, BuildMAE, randomized


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
        before, after = weights(first), weights(run)
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


def test_resuming_needs_the_weights_no_more(
    tiny_mae: BuildMAE, clothes: str, tmp_path: Path
) -> None:
    encoder = randomized(tiny_mae("vit_base_patch16_224", in_chans=1))
    export_encoder(encoder, tmp_path / "start")
    arguments = tiny(clothes, tmp_path / "run", checkpoint=tmp_path / "start")
    assert main(["pretrain", *arguments]) == 0
    finished = weights(tmp_path / "run")
    (tmp_path / "start").rename(tmp_path / "elsewhere")
    last = Run(tmp_path / "run").latest_checkpoint()
    assert last is not None
    last.folder.rename(tmp_path / "run" / "dropped")  # go on from the one before
    assert main(["pretrain", *arguments, "--resume"]) == 0
    for name, value in weights(tmp_path / "run").items():
        assert torch.equal(value, finished[name]), name


def test_the_command_line_says_what_is_needed(
    tiny_mae: BuildMAE, clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = tiny_mae("vit_base_patch16_224", encoder_args=SMALL, image_size=32, patch_size=8)
    export_encoder(encoder, tmp_path / "encoder")
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
