"""What a pretraining run is made of: typed, frozen sections, checked when they are built.

A recipe is a YAML file of these fields; the command line overrides any of them
(`--optim.epochs 400`). Every check that needs no data is here, or in the modules of the sections
`curriculum` and `data`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ..curriculum import Size
from ..errors import check, check_positive
from .curriculum import CurriculumConfig
from .data import DataConfig, check_channels
from .training import EvalConfig, OptimConfig, ProbeConfig, RunConfig


@dataclass(frozen=True, kw_only=True)
class HogConfig:
    """Histograms of oriented gradients; see `mae_et.model.targets.hog`.

    Args:
        bins: orientations in 180 degrees.
        cell: pixels; divides the patch size.
        gradient: sobel (as in MaskFeat) or central differences (as in the first paper on HOG).
    """

    bins: int = 9
    cell: int = 8
    gradient: Literal["sobel", "central"] = "sobel"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The encoder by its timm name, and the decoder.

    Args:
        encoder: name of a timm VisionTransformer with absolute positions.
        encoder_args: further arguments of the timm model (embed_dim, depth, num_heads, …).
        image_size: full size in pixels, one number or [height, width].
        patch_size: pixels; null for the encoder's own.
        in_chans: image channels; 1 (grey), 3 (RGB) or 4 (RGBA) for pictures, any number for arrays
            and TIFF files.
        decoder_dim: width of the decoder.
        decoder_depth: blocks of the decoder.
        decoder_num_heads: attention heads of the decoder.
        decoder: what masked patches attend to in the decoder, all patches (self, as in MAE) or the
            visible ones alone (cross, as in CrossMAE).
        decode_ratio: share of the masked patches, in (0, 1], that a training step decodes and
            scores, drawn at random; evaluations decode all. CrossMAE counts it of all patches: its
            prediction ratio is decode_ratio times mask_ratio.
        mask_ratio: share of masked patches, in (0, 1).
        target: what is predicted, pixels, pixels normalised per patch, or histograms of oriented
            gradients (hog).
        hog: options of the target hog.
        positions: fixed sin-cos tables (as in MAE) or learned ones.
    """

    encoder: str = "vit_base_patch16_224"
    encoder_args: dict[str, Any] = field(default_factory=dict)
    image_size: Size = 224
    patch_size: Size | None = None
    in_chans: int = 3
    decoder_dim: int = 512
    decoder_depth: int = 8
    decoder_num_heads: int = 16
    decoder: Literal["self", "cross"] = "self"
    decode_ratio: float = 1.0
    mask_ratio: float = 0.75
    target: Literal["norm_pixel", "pixel", "hog"] = "norm_pixel"
    hog: HogConfig = field(default_factory=HogConfig)
    positions: Literal["sincos", "learned"] = "sincos"

    def __post_init__(self) -> None:
        check_positive(self, "model", "in_chans", "decoder_dim", "decoder_num_heads")
        check(self.decoder_depth >= 0, "model.decoder_depth", self.decoder_depth, "at least 0")
        check(0 < self.mask_ratio < 1, "model.mask_ratio", self.mask_ratio, "in (0, 1)")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """A whole pretraining run."""

    checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "weights to start from, null for new ones: a .pth file of the reference "
            "implementation, a run, its encoder, or a folder of transformers' ViTMAE"
        },
    )
    model: ModelConfig
    curriculum: CurriculumConfig
    data: DataConfig
    optim: OptimConfig
    eval: EvalConfig
    probe: ProbeConfig
    run: RunConfig

    def __post_init__(self) -> None:
        check_channels(self.model.in_chans, self.data.mean, self.data.std)
        jitter = self.data.color_jitter
        allowed = f"null for model.in_chans {self.model.in_chans}"
        check(jitter is None or self.model.in_chans in (1, 3), "data.color_jitter", jitter, allowed)
        for name in ("first_crop_scale", "first_color_jitter"):
            value, has_stages = getattr(self.data, name), self.curriculum.num_stages > 1
            check(value is None or has_stages, f"data.{name}", value, "null without stages to vary")
