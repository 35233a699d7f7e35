"""Training on a GPU as on a CPU: every test is of either device, and runs on those there are."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mae_et.__main__ import main
from mae_et.build import build_curriculum
from mae_et.config.fields import to_dict
from mae_et.config.parser import config_parser, parse
from mae_et.config.pretrain import PretrainConfig
from mae_et.model import create_masked
from mae_et.pretraining import Pretrainer
from mae_et.runs import Run
from mae_et.training.launch import make_accelerator
from tests.support.accelerate_state import reset_accelerate
from tests.support.arguments import tiny
from tests.support.compare import weights

STAGES = {8: 0, 12: 10, 16: 15}
"""The first step of each size in a tiny run, whose steps have 4 chunks of 4 images."""


def make_trainer(**overrides: object) -> Pretrainer:
    """The trainer of a tiny run, with the same weights each time."""
    parser = config_parser(PretrainConfig, "pretrain", "")
    config, _ = parse(parser, PretrainConfig, tiny("unused", "unused", **overrides), "mae_et")
    torch.manual_seed(0)
    model = create_masked(to_dict(config.model))
    curriculum = build_curriculum(config, model, num_images=80)  # 20 steps
    return Pretrainer(config, make_accelerator(config.run), model, curriculum)


def chunks(device: str) -> Iterator[dict[str, Any]]:
    """One chunk again and again, as the loader hands it over."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (4, 1, 16, 16), dtype=torch.uint8, generator=generator)
    chunk = {"image": image, "noise": torch.rand(4, 16, generator=generator)}
    if device == "cuda":
        chunk = {name: value.pin_memory() for name, value in chunk.items()}
    return repeat({**chunk, "unreadable": []})


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in Run(run).read_metrics() if "loss" in line]


def test_a_run_has_the_losses_of_a_cpu(
    clothes: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through all stages, with workers and pinned memory where there is a GPU."""
    here, on_cpu = tmp_path / "here", tmp_path / "cpu"
    assert main(["pretrain", *tiny(clothes, here, data__num_workers=1)]) == 0
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    reset_accelerate()
    assert main(["pretrain", *tiny(clothes, on_cpu)]) == 0
    assert losses(here) == pytest.approx(losses(on_cpu), abs=1e-6 if device == "cpu" else 1e-3)


def test_positions_after_a_stage_change(device: str) -> None:
    trainer, reference = make_trainer(), make_trainer().unwrapped.cpu()
    for size, step in STAGES.items():
        trainer.train_step(step, chunks(device), 4)
        reference.set_input_size(size)
        for name in ("encoder_positions", "decoder_positions"):
            found = getattr(trainer.unwrapped, name)
            assert found.device.type == device
            torch.testing.assert_close(
                found.cpu(), getattr(reference, name), atol=1e-5, rtol=0, msg=f"{name} at {size}"
            )


def test_losses_of_mixed_precision(device: str) -> None:
    """At each size, from the same weights: the model rounds, crop and target do not."""
    found = {}
    for precision in ("no", "bf16"):
        reset_accelerate()
        trainer = make_trainer(run__mixed_precision=precision)
        found[precision] = [
            trainer.forward_backward(step, chunks(device), 4).item() for step in STAGES.values()
        ]
    assert found["bf16"] == pytest.approx(found["no"], rel=5e-3)
    assert found["bf16"] != found["no"]


def test_a_resumed_run_goes_on_as_the_uninterrupted_one(
    clothes: str, device: str, tmp_path: Path
) -> None:
    """To the bit on a CPU. On a GPU, the backward pass of attention may sum in any order."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    for folder in (run, whole):
        assert main(["pretrain", *tiny(clothes, folder, run__keep_checkpoints=9)]) == 0
    for checkpoint in sorted((run / "checkpoints").iterdir())[2:]:  # in the first stage
        shutil.rmtree(checkpoint)
    assert main(["pretrain", *tiny(clothes, run, run__keep_checkpoints=9), "--resume"]) == 0
    ours, theirs = weights(run), weights(whole)
    assert ours.keys() == theirs.keys()
    tolerance = 0 if device == "cpu" else 1e-4
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=tolerance, rtol=tolerance)


class NothingReachesTheHost(TorchDispatchMode):
    """Refuses the operations whose results Python or the shapes of other tensors wait for."""

    REFUSED = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "item")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        assert name not in self.REFUSED, f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("clip_grad", ["null", 1.0])
def test_a_step_never_waits_for_the_device(device: str, clip_grad: object) -> None:
    """The second of a stage: in the first, tables are made and moved."""
    trainer = make_trainer(optim__clip_grad=clip_grad)
    for step in STAGES.values():
        trainer.train_step(step, chunks(device), 4)
        try:
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("error")
            with NothingReachesTheHost():
                _, norm = trainer.train_step(step + 1, chunks(device), 4)
        finally:
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")
        assert norm.isfinite()
