"""Runs whose processes keep a part of the model each (FSDP), against one process with all of it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import timm
import torch

from finetune.__main__ import main as finetune_main
from mae_et.__main__ import main
from mae_et.runs import Run
from tests.integration.test_simmim import SWIN, simmim
from tests.support.arguments import tiny, tiny_finetune
from tests.support.compare import weights
from tests.support.launch import launch_two, run_tasks
from tests.support.signals import before_step, send, steps_of

FSDP = ("--use_fsdp", "--fsdp_version", "2")
AS_TASKS = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


def assert_same_training(ours: Path, theirs: Path) -> None:
    """The same losses, norms of gradients, and checkpoint, but for the order of summation."""
    for field, tolerance in (("loss", 1e-5), ("grad_norm", 1e-4), ("eval_loss", 1e-5)):
        mine, other = (
            [line[field] for line in Run(run).read_metrics() if field in line]
            for run in (ours, theirs)
        )
        assert len(mine) == (2 if field == "eval_loss" else 20)
        assert mine == pytest.approx(other, abs=tolerance), field
    assert weights(ours).keys() == weights(theirs).keys()
    for name, value in weights(theirs).items():
        torch.testing.assert_close(weights(ours)[name], value, rtol=0, atol=1e-3)
    mine, other = (
        torch.load(run / "checkpoints" / "step_00000020" / "optimizer.bin", weights_only=True)
        for run in (ours, theirs)
    )
    assert mine["param_groups"] == other["param_groups"]
    assert mine["state"].keys() == other["state"].keys()
    for index, values in other["state"].items():
        torch.testing.assert_close(mine["state"][index], values, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mae", "simmim"])
def test_shards_train_as_one_process_does(
    clothes: str, finished: Path, tmp_path: Path, method: str
) -> None:
    run, alone, arguments = tmp_path / "run", finished, tiny(clothes, tmp_path / "run")
    if method == "simmim":  # of a Swin, whose small sizes run on twins
        alone, arguments = tmp_path / "alone", simmim(clothes, run, **SWIN)
        assert main(["pretrain", *simmim(clothes, alone, **SWIN)]) == 0
    result = launch_two(["mae_et", "pretrain", *arguments], FSDP)
    assert result.returncode == 0, result.stderr
    assert {line["processes"] for line in Run(run).read_metrics() if "loss" in line} == {2}
    assert_same_training(run, alone)
    encoder = timm.create_model(f"local-dir:{run / 'encoder'}", pretrained=True).state_dict()
    trained = weights(run)
    assert all(torch.equal(value, trained[f"encoder.{name}"]) for name, value in encoder.items())


@pytest.mark.slow
def test_a_checkpoint_fits_any_way_of_distributing(
    clothes: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process, two with shards, and one again: the files are those of a run in one."""
    run = tmp_path / "run"
    arguments = [*tiny(clothes, run), "--resume=auto"]
    with monkeypatch.context() as patch:
        before_step(patch, {6: send(signal.SIGTERM)})
        assert main(["pretrain", *arguments]) == 75
    tasks = run_tasks(["tests.support.signalled_run", "SIGUSR1", "11", "1", *arguments], **AS_TASKS)
    assert [task.returncode for task in tasks] == [75, 75], tasks
    assert steps_of(run) == [12, 13]
    assert main(["pretrain", *arguments]) == 0
    assert_same_training(run, finished)


@pytest.mark.slow
def test_steps_of_shards_are_measured(clothes: str, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    options = ["--measure", f"--json={file}", "--optim.epochs=2"]
    result = launch_two(["mae_et", "plan", *tiny(clothes, "unused"), *options], FSDP)
    assert result.returncode == 0, result.stderr
    plan = json.loads(file.read_text())
    assert (plan["processes"], plan["steps"]) == (2, 10)
    assert sum(stage["time"] for stage in plan["stages"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"FSDP_VERSION": "1"}, "--fsdp_version must be 2, got 1"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, "--fsdp_offload_params must be false, got true"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "--fsdp_activation_checkpointing must be"),
    ],
)
def test_what_is_not_to_be_had_is_refused(
    clothes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    setting: dict[str, str],
    message: str,
) -> None:
    for name, value in {**AS_TASKS, **setting}.items():
        monkeypatch.setenv(name, value)
    assert main(["pretrain", *tiny(clothes, tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_fine_tuning_in_shards_is_refused(
    clothes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in AS_TASKS.items():
        monkeypatch.setenv(name, value)
    assert finetune_main(tiny_finetune(clothes, tmp_path / "run")) == 2
    assert "must not ask for FSDP but in pretraining" in capsys.readouterr().err
