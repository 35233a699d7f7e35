"""The input size of a masked autoencoder, and what follows it: the patch grid and the positions.

The position tables of the full grid are the only source of positions; other sizes resample them.
Fixed tables are resampled once per change of size and kept in buffers outside the state dict.
Learned tables are resampled in every forward pass, so that gradients reach the full grid.

Shape legend: N images, L patches, T prefix tokens (class, registers), D encoder width, E decoder
width, F features of a map of h × w, P values of a patch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ..curriculum import Size, as_pair, as_size
from ..errors import check
from ..lowfreq import low_frequency_crop
from .masking import num_visible_patches
from .pos_embed import Grid, resample_table, sincos_table


class PositionTable(NamedTuple):
    """A table of positions: prefix rows, and a row for each cell of the full grid."""

    values: Tensor
    """(1, prefix + cells, D)."""
    num_prefix: int
    """Rows of prefix tokens, before those of the cells."""
    per_patch: int = 1
    """Cells on a side of a patch."""

    def grid(self, grid: Grid) -> Grid:
        """Return the (rows, columns) of cells of a grid of patches."""
        return grid[0] * self.per_patch, grid[1] * self.per_patch

    def init(self, full_grid: Grid) -> None:
        """Fill the table with sin-cos positions, unless it is of another kind (a map)."""
        if self.values.ndim != 3:
            return
        dim = self.values.shape[-1]
        self.values.data.copy_(sincos_table(self.grid(full_grid), dim, self.num_prefix))

    def resampled(self, full_grid: Grid, grid: Grid) -> Tensor:
        """Return the table resampled from the full grid of patches to another."""
        values = whole_table(self.values)
        return resample_table(values, self.grid(full_grid), self.grid(grid), self.num_prefix)


class ResizableMAE(nn.Module):
    """A base class: a model of image patches whose input size may change at any step.

    A subclass provides the position tables (`position_tables`) and, once they are filled, calls
    `set_input_size` with the full size.

    Args:
        full_size: Pixels or (height, width), multiples of the patch size.
        patch_size: (height, width) in pixels.
        mask_ratio: Share of masked patches, in (0, 1).
        learned_positions: Whether the position tables are trained.
        mask_block: Patches on a side of a mask unit, which is masked as a whole.

    Raises:
        ValueError: The mask units do not divide the full grid.
    """

    input_size: tuple[int, int]
    """(height, width) in pixels."""
    grid: Grid
    """(rows, columns) of patches at the current input size."""
    encoder_positions: Tensor
    """The encoder's fixed positions at the current input size: (1, T + L, D), or (1, L, D) if its
    prefix tokens have none. Empty if positions are learned."""
    decoder_positions: Tensor
    """(1, T + L, E): those of the decoder."""

    def __init__(
        self,
        *,
        full_size: Size,
        patch_size: tuple[int, int],
        mask_ratio: float,
        learned_positions: bool,
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
        self.learned_positions = learned_positions
        self.register_buffer("encoder_positions", torch.empty(0), persistent=False)
        self.register_buffer("decoder_positions", torch.empty(0), persistent=False)
        self.register_load_state_dict_post_hook(  # type: ignore[no-untyped-call]
            _update_positions_after_loading
        )
        self.input_size = (0, 0)

    def position_tables(self) -> tuple[PositionTable, PositionTable]:
        """The position tables of encoder and decoder at the full grid."""
        raise NotImplementedError

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
            self._update_positions()

    # In a graph, the change of size would be a step of its own, and the next one another graph.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def at_size(self, images: Tensor, size: Size) -> Tensor:
        """Set the input size, and return images of the full size cropped to it.

        Args:
            images: (N, C, H, W), normalised, of the full size or of the input size.
            size: The input size, as for `set_input_size`.

        Returns:
            (N, C, h, w) in float32 (float64 for float64 images).

        Raises:
            ValueError: The size does not fit, or the images are of neither size.
        """
        self.set_input_size(size)
        if images.shape[-2:] not in (as_pair(self.full_size), self.input_size):
            raise ValueError(
                f"images must be of the full size {self.full_size} or of the input size {size}, "
                f"got {tuple(images.shape)}"
            )
        return low_frequency_crop(images, self.input_size)

    def check_input_size(self, size: Size) -> Grid:
        """Return the grid (rows, columns) of an input size.

        Args:
            size: Pixels or (height, width).

        Raises:
            ValueError: The size does not fit; see `set_input_size`.
        """
        limits, units = as_pair(self.full_size), as_pair(self.mask_unit)
        sides = list(zip(as_pair(size), limits, units, strict=True))
        if any(side % unit or not unit <= side <= limit for side, limit, unit in sides):
            patch, block = as_size(*self.patch_size), self.mask_block
            wanted, near = f"the patch size {patch}", ""
            if block > 1:  # sizes that were chosen for patches alone
                wanted = f"{self.mask_unit} (model.mask_block {block} of {patch} pixels)"
                below = (max(unit, side // unit * unit) for side, _, unit in sides)
                above = (min(limit, -(-side // unit) * unit) for side, limit, unit in sides)
                nearest = dict.fromkeys([as_size(*below), as_size(*above)])
                near = f"; nearest: {' or '.join(map(str, nearest))}"
            raise ValueError(
                f"input size must be a multiple of {wanted} "
                f"and at most the full size {self.full_size}, got {size}{near}"
            )
        height, width = as_pair(size)
        grid = (height // self.patch_size[0], width // self.patch_size[1])
        if grid[0] * grid[1] < 2 * self.mask_block**2:
            unit = "patches" if self.mask_block == 1 else f"mask units of {self.mask_unit} pixels"
            raise ValueError(f"input size must be at least 2 {unit}, got {size}")
        self.num_visible_of(grid)
        return grid

    @property
    def mask_unit(self) -> Size:
        """The pixels, or (height, width), of a mask unit, of which input sizes are multiples."""
        return as_size(*(self.mask_block * side for side in self.patch_size))

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

    def _update_positions(self) -> None:
        """Resample fixed tables to the current grid."""
        if not self.learned_positions:  # learned tables change with every step
            encoder, decoder = self._resampled_tables()
            self.encoder_positions, self.decoder_positions = encoder.detach(), decoder.detach()

    def _resampled_tables(self) -> tuple[Tensor, Tensor]:
        encoder, decoder = self.position_tables()
        grids = (self.full_grid, self.grid)
        return encoder.resampled(*grids), decoder.resampled(*grids)

    def _positions(self) -> tuple[Tensor, Tensor]:
        """The positions of encoder and decoder at the current input size."""
        if self.learned_positions:
            return self._resampled_tables()
        return self.encoder_positions, self.decoder_positions

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


def check_mask_block(mask_block: int, grid: Grid, size: Size) -> None:
    """Check that a grid is of at least two whole mask units.

    Args:
        mask_block: Patches on a side of a mask unit.
        grid: (rows, columns) of patches.
        size: The image size in pixels, for the message.

    Raises:
        ValueError: It is not; the message says which blocks fit.
    """
    fitting = [
        block
        for block in range(1, min(grid) + 1)
        if not (grid[0] % block or grid[1] % block) and grid[0] * grid[1] >= 2 * block**2
    ]
    allowed = f"one of {', '.join(map(str, fitting))}, which divide the {grid[0]} x {grid[1]} "
    allowed += f"patches of model.image_size {size} into two or more"
    check(mask_block == 1 or mask_block in fitting, "model.mask_block", mask_block, allowed)


def whole_table(table: Tensor) -> Tensor:
    """Return all of a table, of which FSDP may have left this process a part.

    See `mae_et.training.fsdp`.
    """
    return table.full_tensor() if isinstance(table, DTensor) else table


def _update_positions_after_loading(model: ResizableMAE, _: object) -> None:
    """A hook. A bound method in its place would update the original when a copy is loaded."""
    model._update_positions()
