"""The configuration of a pretraining run: typed, frozen sections, checked when they are built.

A recipe is a YAML file of these fields; the command line overrides any of them
(`--optim.epochs 400`). Every check that needs no data is made here, or in the modules of the other
sections.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from ..curriculum import Size
from ..errors import check, check_positive
from ..method_fields import OF_OTHERS
from .data import DataConfig
from .training import EncoderConfig, EvalConfig, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class HogConfig:
    """Histograms of oriented gradients; see `mae_et.model.targets.hog`.

    Args:
        bins: Orientations in 180 degrees.
        cell: Side of a cell in pixels; it must divide the patch size.
        gradient: sobel (as in MaskFeat) or central differences (as in the first paper on HOG).
    """

    bins: int = 9
    cell: int = 8
    gradient: Literal["sobel", "central"] = "sobel"


@dataclass(frozen=True, kw_only=True)
class ModelConfig(EncoderConfig):
    """The encoder by its timm name, and the decoder.

    Args:
        method: What is masked, and how it is encoded: mae leaves out patches of a plain
            VisionTransformer, hiera leaves out whole windows of a Hiera; simmim masks units of the
            input of any network that gives a map of features, has no decoder but one layer, and
            refuses the fields of the others.
        encoder: Name of a timm VisionTransformer with absolute positions, or of a Hiera; with
            simmim, of any timm model, or module:callable.
        num_class_tokens: Number of class tokens, such as Pixio's 8: one of timm's class_token, and
            the others of its reg_tokens; null for those that the encoder has.
        decoder_dim: Width of the decoder.
        decoder_depth: Blocks of the decoder.
        decoder_num_heads: Attention heads of the decoder.
        decoder: What masked patches attend to in the decoder: all patches (self, as in MAE) or only
            the visible ones (cross, as in CrossMAE).
        decode_ratio: Share of the masked patches, in (0, 1], that a training step decodes and
            scores, drawn at random; evaluations decode all. CrossMAE states a share of all
            patches: its prediction ratio is decode_ratio times mask_ratio.
        mask_ratio: Share of masked patches, in (0, 1).
        mask_block: Patches on a side of a mask unit, which is masked as a whole (1 in MAE, 4 in
            Pixio); input sizes are multiples of these units.
        mask_unit: With simmim, pixels on a side of a mask unit, or [height, width]; null for the
            stride of the encoder's last map, mostly 32. Input sizes are multiples of both.
        target: What is predicted: pixels, pixels normalised per patch, or histograms of oriented
            gradients (hog).
        hog: Options of the target hog.
        positions: Fixed sin-cos tables (as in MAE) or learned ones.
    """

    method: Literal["mae", "simmim", "hiera"] = "mae"
    num_class_tokens: int | None = None
    decoder_dim: int = 512
    decoder_depth: int = 8
    decoder_num_heads: int = 16
    decoder: Literal["self", "cross"] = "self"
    decode_ratio: float = 1.0
    mask_ratio: float = 0.75
    mask_block: int = 1
    mask_unit: Size | None = None
    target: Literal["norm_pixel", "pixel", "hog"] = "norm_pixel"
    hog: HogConfig = field(default_factory=HogConfig)
    positions: Literal["sincos", "learned"] = "sincos"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "model", "decoder_dim", "decoder_num_heads", "mask_block")
        check(self.decoder_depth >= 0, "model.decoder_depth", self.decoder_depth, "at least 0")
        check(0 < self.mask_ratio < 1, "model.mask_ratio", self.mask_ratio, "in (0, 1)")
        own = {item.name: item for item in fields(self)}
        for name in OF_OTHERS.get(self.method, ()):
            value, default = getattr(self, name), own[name].default
            shown = "null" if default is None else default
            allowed = f"left out ({shown}) with model.method {self.method}, which has no use for it"
            check(value == default, f"model.{name}", value, allowed)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(TrainingConfig):
    """A whole pretraining run."""

    checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "weights to start from, null for new ones: a .pth file of the reference "
            "implementation, a run, its encoder, a folder of transformers' ViTMAE, or a name: "
            "timm:MODEL.TAG, hub:OWNER/NAME[@REVISION]"
        },
    )
    model: ModelConfig
    data: DataConfig
    eval: EvalConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        jitter, in_chans = self.data.color_jitter, self.model.in_chans
        allowed = f"null for model.in_chans {in_chans}"
        check(jitter is None or in_chans in (1, 3), "data.color_jitter", jitter, allowed)
        for name in ("first_crop_scale", "first_color_jitter"):
            value, has_stages = getattr(self.data, name), self.curriculum.num_stages > 1
            check(value is None or has_stages, f"data.{name}", value, "null without stages to vary")
