"""Images that are not pictures: any number of channels, of any numeric type.

They come as arrays (`datasets.Array3D`, nested lists, .npy files) or as TIFF files, which tifffile
reads where Pillow can't (optional: `pip install 'mae-et[tiff]'`).

All images have one unit: unsigned numbers are divided by the largest of their type (255, 65535),
all others are taken as they are, and a sample holds the result times 255. So 8-bit images stay
uint8, and chunks of several types can be joined.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    EXTRASAMPLES,
    PHOTOMETRIC_INTERPRETATION,
    SAMPLESPERPIXEL,
    ImageFileDirectory_v2,
)
from torch import Tensor
from torch.nn import functional as F

from .encoded import MODES, Box, UnreadableImageError, reading

try:
    import tifffile
except ImportError:
    tifffile = None


NPY_MAGIC = b"\x93NUMPY"
"""The first bytes of a .npy file."""


class ArrayImage:
    """An array as an image with as many channels as the model has.

    Args:
        array: (C, H, W), (H, W, C), or (H, W) for one channel. If either end could be the
            channels, the first one is.
        in_chans: C.
        name: Name of the image for messages.

    Raises:
        UnreadableImageError: The array has another number of channels, no pixels, or values that
            are not finite numbers.
    """

    def __init__(self, array: Any, in_chans: int, name: str) -> None:
        pixels = array[None] if array.ndim == 2 else array
        if pixels.ndim == 3 and pixels.shape[0] != in_chans == pixels.shape[2]:
            pixels = pixels.transpose(2, 0, 1)
        if pixels.ndim != 3 or pixels.shape[0] != in_chans:
            shape = " × ".join(map(str, array.shape))
            raise UnreadableImageError(name, f"{in_chans} channels are asked for, it is {shape}")
        if not pixels.size:
            raise UnreadableImageError(name, "no pixels")
        if pixels.dtype.kind not in "uif":
            raise UnreadableImageError(name, f"pixels of type {pixels.dtype}")
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise UnreadableImageError(name, "values that are not finite")
        self.pixels, self.name = pixels, name

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
        if self.pixels.dtype.kind != "u":
            raise UnreadableImageError(
                self.name, f"{field} must be null for {self.pixels.dtype}, which has no white"
            )

    def decode(self) -> Tensor:
        """Return the whole image, (C, H, W) uint8 or float32."""
        return _in_units(self.pixels)

    def crop(self, box: Box, size: tuple[int, int]) -> Tensor:
        """Cut out a box and resize it (bicubic, antialiased).

        Args:
            box: The rectangle of pixels to cut out.
            size: (h, w) in pixels.

        Returns:
            (C, h, w), uint8 or float32.
        """
        top, left, height, width = box
        pixels = _in_units(self.pixels[:, top : top + height, left : left + width])
        if pixels.shape[-2:] != size:
            pixels = F.interpolate(pixels[None], size, mode="bicubic", antialias=True)[0]
        return pixels


def _in_units(pixels: Any) -> Tensor:
    """An array of any type as uint8, or as float32 in the same unit."""
    if pixels.dtype == np.uint8:
        return torch.from_numpy(pixels.copy())
    largest = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    return torch.from_numpy(pixels.astype(np.float32)).mul_(255 / largest)


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


def read_deep(encoded: bytes, in_chans: int, name: str) -> Any | None:
    """Read a file of which Pillow would lose something as an array; None if Pillow would not.

    Such files are 16-bit grey PNG, and TIFF with more than 8 bits, with bands that are not colours,
    or with one page per channel. 16-bit pictures that have to be converted between grey, RGB and
    RGBA are left to Pillow, in 8 bits.

    Args:
        encoded: The bytes of the file.
        in_chans: Channels of the model.
        name: Name of the image for messages.

    Raises:
        UnreadableImageError: Only tifffile could read the file, and it fails or is not installed.
    """
    if encoded[:8] == b"\x89PNG\r\n\x1a\n" and encoded[24:26] == b"\x10\x00" and in_chans == 1:
        with reading(name), Image.open(io.BytesIO(encoded)) as image:
            return np.asarray(image).astype(np.uint16)
    if encoded[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None
    if in_chans in MODES:
        with reading(name):
            bits, bands, pages, is_colour = _tiff_layout(encoded, in_chans)
            is_8_bit, has_page_per_channel = bits <= 8, bands == 1 and pages == in_chans > 1
            is_converted = bands != in_chans and (is_8_bit or pages == 1)
            is_picture = bands <= 4 and (is_converted or (is_8_bit and is_colour))
            if is_picture and not has_page_per_channel:
                return None
            if bands == pages == 1:
                return np.asarray(Image.open(io.BytesIO(encoded)))
    return _read_tiff(encoded, name)


def _tiff_layout(encoded: bytes, max_pages: int) -> tuple[int, int, int, bool]:
    """A TIFF file's bits, bands, pages (up to max_pages + 1), and whether the bands are colours.

    This uses Pillow's reader of tags alone: opening an image of many bands would log an error.
    """
    file = io.BytesIO(encoded)
    directory = ImageFileDirectory_v2(file.read(16 if encoded[2] == 43 else 8))
    pages: list[tuple[int, int, bool]] = []
    while directory.next and len(pages) <= max_pages:
        file.seek(directory.next)
        directory.load(file)
        bands = directory.get(SAMPLESPERPIXEL, 1)
        is_alpha = directory.get(EXTRASAMPLES, (0,))[0] in (1, 2)
        is_cmyk = directory.get(PHOTOMETRIC_INTERPRETATION) == 5
        bits = max(directory.get(BITSPERSAMPLE, (1,)))
        pages.append((bits, bands, bands < 4 or is_alpha or is_cmyk))
    bits, bands, is_colour = pages[0]
    return bits, bands, len(pages), is_colour


def _read_tiff(encoded: bytes, name: str) -> Any:
    """The bands or pages, (C, H, W), of a TIFF file's first series of pages."""
    if tifffile is None:
        raise UnreadableImageError(name, "Pillow can't read it; pip install 'mae-et[tiff]' may")
    with reading(name), tifffile.TiffFile(io.BytesIO(encoded)) as file:
        series = file.series[0]
        height, width = (series.shape[series.axes.index(axis)] for axis in "YX")
        if height * width > 2 * (Image.MAX_IMAGE_PIXELS or np.inf):
            raise UnreadableImageError(name, f"{height} × {width} pixels, a decompression bomb")
        rows, columns = series.axes.index("Y"), series.axes.index("X")
        return np.moveaxis(series.asarray(), (rows, columns), (-2, -1)).reshape(-1, height, width)
