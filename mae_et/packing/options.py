"""What packing is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import local_path
from ..errors import check

FORMATS = {"parquet": ".parquet", "webdataset": ".tar"}
"""Formats of shards -> the endings of their names."""

STATE, BAD_IMAGES = "pack.json", "bad_images.txt"
"""Files beside the shards: what has been packed, and the images that could not be decoded."""

HIDDEN, FINAL = ".data", "data"
"""The folder of the shards, before and after all are there."""


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """The options that decide what is written; they check themselves."""

    layout: str
    """As `data.layout`."""
    image_column: str | None
    """As `data.image_column`."""
    short_side: int
    """The most pixels of an image's shorter side."""
    quality: int
    """Quality of JPEG, 1 to 100."""
    format: str
    """A key of `FORMATS`."""
    shard_mb: float
    """MiB of images after which a shard ends."""
    max_pixels: int
    """As `data.max_pixels`."""

    def __post_init__(self) -> None:
        check(self.format in FORMATS, "--format", self.format, " or ".join(FORMATS))
        check(self.short_side > 0, "--short_side", self.short_side, "above 0")
        check(1 <= self.quality <= 100, "--quality", self.quality, "from 1 to 100")
        check(self.shard_mb > 0, "--shard_mb", self.shard_mb, "above 0")
        check(self.max_pixels > 0, "--data.max_pixels", self.max_pixels, "above 0")

    def check_begun(self, begun: dict[str, Any], out: Path) -> None:
        """Check that these are the options with which a folder was begun.

        Args:
            begun: Those options by name.
            out: The folder, for messages.

        Raises:
            ValueError: One of them differs.
        """
        for name, value in vars(self).items():
            is_of_data = name in ("layout", "image_column", "max_pixels")
            option = f"--data.{name}" if is_of_data else f"--{name}"
            allowed = f"{begun.get(name)!r}, with which {out} was begun (or --out another folder)"
            check(begun.get(name) == value, option, value, allowed)


def check_out(out: Path, path: str) -> None:
    """Check that a folder can be packed into: that it is new, empty, or was begun by packing.

    Args:
        out: The folder.
        path: The data set, as in `data.path`.

    Raises:
        ValueError: It holds something else, or the source, or is in the source.
    """
    source = local_path(path)
    if source is not None:
        real, target = source.resolve(), out.resolve()
        inside = real.is_dir() and target.is_relative_to(real)
        apart = not inside and not (real.is_relative_to(target) and real != target)
        allowed = f"neither the folder of the images, nor inside it or above it ({source})"
        check(apart, "--out", str(out), allowed)
    ours = {STATE, BAD_IMAGES, HIDDEN, FINAL, ".lock"}
    is_free = not out.exists() or (
        out.is_dir()
        and ((out / STATE).is_file() or {file.name for file in out.iterdir()} <= {".lock"})
        and {file.name for file in out.iterdir() if not file.name.endswith(".tmp")} <= ours
    )
    check(is_free, "--out", str(out), "a folder that is new, empty, or was begun by pack")
