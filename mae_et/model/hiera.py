"""The masked autoencoder over Hiera, of which whole mask units are left out.

Source: Ryali et al., "Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles",
ICML 2023 (https://arxiv.org/abs/2306.00989), and its released code. What differs from MAE is the
encoder alone: it runs on the visible units (`hiera_units`), the maps of its stages are fused for
the decoder, and a mask unit is what one of its windows holds. The norm before the decoder is that
of timm's head.

Shape legend: N images, L patches, K of them visible, D encoder width.
"""

from __future__ import annotations

from typing import Any

from einops import rearrange
from timm.models.hiera import Hiera
from torch import Tensor

from ..curriculum import Size, as_pair, as_size
from ..errors import check
from .encoder import BuiltEncoder, create_timm
from .hiera_units import UnitEncoder, fuse, fusion_heads, split_positions, unit_layout
from .mae import MaskedAutoencoder
from .mae_input_size import PositionTable
from .masking import PatchMask


def build_hiera(
    name: str,
    encoder_args: dict[str, Any],
    *,
    image_size: Size,
    patch_size: Size | None,
    in_chans: int,
    mask_block: int,
) -> BuiltEncoder:
    """Build a Hiera, whose patches and mask units follow from its own arguments.

    Args:
        name: Name of the timm model.
        encoder_args: Its further arguments, given by the user.
        image_size: Pixels or (height, width), whole mask units.
        patch_size: None.
        in_chans: Image channels.
        mask_block: 1.

    Raises:
        ValueError: The model is no Hiera for images, or the arguments do not fit it.
    """
    allowed = "null with model.method hiera (model.encoder_args.patch_stride)"
    check(patch_size is None, "model.patch_size", patch_size, allowed)
    allowed = "1 with model.method hiera, whose mask units are its windows"
    check(mask_block == 1, "model.mask_block", mask_block, allowed)
    taken = {"class_token", "reg_tokens"} & encoder_args.keys()
    allowed = "null with model.method hiera, which has no class tokens"
    check(not taken, "model.num_class_tokens", encoder_args.get("reg_tokens", 0) + 1, allowed)
    arguments = {"img_size": as_pair(image_size), "in_chans": in_chans, "num_classes": 0}
    hiera = create_timm(name, "timm Hiera", ["hiera_*"], encoder_args, arguments)
    kinds = "a Hiera of timm with model.method hiera (hiera_tiny_224, hiera_base_224, …)"
    check(type(hiera) is Hiera, "model.encoder", name, kinds)
    layout = unit_layout(hiera, name)
    unit = [side * layout.mask_block for side in layout.patch_size]
    ok = all(side % of_unit == 0 for side, of_unit in zip(as_pair(image_size), unit, strict=True))
    check(ok, "model.image_size", image_size, f"a multiple of the mask unit, {unit} pixels")
    return BuiltEncoder(
        module=hiera,
        arguments=encoder_args,
        dim=hiera.num_features,
        num_prefix_tokens=0,
        full_size=as_size(*as_pair(image_size)),
        patch_size=layout.patch_size,
        mask_block=layout.mask_block,
    )


class HieraAutoencoder(MaskedAutoencoder):
    """A masked autoencoder over any Hiera of timm; its arguments are those of its base class.

    `patch_size`, `mask_block` and `num_class_tokens` have no meaning for it. Its patches are what a
    token covers before the last pooling (16 pixels), its mask units the windows (32 pixels).
    """

    method = "hiera"
    build_encoder = staticmethod(build_hiera)

    def __init__(self, encoder: str = "hiera_base_224", **arguments: Any) -> None:
        super().__init__(encoder, **arguments)
        is_split = self.encoder.pos_embed_win is not None
        allowed = "learned for an encoder whose positions are split (abs_win_pos_embed)"
        check(self.learned_positions or not is_split, "model.positions", "sincos", allowed)
        layout = unit_layout(self.encoder, encoder)
        self.units = UnitEncoder(self.encoder, layout)
        self.decoder_fusion = fusion_heads(self.encoder, layout)

    def position_tables(self) -> tuple[PositionTable, PositionTable]:
        """The position tables of encoder and decoder at the full grid."""
        per_patch = self.patch_size[0] // self.encoder.patch_stride[0]
        encoder = PositionTable(self.encoder.pos_embed, 0, per_patch)
        return encoder, PositionTable(self.decoder_pos_embed, 0)

    def _resampled_tables(self) -> tuple[Tensor, Tensor]:
        encoder, decoder = self.position_tables()
        if self.encoder.pos_embed_win is None:
            return super()._resampled_tables()
        of_tokens = split_positions(self.encoder, encoder.grid(self.grid))
        return of_tokens, decoder.resampled(self.full_grid, self.grid)

    def features(self, images: Tensor) -> Tensor:
        """Return the encoder's own pooled features; see `MaskedAutoencoder.features`."""
        pooled: Tensor = self.encoder(images)
        return pooled.float()

    def _encode(
        self, images: Tensor, patches: Tensor, patch_mask: PatchMask, positions: Tensor
    ) -> Tensor:
        """The tokens (N, K, D) of the visible patches of images."""
        rows, columns = (side // self.mask_block for side in self.grid)
        first = patch_mask.visible[:, :: self.mask_block**2]  # a unit's upper left patch
        of_rows, of_columns = first // self.grid[1], first % self.grid[1]
        units = of_rows // self.mask_block * columns + of_columns // self.mask_block
        maps = self.units(self.encoder, images, units, positions, (rows, columns))
        latent: Tensor = self.encoder.head.norm(fuse(self.decoder_fusion, maps))
        return rearrange(latent, "n k h w d -> n (k h w) d")
