"""What lies at a path: each kind by its name, and what is said of the others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from mae_et import load_mae_checkpoint
from mae_et.runs import Run
from mae_et.weights import find_weights
from mae_et.weights.origin import RunCheckpoint, TimmFolder, TransformersFolder, WeightsFile


def test_a_run_means_its_last_checkpoint_or_its_encoder(finished: Path) -> None:
    run = Run(finished)
    last = find_weights(finished)
    assert isinstance(last, RunCheckpoint)
    assert last.checkpoint == run.latest_checkpoint()
    encoder = find_weights(finished, prefer_result=True)
    assert isinstance(encoder, TimmFolder)
    assert encoder.path == run.encoder
    assert encoder.run == last.run == run


def test_a_checkpoint_is_the_one_that_is_named(finished: Path) -> None:
    first = Run(finished).checkpoints()[0]
    found = find_weights(first.folder, prefer_result=True)
    assert isinstance(found, RunCheckpoint)
    assert found.checkpoint == first
    assert found.run == Run(finished)


def test_a_run_without_checkpoints_means_its_encoder(finished: Path, tmp_path: Path) -> None:
    run = Run(shutil.copytree(finished, tmp_path / "run"))
    shutil.rmtree(run.checkpoint_folder)
    assert find_weights(run.folder).path == run.encoder
    run.encoder.rename(run.best)  # a classifier is no start for pretraining
    with pytest.raises(ValueError, match="run's folder with a checkpoint in it"):
        find_weights(run.folder)
    assert find_weights(run.folder, prefer_result=True).path == run.best


@pytest.mark.parametrize("ending", [".tmp", ".damaged"])
def test_what_is_no_whole_checkpoint_is_refused(
    finished: Path, tmp_path: Path, ending: str
) -> None:
    run = Run(shutil.copytree(finished, tmp_path / "run"))
    checkpoint = run.checkpoints()[-1].folder
    aside = checkpoint.rename(checkpoint.with_suffix(ending))
    with pytest.raises(ValueError, match="unfinished, or was set aside as damaged"):
        find_weights(aside)


@pytest.mark.parametrize("name", ["step_100", "step_decay"])
def test_a_run_may_be_called_like_a_checkpoint(finished: Path, tmp_path: Path, name: str) -> None:
    run = Run(shutil.copytree(finished, tmp_path / name))
    assert Run.of(run.folder) == run
    assert find_weights(run.folder, prefer_result=True).path == run.encoder
    found = find_weights(run.folder)
    assert isinstance(found, RunCheckpoint)
    assert found.checkpoint == run.latest_checkpoint()


def test_other_kinds(tmp_path: Path) -> None:
    assert isinstance(find_weights(tmp_path / "mae.pth"), WeightsFile)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit_mae"}))
    assert isinstance(find_weights(tmp_path), TransformersFolder)


def test_bad_overrides_are_not_blamed_on_the_checkpoint(finished: Path) -> None:
    with pytest.raises(ValueError, match=r"^model\.mask_ratio must be in \(0, 1\), got 2\.0"):
        load_mae_checkpoint(finished, mask_ratio=2.0)
    with pytest.raises(TypeError, match="mask_ration"):
        load_mae_checkpoint(finished, mask_ration=0.5)


def test_reading_draws_no_random_numbers(finished: Path) -> None:
    state = torch.get_rng_state()
    find_weights(finished).read()
    assert torch.equal(torch.get_rng_state(), state)
