"""Any backbone at the input sizes of a curriculum, always with the parameters of the full size.

Other sizes run on twins; see `mae_et.model.twins`.

Shape legend: N images of C × H × W.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..curriculum import Size, as_pair
from .twins import HasTwins, Twins


class SizedModel(HasTwins):
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

        def check_logits(logits: Any) -> None:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            if shape != (2, self.num_classes):
                images = (2, self.in_chans, *as_pair(size))
                raise ValueError(
                    f"{type(self.model).__name__} must turn images {images} into logits "
                    f"(2, {self.num_classes}), got {shape}"
                )

        self._twins.prepare(size, self.in_chans, check_logits)

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
