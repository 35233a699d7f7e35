"""The running statistics of batch norms: shared by processes, and taken from a pass of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

BatchNorm = nn.modules.batchnorm._BatchNorm


def batch_norms(network: nn.Module) -> list[BatchNorm]:
    """Return the batch norms of a network that have running statistics."""
    found = [module for module in network.modules() if isinstance(module, BatchNorm)]
    return [norm for norm in found if norm.running_mean is not None]


@torch.no_grad()
def share_statistics(norms: Sequence[BatchNorm], accelerator: Accelerator) -> None:
    """Make running statistics their mean over all processes.

    Args:
        norms: Those of the same network in every process.
        accelerator: The accelerator of this process.
    """
    if accelerator.num_processes == 1 or not norms:
        return
    own: list[Any] = [value for norm in norms for value in (norm.running_mean, norm.running_var)]
    flat = torch.cat([values.flatten() for values in own])
    means = accelerator.reduce(flat, "mean").split([values.numel() for values in own])
    for values, mean in zip(own, means, strict=True):
        values.copy_(mean.view_as(values))


@contextmanager
def statistics_of_pass(norms: Sequence[BatchNorm]) -> Iterator[None]:
    """Let running statistics be those of the images that pass, in which every image counts alike.

    Args:
        norms: They are evaluated with these statistics afterwards.
    """
    momenta, seen = [norm.momentum for norm in norms], dict.fromkeys(norms, 0)

    def weigh(norm: BatchNorm, arguments: tuple[Tensor, ...]) -> None:
        number = len(arguments[0])
        norm.train(number > 1)  # one image may be one value of a channel, which has no variance
        if norm.training:
            seen[norm] += number
            norm.momentum = number / seen[norm]  # the first are all there is

    hooks = [norm.register_forward_pre_hook(weigh) for norm in norms]
    try:
        yield
    finally:
        for norm, hook, momentum in zip(norms, hooks, momenta, strict=True):
            hook.remove()
            norm.momentum = momentum
            norm.eval()
