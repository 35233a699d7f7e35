"""The optimizer, the micro-batches of a step, and a step that is skipped if it is not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import timm.optim
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ..curriculum import Size, as_pair


def adamw(groups: Iterable[dict[str, Any]], betas: tuple[float, float]) -> torch.optim.AdamW:
    """Make an AdamW that works on the device only; learning rates are set at each step."""
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, fused=True)


class Lamb(timm.optim.Lamb):  # type: ignore[misc]  # timm has no types
    """timm's LAMB, which skips a step like the fused AdamW if `found_inf` says so.

    The host reads `found_inf` and so waits for the device, once a step.
    """

    found_inf: Tensor | None = None

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take an optimizer step, unless `found_inf` is not zero."""
        if self.found_inf is not None and self.found_inf.item():
            return None
        loss: float | None = super().step(closure)
        return loss


def lamb(groups: Iterable[dict[str, Any]], betas: tuple[float, float]) -> Lamb:
    """Make a LAMB (https://arxiv.org/abs/1904.00962); learning rates are set at each step.

    It clips no gradients: `optim.clip_grad` does.
    """
    return Lamb(list(groups), lr=0.0, betas=betas, max_grad_norm=None)


def set_learning_rate(optimizer: AcceleratedOptimizer, value: float) -> None:
    """Set the learning rate of each group, times its `lr_scale` if it has one."""
    for group in optimizer.param_groups:
        group["lr"] = value * group.get("lr_scale", 1.0)


def accumulate_gradients(
    accelerator: Accelerator,
    model: nn.Module,
    num_micro_batches: int,
    next_loss: Callable[[], Tensor],
) -> Tensor:
    """Add up the gradients of a step's micro-batches; processes exchange them once, with the last.

    With FSDP they are exchanged with every micro-batch: waiting would need memory for the whole
    gradients.

    Args:
        accelerator: The accelerator of this process.
        model: The prepared model.
        num_micro_batches: The number of micro-batches, at least one, all of equal size.
        next_loss: The forward pass of the next micro-batch, which returns its mean loss ().

    Returns:
        (): This process's mean loss.
    """
    total = torch.zeros((), device=accelerator.device)
    for index in range(num_micro_batches):
        is_last = index == num_micro_batches - 1
        with nullcontext() if is_last else accelerator.no_sync(model):
            loss = next_loss() / num_micro_batches
            accelerator.backward(loss)
        total += loss.detach()
    return total


def step_if_finite(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: AcceleratedOptimizer,
    clip_grad: float | None,
) -> Tensor:
    """Take an optimizer step, which is skipped on the device if a gradient is not finite.

    No value reaches the host: the fused optimizer reads `found_inf`, as it does for gradient
    scalers. Gradients are the same in every process, so every process decides the same.

    Returns:
        (): The norm of the gradients before clipping; not finite if the step was skipped.
    """
    accelerator.unscale_gradients(optimizer)
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if isinstance(norm, DTensor):  # the norm of the parts; see `fsdp`
        norm = norm.full_tensor()
    if clip_grad is not None:
        nn.utils.clip_grads_with_norm_(parameters, clip_grad, norm)
    optimizer.optimizer.found_inf = (~norm.isfinite()).float()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


def chunks_per_micro_batch(size: Size, full_size: Size, num_chunks: int) -> int:
    """Return how many full-size chunks one forward pass of a smaller size takes in the same memory.

    It is the largest number that divides the step's chunks and has at most 5 % more pixels than a
    full-size chunk. (An image of 224 has 1.96 times the pixels of one of 160: two chunks.)

    Args:
        size: The input size of the step, in pixels.
        full_size: The full size, in pixels.
        num_chunks: Number of chunks of a process in the step.
    """
    height, width = as_pair(size)
    full_height, full_width = as_pair(full_size)
    fit = 1.05 * full_height * full_width / (height * width)
    return max(n for n in range(1, num_chunks + 1) if num_chunks % n == 0 and n <= max(fit, 1))
