"""Any backbone at the input sizes of a curriculum, always with the parameters of the full size.

Some backbones fit one input size: position tables, relative position biases, windows and masks
follow the grid. timm resizes them by *replacing* parameters, which an optimizer does not notice.
Here a stage runs a *twin*, the same network built at the stage's size, on the parameters and
buffers of the full-size model. Tables that follow the size are resampled in every forward pass, so
gradients reach the table of the full size, and parameters and optimizer never change.

Source: EfficientTrain trains DeiT, Swin, CSWin and convolutional networks at several sizes
(https://arxiv.org/abs/2211.09703, Section 5).

Shape legend: N images of C × H × W; tables of R rows (a grid, maybe further rows) and D channels.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from timm.layers import PatchEmbed
from torch import Tensor, nn
from torch.func import functional_call

from mae_et.curriculum import Size, as_pair, as_size
from mae_et.pos_embed import Grid, resample_table

# What networks, timm's and others', raise where arguments or sizes do not suit them.
MISFITS = (TypeError, ValueError, AssertionError, RuntimeError, ArithmeticError, LookupError)


class SizedModel(nn.Module):
    """A model that takes images of the current input size; parameters stay those of the full size.

    `model` is the full-size model and all that `parameters()`, the state dict, an optimizer or
    DDP see. At another size, its twin comes from `set_input_size(img_size=(height, width))` of a
    copy if the model has that method (as timm's do; Swin's windows follow the grid), else from
    `build`. Models with neither take any size and are called themselves. A twin borrows

    - parameters and buffers of the same shape as they are (so batch-norm statistics move in the
      full-size model);
    - `pos_embed` (1, R, D) and `relative_position_bias_table` (R, heads), resampled;

    and owns the buffers that follow the size: indices and masks. Module hooks are those of the
    time when the twin was built. Activation checkpointing, which runs blocks again in the backward
    pass, fails in a twin: its weights are borrowed for the forward pass only.

    Args:
        model: at its full size.
        full_size: pixels or (height, width).
        in_chans: C.
        num_classes: of the output (N, classes).
        build: constructs the model at a size; the weights do not matter.
    """

    input_size: tuple[int, int]

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
            size: pixels or (height, width), at most the full size.

        Raises:
            ValueError: the model can't take the size.
        """
        self.check_input_size(size)
        self.input_size = as_pair(size)

    def check_input_size(self, size: Size) -> None:
        """Build the model's twin and run it on two black images, unless that was done before.

        Neither batch-norm statistics nor random number generators change.

        Raises:
            ValueError: the model can't take the size.
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
            patch_size = patch_embed.patch_size  # the rest of a side would be cut off unnoticed
            if any(side % patch for side, patch in zip(pair, patch_size, strict=True)):
                raise ValueError(
                    f"input size must be a multiple of the patch size {as_size(*patch_size)} of "
                    f"{name}, got {size}"
                )
        tensor = next(self.model.parameters())
        images = tensor.new_zeros(2, self.in_chans, *pair)
        try:
            with _in_eval_mode(self.model), torch.no_grad():
                twin = self._make_twin(pair)
                logits = self._run(twin, images)
        except MISFITS as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ValueError(f"{name} does not fit input size {size}: {reason}") from error
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if shape != (2, self.num_classes):
            raise ValueError(
                f"{name} must turn images {tuple(images.shape)} into logits "
                f"(2, {self.num_classes}), got {shape}"
            )
        self._twins[pair] = twin
        self._follow_mode()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W) of the current input size.

        Raises:
            ValueError: the images are of another size.
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
        tensors = _named_tensors(self.model)
        borrowed = {
            name: tensors[name] if table is None else table.resample(tensors[name])
            for name, table in twin.tables.items()
        }
        return functional_call(twin.module, borrowed, (images,))  # type: ignore[no-any-return]

    def _make_twin(self, size: tuple[int, int]) -> _Twin | None:
        """The model's twin at a size; None if the model itself takes it."""
        if size == as_pair(self.full_size):
            return None
        if callable(getattr(self.model, "set_input_size", None)):
            module = copy.deepcopy(self.model)
            with warnings.catch_warnings():  # of how timm resamples, which is not used here
                warnings.simplefilter("ignore")
                module.set_input_size(img_size=size)  # type: ignore[operator]
        elif self._build is not None:
            device = next(self.model.parameters()).device
            with torch.random.fork_rng(devices=[]):  # new weights draw numbers and are not used
                module = self._build(as_size(*size)).to(device)
        else:
            return None
        tables = _match(self.model, module, as_pair(self.full_size), size)
        for name in tables:  # the twin's own are never used: hold no memory for them
            owner, leaf = _find(module, name)
            tensor = getattr(owner, leaf)
            if leaf in owner._parameters:
                owner._parameters[leaf] = nn.Parameter(tensor.to("meta"), tensor.requires_grad)
            else:
                owner._buffers[leaf] = tensor.to("meta")
        _copy_mode(self.model, module)
        return _Twin(module, tables)

    def train(self, mode: bool = True) -> SizedModel:
        """As in any module; the twins follow. (Set the mode of parts of `model` before it.)"""
        super().train(mode)
        self._follow_mode()
        return self

    def _follow_mode(self) -> None:
        for twin in filter(None, self._twins.values()):
            _copy_mode(self.model, twin.module)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SizedModel:
        """Moves between devices reach the buffers that the twins own."""
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
    tables: dict[str, _Table | None]
    """What is borrowed from the full-size model, by name; None for as it is."""


class _Table(NamedTuple):
    """How a table over a grid is resampled; rows before and after the grid (of tokens) are kept."""

    full_grid: Grid
    grid: Grid
    num_prefix: int

    def resample(self, table: Tensor) -> Tensor:
        """(1, R, D) or (R, D) of the full grid -> the same of this grid."""
        rows = table if table.ndim == 3 else table[None]
        end = self.num_prefix + math.prod(self.full_grid)
        resampled = resample_table(rows[:, :end], self.full_grid, self.grid, self.num_prefix)
        resampled = torch.cat([resampled, rows[:, end:]], dim=1)
        return resampled if table.ndim == 3 else resampled[0]


def _match(
    model: nn.Module, twin: nn.Module, full_size: tuple[int, int], size: tuple[int, int]
) -> dict[str, _Table | None]:
    """What a twin borrows.

    Raises:
        ValueError: a parameter follows the size and is no table known here.
    """
    if [name for name, _ in model.named_modules()] != [name for name, _ in twin.named_modules()]:
        raise ValueError("other modules than at the full size")
    saved = model.state_dict().keys()
    full_tensors, tensors = _named_tensors(model), _named_tensors(twin)
    tables: dict[str, _Table | None] = {}
    for name in [name for name in full_tensors if name in saved]:
        shapes = [list(every[name].shape) for every in (full_tensors, tensors) if name in every]
        if len(shapes) == 2 and shapes[0] == shapes[1]:
            tables[name] = None
        elif isinstance(full_tensors[name], nn.Parameter):
            tables[name] = _table(name, model, twin, full_size, size)
            if tables[name] is None:
                raise ValueError(
                    f"can't resample parameter {name}, {' -> '.join(map(str, shapes))}"
                )
        # A buffer of another shape is an index or a mask, the twin's own.
    return tables


def _table(
    name: str,
    model: nn.Module,
    twin: nn.Module,
    full_size: tuple[int, int],
    size: tuple[int, int],
) -> _Table | None:
    """How a parameter follows from that of the full size; None if that is unknown."""
    (full_owner, leaf), (owner, _) = _find(model, name), _find(twin, name)
    full, new = getattr(full_owner, leaf), getattr(owner, leaf, None)
    if new is None or full.ndim != new.ndim or full.shape[-1] != new.shape[-1]:
        return None
    full_rows, rows = full.shape[-2], new.shape[-2]
    if leaf.endswith("pos_embed") and full.ndim == 3 and full_rows > rows:
        full_grid, grid = _patch_grids(full_owner, owner, full_size, size, full_rows - rows)
        num_prefix = full_rows - math.prod(full_grid)
    elif leaf.endswith("relative_position_bias_table") and full.ndim == 2:
        full_grid, grid = _offsets(full_owner, full_rows), _offsets(owner, rows)
        num_prefix = 0
    else:
        return None
    num_others = full_rows - math.prod(full_grid)
    if num_others < 0 or num_others != rows - math.prod(grid):
        return None
    return _Table(full_grid, grid, num_prefix)


def _patch_grids(
    full_owner: Any, owner: Any, full_size: tuple[int, int], size: tuple[int, int], num_fewer: int
) -> tuple[Grid, Grid]:
    """The grids of patches at both sizes.

    They are timm's, or those of square patches of the size that explains how many fewer there are.
    """
    try:
        return full_owner.patch_embed.grid_size, owner.patch_embed.grid_size
    except AttributeError:
        patch = math.sqrt((math.prod(full_size) - math.prod(size)) / num_fewer)
        full_grid, grid = (
            (int(height / patch), int(width / patch)) for height, width in (full_size, size)
        )
        return full_grid, grid


def _offsets(attention: nn.Module, rows: int) -> Grid:
    """The grid (2h - 1, 2w - 1) of the offsets in an h × w window; square if it does not say."""
    window_size = getattr(attention, "window_size", None)
    if window_size is None:
        return math.isqrt(rows), math.isqrt(rows)
    height, width = as_pair(window_size)
    return 2 * height - 1, 2 * width - 1


def _named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, tied ones under each of their names."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _find(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds a tensor, and the tensor's name there."""
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf


def _copy_mode(model: nn.Module, twin: nn.Module) -> None:
    """Training or evaluation, module by module."""
    for module, other in zip(model.modules(), twin.modules(), strict=True):
        other.training = module.training


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while, then the mode of each module as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
