"""Images that are not pictures of 8 bits: any number of channels, of any numeric type.

They come as arrays (`datasets.Array3D`, nested lists, .npy files) or as files with deeper pixels
(see `deep`). All images have one unit, which `units` defines; a sample holds it times 255. So 8-bit
images stay uint8, and chunks of several types can be joined.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .boxes import Box
from .encoded import UnreadableImageError, reading
from .units import white_of

NPY_MAGIC = b"\x93NUMPY"
"""The first bytes of a .npy file."""


class ArrayImage:
    """An array as an image with as many channels as the model has.

    Args:
        array: (C, H, W), (H, W, C), or (H, W) for one channel. If either end could be the
            channels, the first one is.
        in_chans: C.
        name: Name of the image for messages.
        white: The number that is white; None for that of the type.

    Raises:
        UnreadableImageError: The array has another number of channels, no pixels, or values that
            are not finite numbers.
    """

    def __init__(self, array: Any, in_chans: int, name: str, white: float | None = None) -> None:
        pixels = array[None] if array.ndim == 2 else array
        if pixels.ndim == 3 and pixels.shape[0] != in_chans == pixels.shape[2]:
            pixels = pixels.transpose(2, 0, 1)
        if pixels.ndim != 3 or pixels.shape[0] != in_chans:
            shape = " × ".join(map(str, array.shape))
            raise UnreadableImageError(name, f"{in_chans} channels are asked for, it is {shape}")
        if not pixels.size:
            raise UnreadableImageError(name, "no pixels")
        if pixels.dtype.kind not in "buif":
            raise UnreadableImageError(name, f"pixels of type {pixels.dtype}")
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise UnreadableImageError(name, "values that are not finite")
        self.pixels, self.name = pixels, name
        self.white = white_of(pixels.dtype) if white is None else white

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.pixels.shape[1:]
        return height, width

    def check_bounded(self, field: str) -> None:
        """Check that the pixels have a largest value, white.

        Args:
            field: The configuration field that needs one, for messages.

        Raises:
            UnreadableImageError: They are signed or floating point and have none.
        """
        if self.white is None:
            raise UnreadableImageError(
                self.name, f"{field} must be null for {self.pixels.dtype}, which has no white"
            )

    def decode(self) -> Tensor:
        """Return the whole image, (C, H, W) uint8 or float32."""
        return self._in_units(self.pixels)

    def crop(self, box: Box, size: tuple[int, int]) -> Tensor:
        """Cut out a box and resize it (bicubic, antialiased).

        Args:
            box: The rectangle of pixels to cut out.
            size: (h, w) in pixels.

        Returns:
            (C, h, w), uint8 or float32.
        """
        top, left, height, width = box
        pixels = self._in_units(self.pixels[:, top : top + height, left : left + width])
        if pixels.shape[-2:] != size:
            pixels = F.interpolate(pixels[None], size, mode="bicubic", antialias=True)[0]
        return pixels

    def _in_units(self, pixels: Any) -> Tensor:
        """Some of the pixels as uint8, or as float32 in the same unit."""
        if pixels.dtype == np.uint8 and self.white == 255:
            return torch.from_numpy(pixels.copy())
        scale = 255 / (1 if self.white is None else self.white)
        return torch.from_numpy(pixels.astype(np.float32)).mul_(scale)


def read_npy(encoded: bytes, name: str) -> Any:
    """Read the array of a .npy file.

    Args:
        encoded: The bytes of the file.
        name: Name of the image for messages.

    Raises:
        UnreadableImageError: The file is damaged or holds Python objects.
    """
    with reading(name):
        return np.load(io.BytesIO(encoded), allow_pickle=False)
