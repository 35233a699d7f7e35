"""A network at other input sizes than its full one, always with the parameters of the full size.

Some networks fit one input size only: position tables, relative position biases, windows and masks
follow the grid. timm resizes them by *replacing* parameters, which an optimizer does not notice.
Here another size has a *twin*, the same network built at that size, which runs on the parameters
and buffers of the full-size network. Tables that follow the size are resampled in every forward
pass, so that gradients reach the full-size table, and parameters and optimizer never change.

Source: EfficientTrain trains DeiT, Swin, CSWin and convolutional networks at several sizes
(https://arxiv.org/abs/2211.09703, Section 5).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import torch
from timm.layers import PatchEmbed
from torch import Tensor, nn
from torch.func import functional_call

from ..curriculum import Size, as_pair, as_size
from ..errors import first_line
from .any_size_tables import Table, find, match_tables, named_tensors
from .backbone import total_stride

Pass = Callable[..., Any]
"""A forward pass: it gets the network, and its inputs."""


class Twin(NamedTuple):
    """A network at another size."""

    module: nn.Module
    """The network, whose borrowed tensors are on the meta device."""
    tables: dict[str, Table | None]
    """The tensors borrowed from the full-size network, by name; None to take one as it is."""
    call: nn.Module
    """Runs the forward pass of `module`."""


class Twins(dict[tuple[int, int], Twin | None]):
    """The twins of a network by size, in pixels; None where the network itself takes that size.

    A twin is made by `set_input_size(img_size=(height, width))` of a copy if the network has that
    method (timm's do; Swin's windows follow the grid), or else by `build`. Without either, the
    network itself runs at every size. A twin borrows

    - parameters and buffers of equal shape as they are (so that batch-norm statistics are updated
      in the full-size network);
    - `pos_embed` (1, R, D) and `relative_position_bias_table` (R, heads), resampled;

    and owns the buffers that follow the size: indices and masks. A twin has the module hooks that
    the network had when the twin was built. Activation checkpointing, which runs blocks again in
    the backward pass, fails in a twin, whose weights are borrowed for the forward pass only.

    It is a dict and no module, so that twins are no submodules; the module that holds it is a
    `HasTwins`.

    Args:
        model: The network at its full size.
        full_size: Pixels or (height, width).
        build: Constructs the network at a given size; its weights do not matter.
        forward: The forward pass; by default that of the module.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        full_size: Size,
        build: Callable[[Size], nn.Module] | None = None,
        forward: Pass | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.full_size = full_size
        self.build = build
        self.forward: Pass = forward or call_module

    def run(self, twin: Twin | None, *inputs: Any) -> Any:
        """Run the forward pass of a twin, or that of the network itself, on the inputs."""
        if twin is None:
            return self.forward(self.model, *inputs)
        tensors = named_tensors(self.model)
        borrowed = {
            f"module.{name}": tensors[name] if table is None else table.resample(tensors[name])
            for name, table in twin.tables.items()
        }
        return functional_call(twin.call, borrowed, inputs)

    def prepare(self, size: Size, in_chans: int, check: Callable[[Any], None]) -> None:
        """Build the twin of a size and run it on two black images, unless that has been done.

        Neither batch-norm statistics nor random number generators change.

        Args:
            size: Pixels or (height, width).
            in_chans: C, the image channels.
            check: Raises a ValueError if what the forward pass returned is not what it should be.

        Raises:
            ValueError: The network can't take the size.
        """
        pair = as_pair(size)
        if pair in self:
            return
        check_size(self.model, size, self.full_size)
        images = torch.zeros(2, in_chans, *pair, device=device_of(self.model))
        try:
            with _in_eval_mode(self.model), torch.no_grad():
                twin = self._make(pair)
                result = self.run(twin, images)
        except Exception as error:  # networks raise anything when a size does not suit them
            name, least = type(self.model).__name__, total_stride(self.model)
            why = first_line(error)
            if least is not None and min(pair) < 2 * least:
                why = f"its stride is {least} pixels; larger images or a smaller stride fit ({why})"
            raise ValueError(f"{name} does not fit input size {size}: {why}") from error
        check(result)
        self[pair] = twin
        self.follow_mode()

    def _make(self, size: tuple[int, int]) -> Twin | None:
        """Build the twin of a size; None if the network itself takes that size."""
        if size == as_pair(self.full_size):
            return None
        if callable(getattr(self.model, "set_input_size", None)):
            module = copy.deepcopy(self.model)
            with warnings.catch_warnings():  # of how timm resamples, which is not used here
                warnings.simplefilter("ignore")
                module.set_input_size(img_size=size)  # type: ignore[operator]
        elif self.build is not None:
            device = device_of(self.model)
            with torch.random.fork_rng(devices=[]):  # for the new weights, which are not used
                module = self.build(as_size(*size)).to(device)
        else:
            return None
        tables = match_tables(self.model, module, as_pair(self.full_size), size)
        for name in tables:  # the twin's own tensors are never used, so they get no memory
            owner, leaf = find(module, name)
            tensor = getattr(owner, leaf)
            if leaf in owner._parameters:
                owner._parameters[leaf] = nn.Parameter(tensor.to("meta"), tensor.requires_grad)
            else:
                owner._buffers[leaf] = tensor.to("meta")
        _copy_mode(self.model, module)
        return Twin(module, tables, _Call(module, self.forward))

    def follow_mode(self) -> None:
        """Put each module of the twins in the mode, training or evaluation, of its counterpart."""
        for twin in filter(None, self.values()):
            _copy_mode(self.model, twin.module)

    def move(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Apply moves between devices to the buffers that the twins own."""
        for twin in filter(None, self.values()):
            for module in twin.module.modules():
                for name, buffer in module._buffers.items():
                    if buffer is not None and not buffer.is_meta:
                        module._buffers[name] = fn(buffer)


class HasTwins(nn.Module):
    """A base class: a module whose network has twins, which follow its mode and its device."""

    _twins: Twins

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode, as in any module; the twins follow.

        Twins learn the modes of parts of the network here: set these before calling this method.

        Args:
            mode: Whether to train.
        """
        super().train(mode)
        self._twins.follow_mode()
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Apply moves between devices to the buffers that the twins own, too."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._twins.move(fn)
        return self


class _Call(nn.Module):
    """A forward pass as a module, as `functional_call` wants it."""

    def __init__(self, module: nn.Module, function: Pass) -> None:
        super().__init__()
        self.module = module
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(self.module, *inputs)


def call_module(module: nn.Module, *inputs: Any) -> Any:
    """Call a module."""
    return module(*inputs)


def device_of(module: nn.Module) -> torch.device | None:
    """Return the device of a module's parameters; None if it has none."""
    return next((parameter.device for parameter in module.parameters()), None)


def check_size(model: nn.Module, size: Size, full_size: Size) -> None:
    """Check that a size is at most the full one, and is whole patches of a network that has them.

    Args:
        model: The network.
        size: Pixels or (height, width).
        full_size: The same of the full size.

    Raises:
        ValueError: It is not.
    """
    pair = as_pair(size)
    if not all(1 <= side <= limit for side, limit in zip(pair, as_pair(full_size), strict=True)):
        raise ValueError(f"input size must be in 1 … {full_size}, got {size}")
    patch_embed: Any = getattr(model, "patch_embed", None)
    if type(patch_embed) is PatchEmbed and not patch_embed.dynamic_img_pad:
        patch_size = patch_embed.patch_size  # the rest of a side would be cut off silently
        if any(side % patch for side, patch in zip(pair, patch_size, strict=True)):
            raise ValueError(
                f"input size must be a multiple of the patch size {as_size(*patch_size)} of "
                f"{type(model).__name__}, got {size}"
            )


def _copy_mode(model: nn.Module, twin: nn.Module) -> None:
    """Copy the mode, training or evaluation, of every module to its counterpart."""
    for module, other in zip(model.modules(), twin.modules(), strict=True):
        other.training = module.training


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode, and each of its modules back in its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
