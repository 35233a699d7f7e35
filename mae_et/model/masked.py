"""What every model of masked pretraining has, whatever its network: sizes, patches and masks.

`pretrain`, `plan`, `search`, `reconstruct`, probes and export know models by this class alone.

Shape legend: N images of H × W, L patches, U mask units (patches, or blocks of them), F features of
a map of h × w, P values of a patch or its target.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn

from ..curriculum import Size, as_pair, as_size
from ..lowfreq import low_frequency_crop
from .mae_output import MAEOutput
from .masking import check_mask_block, num_visible_patches
from .pos_embed import Grid
from .targets import Target


class MaskedModel(nn.Module):
    """A base class: a model of masked patches whose input size may change at any step.

    A subclass has the attributes below, and calls `set_input_size` with the full size when it is
    complete. What a change of size takes beside the grid is `_follow_input_size`.

    Args:
        full_size: Pixels or (height, width), multiples of the patch size.
        patch_size: (height, width) in pixels.
        mask_ratio: Share of masked patches, in (0, 1).
        mask_block: Patches on a side of a mask unit, which is masked as a whole.

    Raises:
        ValueError: The mask units do not divide the full grid.
    """

    method: ClassVar[str]
    """The name of the method, as in `model.method`."""
    encoder: Any
    """The network that is pretrained, without a head; its state dict has the network's own keys."""
    encoder_name: str
    """The name of the network, as in `model.encoder`."""
    encoder_args: dict[str, Any]
    """The arguments of the network beside its sizes."""
    in_chans: int
    """C, the image channels."""
    target_name: str
    """The name of the target, as in `model.target`."""
    target: Target
    """What is predicted of a patch."""
    mask_token: nn.Parameter
    """What stands in for what is masked."""
    input_size: tuple[int, int]
    """(height, width) in pixels."""
    grid: Grid
    """(rows, columns) of patches at the current input size."""

    def __init__(
        self,
        *,
        full_size: Size,
        patch_size: tuple[int, int],
        mask_ratio: float,
        mask_block: int = 1,
    ) -> None:
        super().__init__()
        height, width = as_pair(full_size)
        self.full_size = full_size
        self.patch_size = patch_size
        self.full_grid: Grid = (height // patch_size[0], width // patch_size[1])
        check_mask_block(mask_block, self.full_grid, full_size)
        self.mask_ratio = mask_ratio
        self.mask_block = mask_block
        self.input_size = (0, 0)

    @abstractmethod
    def forward(
        self,
        images: Tensor,
        noise: Tensor | None = None,
        *,
        masked_only: bool = False,
        size: Size | None = None,
    ) -> MAEOutput:
        """Mask, encode, predict and score a batch.

        Args:
            images: (N, C, H, W), normalised, of the current input size; with `size`, of that size
                or of the full size.
            noise: (N, U). The mask units with the smallest noise stay visible. None to draw it.
            masked_only: Whether predictions of visible patches, which are never scored, may be left
                out.
            size: An input size to set before, and to which images of the full size are cropped.

        Raises:
            ValueError: The images or the size do not fit.
        """

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Return what probes compare images by: (N, C, H, W) -> (N, D).

        Args:
            images: Normalised images of the full size, none of whose patches is masked.
        """

    @property
    def blocks(self) -> list[nn.Module]:
        """Modules whose weights FSDP gathers one after another; the rest it gathers at once."""
        return []

    def timm_arguments(self) -> dict[str, Any]:
        """Return the arguments with which timm builds the encoder, as JSON holds them."""
        size = list(as_pair(self.full_size))
        own = {"img_size": size, "in_chans": self.in_chans, "num_classes": 0}
        return {**self.encoder_args, **own}

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters of two or more axes that are not to be penalised."""
        return set()

    def _follow_input_size(self) -> None:
        """Prepare whatever follows the grid, which has changed."""

    def _noise_for(self, images: Tensor, noise: Tensor | None) -> Tensor:
        """Check that images are of the current input size, and return noise (N, U) for them."""
        if images.shape[1:] != (self.in_chans, *self.input_size):
            raise ValueError(
                f"images must be (N, {self.in_chans}, {self.input_size[0]}, {self.input_size[1]}), "
                f"got {tuple(images.shape)}; see set_input_size"
            )
        if noise is None:
            noise = torch.rand(len(images), self.num_units, device=images.device)
        return noise

    def set_input_size(self, size: Size) -> None:
        """Accept images of another size from now on; parameters stay as they are.

        Args:
            size: Pixels or (height, width): whole mask units, at most the full size, with at least
                one visible patch.

        Raises:
            ValueError: The size does not fit.
        """
        if as_pair(size) != self.input_size:
            self.grid = self.check_input_size(size)
            self.input_size = as_pair(size)
            self._follow_input_size()

    # In a graph, the change of size would be a step of its own, and the next one another graph.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def at_size(self, images: Tensor, size: Size) -> Tensor:
        """Set the input size, and return images of the full size cropped to it.

        Args:
            images: (N, C, H, W), normalised, of the full size or of the input size.
            size: The input size, as for `set_input_size`.

        Returns:
            (N, C, h, w) in the precision of the weights, which FSDP may have cast.

        Raises:
            ValueError: The size does not fit, or the images are of neither size.
        """
        self.set_input_size(size)
        if images.shape[-2:] not in (as_pair(self.full_size), self.input_size):
            raise ValueError(
                f"images must be of the full size {self.full_size} or of the input size {size}, "
                f"got {tuple(images.shape)}"
            )
        return low_frequency_crop(images, self.input_size).to(self.mask_token.dtype)

    def check_input_size(self, size: Size) -> Grid:
        """Return the grid (rows, columns) of an input size.

        Args:
            size: Pixels or (height, width).

        Raises:
            ValueError: The size does not fit; see `set_input_size`.
        """
        limits, units = as_pair(self.full_size), as_pair(self.size_multiple)
        sides = list(zip(as_pair(size), limits, units, strict=True))
        if any(side % unit or not unit <= side <= limit for side, limit, unit in sides):
            below = (max(unit, side // unit * unit) for side, _, unit in sides)
            above = (min(limit, -(-side // unit) * unit) for side, limit, unit in sides)
            nearest = dict.fromkeys([as_size(*below), as_size(*above)])
            raise ValueError(
                f"input size must be a multiple of {self._multiple_in_words()} and at most the "
                f"full size {self.full_size}, got {size}; nearest: "
                f"{' or '.join(map(str, nearest))}"
            )
        height, width = as_pair(size)
        grid = (height // self.patch_size[0], width // self.patch_size[1])
        if grid[0] * grid[1] < 2 * self.mask_block**2:
            raise ValueError(f"input size must be at least 2 {self._units_in_words()}, got {size}")
        self.num_visible_of(grid)
        return grid

    @property
    def mask_unit(self) -> Size:
        """The pixels, or (height, width), of a mask unit."""
        return as_size(*(self.mask_block * side for side in self.patch_size))

    @property
    def size_multiple(self) -> Size:
        """The pixels, or (height, width), of which input sizes are multiples."""
        return self.mask_unit

    def _multiple_in_words(self) -> str:
        """Return `size_multiple` and where it comes from, for messages."""
        patch, block = as_size(*self.patch_size), self.mask_block
        if block == 1:
            return f"the patch size {patch}"
        return f"{self.mask_unit} (model.mask_block {block} of {patch} pixels)"

    def _units_in_words(self) -> str:
        """Return what is masked as a whole, for messages."""
        return "patches" if self.mask_block == 1 else f"mask units of {self.mask_unit} pixels"

    @property
    def num_units(self) -> int:
        """U, the number of mask units at the current input size."""
        return self.num_patches // self.mask_block**2

    @property
    def num_patches(self) -> int:
        """L at the current input size."""
        return self.grid[0] * self.grid[1]

    @property
    def num_visible(self) -> int:
        """The number of visible patches at the current input size."""
        return self.num_visible_of(self.grid)

    def num_visible_of(self, grid: Grid) -> int:
        """Return the number of visible patches of a grid (rows, columns).

        Raises:
            ValueError: There would be none.
        """
        return num_visible_patches(grid[0] * grid[1], self.mask_ratio, self.mask_block)

    def patchify(self, images: Tensor) -> Tensor:
        """Cut images into patches: (N, F, h, w) -> (N, L, P).

        Args:
            images: Images of the current input size, or maps of features of as many patches.

        Returns:
            The patches in the order of the grid, their values in the order (row, column, feature).
        """
        rows, columns = self.grid
        return rearrange(images, "n c (r h) (s w) -> n (r s) (h w c)", r=rows, s=columns)

    def unpatchify(self, patches: Tensor, patch_size: tuple[int, int] | None = None) -> Tensor:
        """Undo `patchify` at the current input size: (N, L, P) -> (N, F, h, w).

        Args:
            patches: All patches of each image, in the order of the grid.
            patch_size: (height, width) of a patch in the map; None for that of the images.
        """
        height, width = patch_size or self.patch_size
        return rearrange(
            patches,
            "n (r s) (h w c) -> n c (r h) (s w)",
            r=self.grid[0],
            h=height,
            w=width,
        )
