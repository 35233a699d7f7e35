"""Compilation of a model by torch.compile: one graph per input size, and how many there are.

Shapes are static, so a stage of the curriculum has a graph of its own, made in its first step.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from einops import rearrange
from torch import nn


def compile_in_place(model: nn.Module) -> None:
    """Have a model compile itself in its first pass at each size; its state keeps its keys."""
    torch._dynamo.config.recompile_limit = 64  # a graph per input size and batch shape
    # Einops notes each type of tensor that it meets. Where it first met one inside a graph, the
    # note would outdate that graph, and the second step would compile it again.
    for tensor in (torch.empty(1), nn.Parameter(torch.empty(1))):
        rearrange(tensor, "n -> n 1")
    model.compile(dynamic=False)


def uncompiled() -> AbstractContextManager[None]:
    """Run a compiled model without its graphs, where it runs too rarely to be worth compiling."""
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


def num_graphs() -> int:
    """Return the number of graphs that this process has compiled so far."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])
