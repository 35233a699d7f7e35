"""What `embed` computes: features of which encoder, of which images, and where they go."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..curriculum import Size, as_pair
from ..errors import check
from .data import ImagesConfig, Layout
from .training import Resume

KINDS = (".parquet", ".npy", ".csv")
"""Endings of the files that `embed` writes."""

Pool = Literal["avg", "token", "map"]
"""How the outputs of an encoder become one vector."""


@dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """The features of all images of a data set; None stands for what the checkpoint tells.

    Args:
        checkpoint: A run, an encoder, a classifier, or weights, as for fine-tuning.
        path: The images, as data.path.
        out: A .parquet, .npy or .csv file.
        pool: The average of the patches (avg), the class token (token), or the encoder's attention
            pooling (map); None for a classifier's own way, for attention where there is some, and
            otherwise for avg.
        layout: As data.layout.
        split: The split to embed; None for all, one after the other.
        image_column: As data.image_column.
        label_column: The column of labels; None to find it if there is one.
        encoder: Name of the timm model.
        encoder_args: Further arguments of the timm model, beside those that the checkpoint tells.
        image_size: Pixels or (height, width); positions are resampled to it.
        patch_size: Pixels or (height, width).
        in_chans: Image channels.
        mean: As data.mean.
        std: As data.std.
        eval_crop: Share of the resized image's side that is embedded, in (0, 1].
        max_pixels: As data.max_pixels.
        num_workers: Loader processes per process; 0 loads in the process itself.
        batch_size: Images that a process embeds at a time.
        mixed_precision: Precision of the encoder; None for accelerate's setting.
        resume: "auto" to accept a finished file of the same features; True to insist on something
            to go on with. Parts of the same features are always gone on with.
        overwrite: Whether to replace a file, and parts of other features.
    """

    checkpoint: str
    path: str
    out: str
    pool: Pool | None = None
    layout: Layout = "auto"
    split: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    encoder: str | None = None
    encoder_args: dict[str, Any] = field(default_factory=dict)
    image_size: Size | None = None
    patch_size: Size | None = None
    in_chans: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    eval_crop: float | None = None
    max_pixels: int = ImagesConfig.max_pixels
    num_workers: int = 2
    batch_size: int = 64
    mixed_precision: Literal["no", "fp16", "bf16"] | None = None
    resume: Resume = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        pools = ("avg", "token", "map")
        check(self.pool is None or self.pool in pools, "--pool", self.pool, ", ".join(pools))
        name = self.encoder
        allowed = "the name of a timm model: constructors of your own have no features to ask for"
        check(name is None or ":" not in name, "model.encoder", name, allowed)
        for option in ("image_size", "patch_size", "in_chans"):
            value = getattr(self, option)
            ok = value is None or min(as_pair(value)) > 0
            check(ok, f"model.{option}", value, "above 0")
        ok = all(map(math.isfinite, self.mean or ()))
        check(ok, "data.mean", self.mean, "finite")
        ok = all(0 < value < math.inf for value in self.std or ())
        check(ok, "data.std", self.std, "above 0 and finite")
        crop = self.eval_crop
        check(crop is None or 0 < crop <= 1, "data.eval_crop", crop, "in (0, 1]")
        check(self.max_pixels > 0, "data.max_pixels", self.max_pixels, "above 0")
        check(self.num_workers >= 0, "data.num_workers", self.num_workers, "at least 0")
        check(self.batch_size > 0, "--batch_size", self.batch_size, "above 0")
        ok = not (self.overwrite and self.resume)
        check(ok, "--overwrite", self.overwrite, "left out with --resume")
        self._check_out()

    def _check_out(self) -> None:
        """Check that something can be written to `out`; whether it exists is checked later."""
        out = Path(self.out)
        above = next(folder for folder in out.absolute().parents if folder.exists())
        ok = out.suffix.lower() in KINDS and not out.is_dir() and above.is_dir()
        check(ok, "--out", self.out, f"a file with one of {', '.join(KINDS)}")
