"""Any backbone at the input sizes of a curriculum, always with the parameters of the full size.

Some backbones fit one input size only: position tables, relative position biases, windows and masks
follow the grid. timm resizes them by *replacing* parameters, which an optimizer does not notice.
Here a stage runs a *twin*, the same network built at the stage's size, on the parameters and
buffers of the full-size model. Tables that follow the size are resampled in every forward pass, so
that gradients reach the full-size table, and parameters and optimizer never change.

Source: EfficientTrain trains DeiT, Swin, CSWin and convolutional networks at several sizes
(https://arxiv.org/abs/2211.09703, Section 5).

Shape legend: N images of C × H × W; tables of R rows (a grid and possibly others) and D channels.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from timm.layers import PatchEmbed
from torch import Tensor, nn
from torch.func import functional_call

from ..curriculum import Size, as_pair, as_size
from ..errors import first_line
from .any_size_tables import Table, find, match_tables, named_tensors


class SizedModel(nn.Module):
    """A model that takes images of any input size with the parameters of its full size.

    `model` is the full-size model, and all that `parameters()`, the state dict, an optimizer or DDP
    see. At another size its twin runs, which is made by `set_input_size(img_size=(height, width))`
    of a copy if the model has that method (timm's models do; Swin's windows follow the grid), or
    else by `build`. Without either, the model itself is called at every size. A twin borrows

    - parameters and buffers of equal shape as they are (so that batch-norm statistics are updated
      in the full-size model);
    - `pos_embed` (1, R, D) and `relative_position_bias_table` (R, heads), resampled;

    and owns the buffers that follow the size: indices and masks. A twin has the module hooks that
    the model had when the twin was built. Activation checkpointing, which runs blocks again in the
    backward pass, fails in a twin, whose weights are borrowed for the forward pass only.

    Args:
        model: The model at its full size.
        full_size: Pixels or (height, width).
        in_chans: C.
        num_classes: Number of classes, the width of the output (N, classes).
        build: Constructs the model at a given size; its weights do not matter.
    """

    input_size: tuple[int, int]
    """(height, width) in pixels."""

    def __init__(
        self,
        model: nn.Module,
        *,
        full_size: Size,
        in_chans: int,
        num_classes: int,
        build: Callable[[Size], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.full_size = full_size
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.input_size = as_pair(full_size)
        self._build = build
        # A dict, so that twins are no submodules; a size without a twin runs the model itself.
        self._twins: dict[tuple[int, int], _Twin | None] = {}

    def set_input_size(self, size: Size) -> None:
        """Accept images of another size from now on; parameters stay as they are.

        Args:
            size: Pixels or (height, width), at most the full size.

        Raises:
            ValueError: The model can't take the size.
        """
        self.check_input_size(size)
        self.input_size = as_pair(size)

    def check_input_size(self, size: Size) -> None:
        """Build the model's twin and run it on two black images, unless that has been done.

        Neither batch-norm statistics nor random number generators change.

        Args:
            size: Pixels or (height, width).

        Raises:
            ValueError: The model can't take the size.
        """
        pair = as_pair(size)
        if pair in self._twins:
            return
        name = type(self.model).__name__
        limits = as_pair(self.full_size)
        if not all(1 <= side <= limit for side, limit in zip(pair, limits, strict=True)):
            raise ValueError(f"input size must be in 1 … {self.full_size}, got {size}")
        patch_embed: Any = getattr(self.model, "patch_embed", None)
        if type(patch_embed) is PatchEmbed and not patch_embed.dynamic_img_pad:
            patch_size = patch_embed.patch_size  # the rest of a side would be cut off silently
            if any(side % patch for side, patch in zip(pair, patch_size, strict=True)):
                raise ValueError(
                    f"input size must be a multiple of the patch size {as_size(*patch_size)} of "
                    f"{name}, got {size}"
                )
        images = torch.zeros(2, self.in_chans, *pair, device=self._device())
        try:
            with _in_eval_mode(self.model), torch.no_grad():
                twin = self._make_twin(pair)
                logits = self._run(twin, images)
        except Exception as error:  # networks raise anything when a size does not suit them
            raise ValueError(
                f"{name} does not fit input size {size}: {first_line(error)}"
            ) from error
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if shape != (2, self.num_classes):
            raise ValueError(
                f"{name} must turn images {tuple(images.shape)} into logits "
                f"(2, {self.num_classes}), got {shape}"
            )
        self._twins[pair] = twin
        self._follow_mode()

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits (N, classes) of images (N, C, H, W) of the current input size.

        Raises:
            ValueError: The images are of another size.
        """
        if tuple(images.shape[-2:]) != self.input_size:
            raise ValueError(
                f"images must be of {self.input_size[0]} × {self.input_size[1]} pixels, got "
                f"{tuple(images.shape)}; see set_input_size"
            )
        return self._run(self._twins.get(self.input_size), images)

    def _run(self, twin: _Twin | None, images: Tensor) -> Tensor:
        if twin is None:
            return self.model(images)  # type: ignore[no-any-return]
        tensors = named_tensors(self.model)
        borrowed = {
            name: tensors[name] if table is None else table.resample(tensors[name])
            for name, table in twin.tables.items()
        }
        return functional_call(twin.module, borrowed, (images,))  # type: ignore[no-any-return]

    def _device(self) -> torch.device | None:
        return next((parameter.device for parameter in self.model.parameters()), None)

    def _make_twin(self, size: tuple[int, int]) -> _Twin | None:
        """Build the model's twin at a size; None if the model itself takes that size."""
        if size == as_pair(self.full_size):
            return None
        if callable(getattr(self.model, "set_input_size", None)):
            module = copy.deepcopy(self.model)
            with warnings.catch_warnings():  # of how timm resamples, which is not used here
                warnings.simplefilter("ignore")
                module.set_input_size(img_size=size)  # type: ignore[operator]
        elif self._build is not None:
            device = self._device()
            with torch.random.fork_rng(devices=[]):  # for the new weights, which are not used
                module = self._build(as_size(*size)).to(device)
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
        return _Twin(module, tables)

    def train(self, mode: bool = True) -> SizedModel:
        """Set training or evaluation mode, as in any module; the twins follow.

        Twins learn the modes of parts of `model` here: set these before calling this method.

        Args:
            mode: Whether to train.
        """
        super().train(mode)
        self._follow_mode()
        return self

    def _follow_mode(self) -> None:
        for twin in filter(None, self._twins.values()):
            _copy_mode(self.model, twin.module)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SizedModel:
        """Apply moves between devices to the buffers that the twins own, too."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for twin in filter(None, self._twins.values()):
            for module in twin.module.modules():
                for name, buffer in module._buffers.items():
                    if buffer is not None and not buffer.is_meta:
                        module._buffers[name] = fn(buffer)
        return self


class _Twin(NamedTuple):
    """The model at another size."""

    module: nn.Module
    """The network, whose borrowed tensors are on the meta device."""
    tables: dict[str, Table | None]
    """The tensors borrowed from the full-size model, by name; None to take one as it is."""


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
