"""CSWin: half of the heads attend within vertical stripes of the map, half within horizontal ones.

Source: CSWin Transformer (https://arxiv.org/abs/2107.00652), Sections 3.2 to 3.4 and Table 1.
Positions come from a depth-wise convolution of the values in each stripe.

**Sizes.** Nothing that is learned depends on the input size, so any image whose sides are multiples
of 4 pixels will do. At 224 pixels, stripes are 1, 2, 7 and 7 tokens wide, those of the last stage
the whole map. At other sizes, EfficientTrain's code keeps 1 and 2, and makes the others a
thirty-second of the image (3, 4, 5, 6 at 96, 128, 160, 192 pixels), which is half of the third
stage's grid and all of the last one's; so it is here. Where a width does not divide the grid, which
the original refuses, the last stripe is narrower: the same as padding that no token attends to.

**Checkpoints.** The tensors have the names and shapes of the original implementation, as the tests
check against a list that was written from its definition. With random weights by those names, a
transcription of the original gave the same outputs within 5e-6 (all four networks at 224 pixels,
the smallest at 160 and 96). The public checkpoints were not at hand: that they reach their accuracy
here is untested.

Shape legend: N images of C × H × W; maps (N, D, h, w); tokens (N, h · w, D).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from einops.layers.torch import Rearrange
from timm.layers import calculate_drop_path_rates
from timm.models import generate_default_cfgs
from torch import Tensor, nn

from ..pos_embed import Grid
from .cswin_blocks import CSWinBlock, Merge
from .pyramid import PyramidTransformer, check_sides
from .registry import describe, register

STEM_STRIDE = 4
"""Pixels between the tokens of the first stage."""

VARIANTS: dict[str, dict[str, Any]] = {
    "tiny": {"embed_dim": 64, "depths": (1, 2, 21, 1), "num_heads": (2, 4, 8, 16)},
    "small": {"embed_dim": 64, "depths": (2, 4, 32, 2), "num_heads": (2, 4, 8, 16)},
    "base": {"embed_dim": 96, "depths": (2, 4, 32, 2), "num_heads": (4, 8, 16, 32)},
    "large": {"embed_dim": 144, "depths": (2, 4, 32, 2), "num_heads": (6, 12, 24, 24)},
}
"""Table 1 of the paper, where they have 23, 35, 78 and 173 M parameters and take 4.3, 6.9, 15.0 and
31.5 GFLOPs. Counted here: 22.3, 34.6, 77.4 and 173.3 M, as many as in the original's code, and 4.3,
6.8, 15.0 and 33.1 GFLOPs."""


class CSWinTransformer(PyramidTransformer):
    """CSWin as timm has its networks: any image size, maps of the stages, layers for layer decay.

    Args:
        in_chans: C.
        num_classes: Classes of the output; 0 for features.
        global_pool: What is classified: the average of the tokens (avg), or all of them ("").
        embed_dim: D of the first stage; each stage doubles it.
        depths: Blocks of each stage.
        num_heads: Attention heads of each stage; even in all but the last.
        stripe_widths: Tokens of a stripe in each stage but the last, whose stripe is the map; None
            for half of the map.
        mlp_ratio: Width of the MLPs relative to D.
        qkv_bias: Whether queries, keys and values have a bias.
        drop_rate: Dropout before the head.
        proj_drop_rate: Dropout after attention and in the MLPs.
        attn_drop_rate: Dropout of the attention.
        drop_path_rate: Stochastic depth of the last block; earlier ones have less.

    Raises:
        ValueError: The lists do not have one number per stage, or heads do not divide channels.
    """

    def __init__(
        self,
        *,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        embed_dim: int = 64,
        depths: Sequence[int] = (1, 2, 21, 1),
        num_heads: Sequence[int] = (2, 4, 8, 16),
        stripe_widths: Sequence[int | None] = (1, 2, None),
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        _check_lists(depths, num_heads, stripe_widths)
        dims = [embed_dim * 2**stage for stage in range(len(depths))]
        super().__init__(
            embed_dims=dims,
            strides=[(STEM_STRIDE * 2**stage,) * 2 for stage in range(len(depths))],
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
            drop_rate=drop_rate,
        )
        self.stage1_conv_embed = nn.Sequential(
            nn.Conv2d(in_chans, embed_dim, kernel_size=7, stride=STEM_STRIDE, padding=2),
            Rearrange("n d h w -> n h w d"),
            nn.LayerNorm(embed_dim),
        )
        rates = calculate_drop_path_rates(drop_path_rate, list(depths), stagewise=True)
        create = partial(
            CSWinBlock,
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            proj_drop=proj_drop_rate,
            attn_drop=attn_drop_rate,
        )
        lists = zip(dims, num_heads, (*stripe_widths, 0), strict=True)
        for stage, (dim, heads, width) in enumerate(lists):
            if stage:
                setattr(self, f"merge{stage}", Merge(dims[stage - 1], dim))
            blocks = [create(dim, heads, width, drop_path=rate) for rate in rates[stage]]
            setattr(self, f"stage{stage + 1}", nn.ModuleList(blocks))
        self.norm = nn.LayerNorm(dims[-1])
        self.init_weights()

    def embed(self, stage: int, maps: Tensor) -> tuple[Tensor, Grid]:
        """Turn the maps before a stage into its tokens and their grid.

        Raises:
            ValueError: The sides of the images are no multiples of 4.
        """
        if stage == 0:
            check_sides((maps.shape[-2], maps.shape[-1]), (STEM_STRIDE, STEM_STRIDE))
        embed = getattr(self, f"merge{stage}") if stage else self.stage1_conv_embed
        tokens = embed(maps)
        return tokens.flatten(1, 2), tuple(tokens.shape[1:3])

    def blocks(self, stage: int) -> nn.ModuleList:
        """Return the blocks of a stage."""
        blocks: nn.ModuleList = getattr(self, f"stage{stage + 1}")
        return blocks

    def names_of_stage(self, stage: int) -> list[str]:
        """Return the names of the modules that belong to a stage."""
        return [f"merge{stage}" if stage else "stage1_conv_embed", f"stage{stage + 1}"]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Say which parameters make a layer; a merge belongs to the block after it.

        Args:
            coarse: Whether a layer is a stage, not a block.
        """
        stages = r"^stage(\d+)\." if coarse else r"^stage(\d+)\.(\d+)\."
        first_block = () if coarse else (0,)
        merges = [(rf"^merge{n}\.", (n + 1, *first_block)) for n in range(1, self.num_stages)]
        last = (r"^norm\.", (99999,))  # timm's number for the layer before
        return {"stem": r"^stage1_conv_embed\.", "blocks": [(stages, None), *merges, last]}


def _check_lists(
    depths: Sequence[int], num_heads: Sequence[int], stripe_widths: Sequence[int | None]
) -> None:
    """Check what each stage is made of.

    Raises:
        ValueError: A number is missing, or is none that a stripe can have.
    """
    if not len(depths) == len(num_heads) == len(stripe_widths) + 1:
        raise ValueError(
            "depths and num_heads of CSWinTransformer must have one number per stage, and "
            f"stripe_widths one less, got {depths}, {num_heads} and {stripe_widths}"
        )
    if any(width is not None and width < 1 for width in stripe_widths):
        raise ValueError(
            "stripe_widths of CSWinTransformer must be numbers above 0, or null for half of the "
            f"map, got {stripe_widths}"
        )


FIRST = "stage1_conv_embed.0"
default_cfgs = generate_default_cfgs(
    {
        **{f"cswin_{size}_224": describe(FIRST) for size in VARIANTS},
        **{f"cswin_{size}_384": describe(FIRST, image_size=384) for size in ("base", "large")},
    }
)
for name in default_cfgs:
    register(CSWinTransformer, name, VARIANTS[name.split("_")[1]])
