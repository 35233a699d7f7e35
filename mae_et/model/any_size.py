"""Any backbone at the input sizes of a curriculum, always with the parameters of the full size.

Other sizes run on twins; see `mae_et.model.twins`.

Shape legend: N images of C × H × W.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.layers import PatchEmbed
from torch import Tensor, nn

from ..curriculum import Size, as_pair, as_size
from ..errors import first_line
from .twins import Twins, device_of


class SizedModel(nn.Module):
    """A model that takes images of any input size with the parameters of its full size.

    `model` is the full-size model, and all that `parameters()`, the state dict, an optimizer or DDP
    see. At another size one of its `Twins` runs.

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
        self._twins = Twins(model, full_size=full_size, build=build)

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
        check_size(self.model, size, self.full_size)
        images = torch.zeros(2, self.in_chans, *pair, device=device_of(self.model))
        try:
            twin, logits = self._twins.try_size(pair, images)
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
        self._twins.follow_mode()

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
        logits: Tensor = self._twins.run(self._twins.get(self.input_size), images)
        return logits

    def train(self, mode: bool = True) -> SizedModel:
        """Set training or evaluation mode, as in any module; the twins follow.

        Twins learn the modes of parts of `model` here: set these before calling this method.

        Args:
            mode: Whether to train.
        """
        super().train(mode)
        self._twins.follow_mode()
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SizedModel:
        """Apply moves between devices to the buffers that the twins own, too."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._twins.move(fn)
        return self


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
