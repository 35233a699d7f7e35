"""What packing has done, in numbers and in lines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .options import BAD_IMAGES
from .speed import LoaderSpeed


@dataclass(frozen=True, kw_only=True)
class PackSummary:
    """The result of `pack`."""

    out: Path
    format: str
    images: dict[str, int]
    """The packed images of each split."""
    num_shards: int
    resized: int
    """Images that were made smaller or upright."""
    copied: int
    """Images that were small, byte for byte."""
    unchanged: int
    """Images that are no pictures of 8 bits, byte for byte."""
    bad_images: int
    """Unreadable images, which are left out."""
    bytes_before: int
    """Of the images that are packed, as they were."""
    bytes_after: int
    """Of the shards."""
    label_option: str
    """What fine-tuning must be told to find the labels."""
    speed: LoaderSpeed | None = None
    """What training's loader reads; None if it was not measured."""

    @property
    def path(self) -> str:
        """What to give as `data.path`."""
        return f"{self.format}:{self.out}"

    def lines(self) -> list[str]:
        """Describe the result, with the options to type next."""
        numbers = ", ".join(f"{split} {number:,}" for split, number in self.images.items())
        shards = f"{self.num_shards:,} shard{'s' * (self.num_shards != 1)}"
        lines = [
            f"{self.out}: {numbers} images in {shards}; {self.resized:,} made smaller or upright, "
            f"{self.copied:,} copied as they are"
        ]
        if self.unchanged:
            lines.append(
                f"{self.unchanged:,} images of more than 8 bits or of other channels were copied "
                "as they are, at their size"
            )
        if self.bad_images:
            lines.append(
                f"{self.bad_images:,} unreadable images are left out; {self.out / BAD_IMAGES} "
                "lists them"
            )
        before, after = self.bytes_before / 2**20, self.bytes_after / 2**20
        lines.append(f"size: {before:,.1f} MiB before, {after:,.1f} MiB after")
        if self.speed is not None:
            lines.append(str(self.speed))
        lines.append(f"next: --data.path {self.path}{self.label_option}")
        return lines
