"""The input size of a masked autoencoder, and what follows it: the positions.

The position tables of the full grid are the only source of positions; other sizes resample them.
Fixed tables are resampled once per change of size and kept in buffers outside the state dict.
Learned tables are resampled in every forward pass, so that gradients reach the full grid.

Shape legend: N images, L patches, T prefix tokens (class, registers), D encoder width, E decoder
width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from ..curriculum import Size
from .masked import MaskedModel
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


class ResizableMAE(MaskedModel):
    """A base class: a masked model with position tables for each patch.

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
        super().__init__(
            full_size=full_size,
            patch_size=patch_size,
            mask_ratio=mask_ratio,
            mask_block=mask_block,
        )
        self.learned_positions = learned_positions
        self.register_buffer("encoder_positions", torch.empty(0), persistent=False)
        self.register_buffer("decoder_positions", torch.empty(0), persistent=False)
        self.register_load_state_dict_post_hook(  # type: ignore[no-untyped-call]
            _update_positions_after_loading
        )

    def position_tables(self) -> tuple[PositionTable, PositionTable]:
        """The position tables of encoder and decoder at the full grid."""
        raise NotImplementedError

    def _follow_input_size(self) -> None:
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


def whole_table(table: Tensor) -> Tensor:
    """Return all of a table, of which FSDP may have left this process a part.

    See `mae_et.training.fsdp`.
    """
    return table.full_tensor() if isinstance(table, DTensor) else table


def _update_positions_after_loading(model: ResizableMAE, _: object) -> None:
    """A hook. A bound method in its place would update the original when a copy is loaded."""
    model._follow_input_size()
