"""Steps of loops of one's own: one call of the model, also where it is wrapped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from einops import rearrange
from torch import nn

from mae_et.training.compile import num_graphs
from tests.support.launch import run_tasks
from tests.support.wrapped_steps import SIZES, losses, make_model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrapper", "tolerance"), [("ddp", 1e-5), ("fsdp", 1e-5), ("fsdp_bf16", 0.02)]
)
def test_two_processes_train_as_one_does(wrapper: str, tolerance: float, tmp_path: Path) -> None:
    out = tmp_path / "losses.json"
    tasks = run_tasks(["tests.support.wrapped_steps", wrapper, str(out)])
    assert [task.returncode for task in tasks] == [0, 0], tasks
    assert json.loads(out.read_text()) == pytest.approx(losses(make_model()), abs=tolerance)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_compiled_model_has_a_graph_for_each_size(in_place: bool) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    for tensor in (torch.empty(1), nn.Parameter(torch.empty(1))):  # which einops meets once only
        rearrange(tensor, "n -> n 1")
    model = make_model()
    if in_place:
        model.compile(backend="eager", dynamic=False)
        compiled: Any = model
    else:
        compiled = torch.compile(model, backend="eager", dynamic=False)
    assert losses(compiled) == pytest.approx(losses(make_model()), abs=1e-6)
    assert num_graphs() == len(set(SIZES))
