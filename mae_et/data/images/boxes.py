"""Boxes of pixels, and how they and their pixels turn with the orientation of an image."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

METHODS = (
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.TRANSPOSE,
)
"""Pillow's ways to do what the fields of an `Orientation` ask for."""


class Box(NamedTuple):
    """A rectangle of pixels: its upper left corner and its size."""

    top: int
    left: int
    height: int
    width: int


class Orientation(NamedTuple):
    """How stored pixels become upright: by flips of rows and columns, then a transposition."""

    flip_rows: bool
    """Whether the order of the rows is reversed."""
    flip_columns: bool
    """Whether the order of the columns is reversed."""
    transpose: bool
    """Whether rows and columns are exchanged."""

    def stored(self, box: Box, height: int, width: int) -> Box:
        """Return where a box of the upright image lies in the stored image.

        Args:
            box: A box of the upright image.
            height: Height of the stored image in pixels.
            width: Width of the stored image in pixels.
        """
        top, left, rows, columns = box
        if self.transpose:
            top, left, rows, columns = left, top, columns, rows
        if self.flip_rows:
            top = height - top - rows
        if self.flip_columns:
            left = width - left - columns
        return Box(top, left, rows, columns)

    def upright(self, pixels: Tensor) -> Tensor:
        """Turn stored pixels (C, h, w) upright."""
        flipped = [axis for axis, flip in ((-2, self.flip_rows), (-1, self.flip_columns)) if flip]
        pixels = pixels.flip(flipped) if flipped else pixels
        return pixels.mT if self.transpose else pixels

    def upright_picture(self, image: Image.Image) -> Image.Image:
        """Turn a stored picture upright, whatever else its EXIF holds."""
        for method, is_needed in zip(METHODS, self, strict=True):
            image = image.transpose(method) if is_needed else image
        return image

    def upright_array(self, pixels: Any) -> Any:
        """Turn a stored array (C, h, w) of any type upright."""
        axes = ((-2,) if self.flip_rows else ()) + ((-1,) if self.flip_columns else ())
        flipped = np.flip(pixels, axes)
        return np.ascontiguousarray(flipped.swapaxes(-2, -1) if self.transpose else flipped)


ORIENTATIONS = {
    2: Orientation(False, True, False),
    3: Orientation(True, True, False),
    4: Orientation(True, False, False),
    5: Orientation(False, False, True),
    6: Orientation(True, False, True),
    7: Orientation(True, True, True),
    8: Orientation(False, True, True),
}
"""Value of the EXIF tag -> orientation; images with any other value are upright."""

UPRIGHT = Orientation(False, False, False)
"""The orientation of images that are stored upright."""
