"""Compiled runs: the same training, with a graph per input size and none besides."""

import shutil
from pathlib import Path

import einops
import pytest
import torch
from torch import nn

from mae_et.__main__ import main
from mae_et.runs import Run
from mae_et.training.compile import num_graphs
from tests.support.arguments import tiny

pytestmark = pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores")


@pytest.fixture(autouse=True)
def _new_process(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process; on a CPU, with Dynamo's graphs but no compiler behind them."""
    if device == "cpu":
        compile_module = nn.Module.compile
        monkeypatch.setattr(
            nn.Module,
            "compile",
            lambda self, **options: compile_module(self, backend="eager", **options),
        )
    monkeypatch.setattr(einops._backends, "_type2backend", {})
    forget_graphs()


def forget_graphs() -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


def graphs(run: Path) -> list[int]:
    """How many there are after each step."""
    return [line["graphs"] for line in Run(run).read_metrics() if "loss" in line]


def test_a_compiled_run_is_the_same(clothes: str, device: str, tmp_path: Path) -> None:
    run, eager = tmp_path / "run", tmp_path / "eager"
    assert main(["pretrain", *tiny(clothes, run, run__compile="true")]) == 0
    assert main(["pretrain", *tiny(clothes, eager)]) == 0
    ours, theirs = (
        [line["loss"] for line in Run(folder).read_metrics() if "loss" in line]
        for folder in (run, eager)
    )
    assert ours == pytest.approx(theirs, abs=1e-5 if device == "cpu" else 1e-3)
    assert graphs(run) == [1] * 10 + [2] * 5 + [3] * 5


def test_a_size_is_compiled_once(clothes: str, tmp_path: Path) -> None:
    """Micro-batches, evaluations and a size that comes back add no graph; a resumed run makes one.

    The last, smaller batch of the evaluations has a shape of its own.
    """
    run = tmp_path / "run"
    options = tiny(
        clothes,
        run,
        run__compile="true",
        run__mixed_precision="bf16",
        run__eval_every=3,
        data__eval_images=18,
        curriculum__stages="[{size: 8}, {size: 16}, {size: 8}, {size: 16}]",
    )
    assert main(["pretrain", *options]) == 0
    assert graphs(run) == [1] * 5 + [2] * 15

    shutil.rmtree(run / "checkpoints" / "step_00000020")
    forget_graphs()
    assert main(["pretrain", *options, "--resume"]) == 0
    assert graphs(run) == [1] * 5 + [2] * 13 + [1] * 2
    assert num_graphs() == 1
