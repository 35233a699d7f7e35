"""FSDP: every process keeps a part of the weights, their gradients and the optimizer's state.

FSDP 2 (https://arxiv.org/abs/2304.11277) is applied with torch's `fully_shard` when the launch asks
accelerate for it. Accelerate's own way is not used: it needs a GPU, casts the images to bfloat16
before targets are made from them, and writes checkpoints in a different layout. Here, what is saved
is whole, as if there were one process, so checkpoints fit any way of distributing a run.
`torch.distributed.checkpoint.state_dict` is not used either: it gives the whole state to one
process only, and names the optimizer's state differently from single-process runs.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import FullyShardedDataParallelPlugin, parse_flag_from_env
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

State = TypeVar("State")


LAUNCH_FLAG = "ACCELERATE_USE_FSDP"
"""The environment variable with which accelerate's launcher asks for FSDP."""


def fsdp_requested() -> bool:
    """Return whether the launch configuration asks for FSDP."""
    return bool(parse_flag_from_env(LAUNCH_FLAG))


def launch_settings() -> FullyShardedDataParallelPlugin:
    """Return what the launch configuration says about FSDP.

    Raises:
        ValueError: It asks for something that is not supported here.
    """
    settings = FullyShardedDataParallelPlugin()
    refused = {
        "--fsdp_offload_params": isinstance(settings.cpu_offload, CPUOffloadPolicy),
        "--fsdp_activation_checkpointing": settings.activation_checkpointing,
    }
    if settings.fsdp_version != 2:
        raise ValueError(f"--fsdp_version must be 2, got {settings.fsdp_version}")
    for name, is_set in refused.items():
        if is_set:
            raise ValueError(f"{name} must be false, got true")
    ignored = os.environ.get("FSDP_IGNORED_MODULES")  # earlier versions of accelerate skip it
    if ignored:
        raise ValueError(f"--fsdp_ignored_modules must not be given, got {ignored!r}")
    return settings


def prepare(
    accelerator: Accelerator, model: nn.Module, optimizer: Optimizer, blocks: Sequence[nn.Module]
) -> tuple[nn.Module, AcceleratedOptimizer]:
    """Prepare a model and its optimizer for all processes: whole, or in parts by FSDP.

    Args:
        accelerator: The accelerator of this process.
        model: The model, with the same weights in every process.
        optimizer: The optimizer of its parameters, which has no state yet.
        blocks: Modules whose weights are gathered one after another, instead of all at once.
    """
    if not fsdp_requested() or accelerator.num_processes == 1:
        with warnings.catch_warnings():  # torch's newer names, which accelerate cannot pass on yet
            warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
            prepared: tuple[nn.Module, AcceleratedOptimizer] = accelerator.prepare(model, optimizer)
        return prepared
    model = accelerator.prepare_model(model, evaluation_mode=True)  # device and precision only
    names = {parameter: name for name, parameter in model.named_parameters()}
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for block in blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=launch_settings().reshard_after_forward)
    fully_shard(model, mesh=mesh)
    parts = dict(model.named_parameters())
    for group in optimizer.param_groups:
        group["params"] = [parts[names[parameter]] for parameter in group["params"]]
    _save_whole(accelerator, optimizer)
    return model, accelerator.prepare_optimizer(optimizer)


def _save_whole(accelerator: Accelerator, optimizer: Optimizer) -> None:
    """Have checkpoints hold the whole state of an optimizer that sees parts of the parameters.

    It is gathered before anything is written: a process that fails to write falls out of step.
    """
    gathered: list[dict[str, Any]] = []

    def gather(*_: object) -> None:
        gathered.clear()
        gathered.append(whole(optimizer.state_dict()))

    accelerator.register_save_state_pre_hook(gather)
    optimizer.register_state_dict_post_hook(lambda _, own: gathered.pop() if gathered else own)
    optimizer.register_load_state_dict_pre_hook(_part_of_state)


def is_fsdp(model: nn.Module) -> bool:
    """Return whether this process keeps only a part of the model."""
    return isinstance(model, FSDPModule)


def whole(state: State) -> State:
    """Return a state dict of whole tensors, on the CPU; every process must call this."""
    gathered: State = tree_map_only(DTensor, lambda part: part.full_tensor().cpu(), state)
    return gathered


def load_whole(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load a whole state dict into a model of which this process may keep only a part."""
    own = model.state_dict()
    model.load_state_dict({n: _part_like(own.get(n), value) for n, value in weights.items()})


def _part_of_state(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Return this process's part of an optimizer's whole state dict."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    values = {
        index: {name: _part_like(parameters[index], value) for name, value in of_one.items()}
        for index, of_one in state["state"].items()
    }
    return {**state, "state": values}


def _part_like(target: Tensor | None, value: Tensor) -> Tensor:
    """Return this process's part of a tensor of the target's shape; all of it for other targets."""
    if not isinstance(target, DTensor) or value.shape != target.shape:
        return value
    moved = value.to(target.device)
    return distribute_tensor(moved, target.device_mesh, target.placements, src_data_rank=None)
