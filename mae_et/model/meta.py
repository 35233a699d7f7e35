"""Copies of a model without memory, on which a pass computes shapes, counts and what it reaches."""

from __future__ import annotations

import copy
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def on_meta(model: Module) -> Module:
    """Return a copy of a model on the meta device; its weights are never copied.

    Args:
        model: On any device; it stays as it is.
    """
    memo: dict[int, Tensor] = {}
    for tensor in chain(model.parameters(), model.buffers()):
        like = torch.empty_like(tensor, device="meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(like, tensor.requires_grad) if is_parameter else like
    return copy.deepcopy(model, memo).to("meta")


def unreached(model: nn.Module, images: Tensor) -> list[str]:
    """Return the names of the parameters that the loss of a masked model does not depend on.

    It is found out by a backward pass, also where gradients are off.

    Args:
        model: The model, which stays as it is.
        images: (N, C, H, W) of its input size, two or more for the sake of batch norms.
    """
    with torch.enable_grad():
        try:
            copied, images = on_meta(model), images.to("meta")
            copied(images, masked_only=True).loss.backward()
        except Exception:  # of a network that has to see numbers; other errors come again here
            copied = copy.deepcopy(model)
            with torch.random.fork_rng(devices=[]):  # for the masks
                copied(images, masked_only=True).loss.backward()
    return [name for name, value in copied.named_parameters() if value.grad is None]
