"""Encoded images: the header gives the size, and pixels are decoded only as needed.

A random crop is drawn from the size alone. Of a JPEG, libjpeg then decodes 1/2, 1/4 or 1/8 of the
resolution directly (by its DCT scaling) where that still has as many pixels as the crop needs.
simplejpeg, if it is installed, does so in about two thirds of Pillow's time; both call
libjpeg-turbo and give the same pixels.

Compared with decoding the whole image at full resolution (photos of about 500 × 375, boxes of 20 to
100 %, mean absolute difference in grey levels of 255): nothing changes at 224, where no such box
allows a lower resolution; at 96, where nearly all are decoded at 1/2, the difference is 1.2 for the
same box, and 4.4 in all, since rounding moves and scales the box by up to half a pixel.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

try:
    import simplejpeg
except ImportError:
    simplejpeg = None


JPEG_FACTORS = (8, 4, 2)
"""Factors by which libjpeg may shrink an image, largest first.

Its other scales (7/8, 3/4, …) have no SIMD code and take longer than full size.
"""

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Channels -> the Pillow mode that every picture is converted to."""

COLOR_SPACES = {"L": "GRAY", "RGB": "RGB", "RGBA": "RGBA"}
"""Pillow's modes -> libjpeg-turbo's names."""


class UnreadableImageError(ValueError):
    """An image that can't be decoded: its name, and the reason in one line.

    Args:
        name: The image's file or row.
        reason: Why it can't be decoded; line breaks are replaced.
    """

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, " ".join(reason.split())
        super().__init__(name, reason)

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


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


class EncodedImage:
    """An image of which only the header has been read.

    Args:
        encoded: The bytes of the file.
        mode: The Pillow mode to convert to: L, RGB or RGBA.
        name: Name of the image for messages.

    Raises:
        UnreadableImageError: The bytes are not an image, or are one of more than twice Pillow's
            limit of 89 million pixels (a decompression bomb; below that, Pillow only warns).
    """

    def __init__(self, encoded: bytes, mode: str, name: str) -> None:
        self.encoded, self.mode, self.name = encoded, mode, name
        with reading(self.name):
            header = Image.open(io.BytesIO(encoded))
            exif = header.getexif().get(int(ExifTags.Base.Orientation), 1)
        # Kept for the first decoding: in a PNG, looking for EXIF has decoded all of it.
        self._opened: Image.Image | None = header
        self._stored_mode, self._is_jpeg = header.mode, header.format in ("JPEG", "MPO")
        self._stored_width, self._stored_height = header.size
        self._orientation = ORIENTATIONS.get(exif, UPRIGHT)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels, upright."""
        height, width = self._stored_height, self._stored_width
        return (width, height) if self._orientation.transpose else (height, width)

    def decode(self) -> Image.Image:
        """Decode the whole image, upright and converted.

        Raises:
            UnreadableImageError: The image can't be decoded.
        """
        with reading(self.name):
            return _convert(ImageOps.exif_transpose(self._open()), self.mode)

    def crop(self, box: Box, size: tuple[int, int]) -> Tensor:
        """Decode a box of the upright image and resize it (bicubic, antialiased).

        Where a JPEG is decoded at 1/2, 1/4 or 1/8, the box is rounded to whole pixels of that
        scale: by at most half a pixel, and to at least as many pixels as `size` has.

        Args:
            box: The rectangle of pixels to cut out.
            size: (h, w) in pixels.

        Returns:
            (C, h, w) uint8.

        Raises:
            UnreadableImageError: The image can't be decoded.
        """
        stored = self._orientation.stored(box, self._stored_height, self._stored_width)
        target = size[::-1] if self._orientation.transpose else size
        with reading(self.name):
            region = self._decode_region(stored, self._factor(stored, target))
        pixels = torch.from_numpy(region).permute(2, 0, 1)  # (C, h, w)
        if pixels.shape[-2:] != target:
            pixels = F.interpolate(pixels[None], target, mode="bicubic", antialias=True)[0]
        return self._orientation.upright(pixels)

    def _factor(self, box: Box, size: tuple[int, int]) -> int:
        """The largest factor by which decoding may shrink the box without going below `size`."""
        fitting = (
            f for f in JPEG_FACTORS if box.height >= f * size[0] and box.width >= f * size[1]
        )
        return next(fitting, 1) if self._is_jpeg else 1

    def _decode_region(self, box: Box, factor: int) -> Any:
        """A box of the stored image at 1/factor of its resolution, (h, w, C) uint8."""
        height, width = -(-self._stored_height // factor), -(-self._stored_width // factor)
        rows = _scaled(box.top, box.height, factor, height)
        columns = _scaled(box.left, box.width, factor, width)
        if simplejpeg is not None and self._is_jpeg and self._stored_mode in ("L", "RGB"):
            try:
                pixels = simplejpeg.decode_jpeg(
                    self.encoded, COLOR_SPACES[self.mode], min_height=height, min_width=width
                )
            except ValueError:
                pass  # simplejpeg is stricter than Pillow, which decides what is readable
            else:
                return pixels[rows, columns]
        image = self._open()
        if self._is_jpeg:
            grey = "L" if self.mode == "L" else None
            image.draft(grey, (self._stored_width // factor, self._stored_height // factor))
        part = image.crop((columns.start, rows.start, columns.stop, rows.stop))
        pixels = np.array(_convert(part, self.mode))
        return pixels if pixels.ndim == 3 else pixels[..., None]

    def _open(self) -> Image.Image:
        opened, self._opened = self._opened, None
        return opened or Image.open(io.BytesIO(self.encoded))


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Report any error in reading an image as one of that image.

    Args:
        name: Name of the image for messages.

    Raises:
        UnreadableImageError: The image can't be read.
    """
    try:
        yield
    except UnreadableImageError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        reason = "no image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise UnreadableImageError(name, reason or type(error).__name__) from error


def _scaled(start: int, length: int, factor: int, limit: int) -> slice:
    """The whole pixels nearest to a range, at 1/factor of the resolution, below a limit."""
    scaled_length = round(length / factor)
    scaled_start = min(round(start / factor), limit - scaled_length)
    return slice(scaled_start, scaled_start + scaled_length)


def _convert(image: Image.Image, mode: str) -> Image.Image:
    """Convert an image of any mode to L, RGB or RGBA."""
    if image.mode.startswith("I;16"):  # Pillow would clip 16 bits instead of scaling them
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert(mode)
