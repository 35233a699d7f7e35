"""Make stored images smaller, once: what training would otherwise decode and resize at each epoch.

A JPEG of 12 megapixels is decoded at 1/4 of its resolution, the lowest that has twice the pixels
asked for (libjpeg's DCT scaling), and resized from there. Against decoding all of it, that differs
by 0.2 grey levels of 255 on average and takes a quarter of the time; JPEG itself changes 2.3 levels
at quality 92 (photos enlarged to 12 megapixels, short side 256: `scripts/bench_pack.py`).

What came without loss stays so, as PNG, which takes four times the space of JPEG and four times the
time to decode (154 kB and 3.2 ms against 35 kB and 0.8 ms): edges of drawings, scans and
measurements are not for this module to blur.
"""

from __future__ import annotations

import io
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from .arrays import NPY_MAGIC, read_npy
from .boxes import UPRIGHT, Orientation
from .deep import is_of_bands
from .encoded import EncodedImage, convert, has_alpha, reading

DRAFT = 2
"""How many times the pixels asked for, along each side, a JPEG is decoded to at least."""

LOSSY = ("JPEG", "MPO", "WEBP", "AVIF")
"""Formats whose files are lossy, of WebP most of them."""

WEBP_LOSSLESS = b"VP8L"
"""The kind of the chunk that holds a lossless WebP picture."""


class Shrunk(NamedTuple):
    """An image as it is to be stored."""

    content: bytes
    """The bytes of its file."""
    ending: str
    """The ending of the file's name, with a dot."""
    how: Literal["resized", "copied", "unchanged"]
    """Whether it was made smaller or upright; was small already; or is no picture of 8 bits."""


def shrink(stored: Any, name: str, *, short_side: int, quality: int) -> Shrunk:
    """Make an image smaller and upright, and check that all of it can be decoded.

    Pictures of 8 bits are resized (bicubic, antialiased) without their metadata. Those that are
    small and upright stay what they are, byte for byte, and so does whatever has more than 8 bits,
    or bands that are no colours.

    Args:
        stored: The bytes of a file, or an array, as `read_cell` returns them.
        name: Name of the image for messages.
        short_side: The most pixels of the shorter side; no image is enlarged.
        quality: Quality of JPEG, for pictures that came as lossy files and are nowhere transparent.

    Raises:
        UnreadableImageError: The image can't be decoded. (Of TIFF files with other bands, only the
            tags are looked at, since what reads them depends on the model.)
    """
    if isinstance(stored, np.ndarray):
        buffer = io.BytesIO()
        np.save(buffer, stored, allow_pickle=False)
        return Shrunk(buffer.getvalue(), ".npy", "unchanged")
    if stored.startswith(NPY_MAGIC):
        read_npy(stored, name)
        return Shrunk(stored, ".npy", "unchanged")
    if is_of_bands(stored, name):
        return Shrunk(stored, ".tif", "unchanged")
    picture = EncodedImage(stored, "RGBA", name)
    with reading(name):
        image = picture.open()
        scale = short_side / min(image.size)
        if picture.is_deep or (scale >= 1 and picture.orientation is UPRIGHT):
            image.draft(None, (1, 1))  # a JPEG is decoded at 1/8, which reads all of it, too
            image.load()
            how: Literal["copied", "unchanged"] = "unchanged" if picture.is_deep else "copied"
            return Shrunk(stored, _ending(str(picture.format)), how)
        small = _upright(_resized(image, min(scale, 1.0)), picture.orientation)
        is_lossless = picture.format not in LOSSY or WEBP_LOSSLESS in stored[:64]
        return _encoded(small, None if is_lossless else quality)


def _resized(image: Image.Image, scale: float) -> Image.Image:
    """Resize a picture in L, RGB or, if it is transparent anywhere, RGBA."""
    width, height = (max(round(side * scale), 1) for side in image.size)
    drafted = image.draft(None, (DRAFT * width, DRAFT * height))
    box = drafted[1] if drafted else None
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if has_alpha(image) and np.asarray(convert(image, "RGBA"))[..., 3].min() < 255:
        mode = "RGBA"
    return convert(image, mode).resize((width, height), Image.Resampling.BICUBIC, box)


def _upright(image: Image.Image, orientation: Orientation) -> Image.Image:
    if orientation is UPRIGHT:
        return image
    pixels = np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)  # (C, h, w)
    turned = orientation.upright_array(pixels).transpose(1, 2, 0)
    return Image.fromarray(turned[..., 0] if image.mode == "L" else turned)


def _encoded(image: Image.Image, quality: int | None) -> Shrunk:
    """Encode a picture as JPEG, or as PNG if no quality is given or it is transparent."""
    buffer = io.BytesIO()
    image.info = {}  # which may hold a colour profile, or a colour that stands for transparency
    if quality is None or image.mode == "RGBA":
        image.save(buffer, "PNG")
        return Shrunk(buffer.getvalue(), ".png", "resized")
    image.save(buffer, "JPEG", quality=quality)
    return Shrunk(buffer.getvalue(), ".jpg", "resized")


def _ending(kind: str) -> str:
    """Return the usual ending of files of a format of Pillow."""
    if kind == "JPEG":
        return ".jpg"  # the first one that Pillow lists is .jfif
    return next(end for end, name in Image.EXTENSION.items() if name == kind)
