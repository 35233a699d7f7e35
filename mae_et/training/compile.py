"""Compile a model with torch.compile, one graph per input size, and count the graphs.

Shapes are static, so each stage of the curriculum has its own graph, made in its first step.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from einops import rearrange
from torch import nn


def compile_in_place(model: nn.Module) -> None:
    """Have a model compile itself in its first pass at each size; its state keeps its keys."""
    torch._dynamo.config.recompile_limit = 64  # a graph per input size and batch shape
    # Einops records each type of tensor that it meets. If it first met one inside a graph, the
    # record would invalidate that graph, and the second step would compile it again.
    for tensor in (torch.empty(1), nn.Parameter(torch.empty(1))):
        rearrange(tensor, "n -> n 1")
    model.compile(dynamic=False)


def uncompiled() -> AbstractContextManager[None]:
    """Run a compiled model without its graphs, where it runs too rarely to justify compiling."""
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


def num_graphs() -> int:
    """Return the number of graphs that this process has compiled so far."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])
