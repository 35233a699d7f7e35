"""Encoded images: the header gives the size, and pixels are decoded only as needed.

A random crop is drawn from the size alone. Of a JPEG, libjpeg then decodes 1/2, 1/4 or 1/8 of the
resolution directly (by its DCT scaling) where that still has as many pixels as the crop needs.
simplejpeg, if it is installed, does so in about two thirds of Pillow's time; both call
libjpeg-turbo and give the same pixels.

Compared with decoding the whole image at full resolution (photos of about 500 × 375, boxes of 20 to
100 %, mean absolute difference in grey levels of 255): nothing changes at 224, where no such box
allows a lower resolution; at 96, where nearly all are decoded at 1/2, the difference is 1.2 for the
same box, and 4.4 in all, since rounding moves and scales the box by up to half a pixel.

Files may come from anybody, so no program is started to read one, and its size is limited.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from .boxes import ORIENTATIONS, UPRIGHT, Box
from .jpeg_header import read_jpeg_header
from .png_texts import PNG_MAGIC, without_texts
from .units import BACKGROUND

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

REFUSED = ("EPS", "IPTC")
"""Formats of which Pillow reads the pixels by starting a program, or which may hold such a file."""

PADDED = ("BMP", "DIB", "TGA")
"""Formats whose fourth byte is often no alpha, but left at 0 by those who write them."""


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


class EncodedImage:
    """An image of which only the header has been read.

    Args:
        encoded: The bytes of the file.
        mode: The Pillow mode to convert to: L, RGB or RGBA.
        name: Name of the image for messages.

    Raises:
        UnreadableImageError: The bytes are not an image, or are one of more pixels than
            `allow_pixels` allows.
    """

    def __init__(self, encoded: bytes, mode: str, name: str) -> None:
        self.encoded, self.mode, self.name = encoded, mode, name
        # Kept for the first decoding: in a PNG, looking for EXIF has decoded all of it.
        self._opened: Image.Image | None = None
        self._is_jpeg, self._is_deep_ppm, self.orientation = True, False, UPRIGHT
        header = None if simplejpeg is None else read_jpeg_header(encoded)
        if header is None or _is_too_large(header.height * header.width):
            self._read_header()
        else:
            self.format: str | None = "JPEG"
            self._stored_height, self._stored_width, self.stored_mode = header

    def _read_header(self) -> None:
        """Let Pillow read the header."""
        with reading(self.name):
            try:
                header, exif = _open_header(self.encoded)
            except ValueError:  # Pillow's response to large texts
                if not self.encoded.startswith(PNG_MAGIC):
                    raise
                self.encoded = without_texts(self.encoded)
                header, exif = _open_header(self.encoded)
        self._opened = header
        self.format, self.stored_mode = header.format, header.mode
        self._is_jpeg = header.format in ("JPEG", "MPO")
        self._is_deep_ppm = header.format == "PPM" and maxval_of(header) > 255
        self._stored_width, self._stored_height = header.size
        self.orientation = ORIENTATIONS.get(exif, UPRIGHT)

    @property
    def is_deep(self) -> bool:
        """Whether the numbers of the image have more than 8 bits; see `deep.from_picture`."""
        is_png_16 = self.format == "PNG" and self.encoded[24] == 16
        is_scaled = self.format == "FITS" and re.search(rb"(BZERO|BSCALE) *=", self.encoded)
        is_grey = self.stored_mode in ("I", "F") or self.stored_mode.startswith("I;16")
        return is_png_16 or is_grey or bool(is_scaled) or self._is_deep_ppm

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels, upright."""
        height, width = self._stored_height, self._stored_width
        return (width, height) if self.orientation.transpose else (height, width)

    def decode(self) -> Image.Image:
        """Decode the whole image, upright and converted.

        Raises:
            UnreadableImageError: The image can't be decoded.
        """
        with reading(self.name):
            image = self.orientation.upright_picture(self.open())
            return convert(image, self.mode)

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
        stored = self.orientation.stored(box, self._stored_height, self._stored_width)
        target = size[::-1] if self.orientation.transpose else size
        region = self._decode_region(stored, self._factor(stored, target))
        pixels = torch.from_numpy(region).permute(2, 0, 1)  # (C, h, w)
        if pixels.shape[-2:] != target:
            pixels = F.interpolate(pixels[None], target, mode="bicubic", antialias=True)[0]
        return self.orientation.upright(pixels)

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
        if simplejpeg is not None and self._is_jpeg and self.stored_mode in ("L", "RGB"):
            try:
                pixels = simplejpeg.decode_jpeg(
                    self.encoded, COLOR_SPACES[self.mode], min_height=height, min_width=width
                )
            except (ValueError, MemoryError):
                pass  # simplejpeg is stricter than Pillow, which decides what is readable
            else:
                return pixels[rows, columns]
        with reading(self.name):
            image = self.open()
            if self._is_jpeg:
                grey = "L" if self.mode == "L" else None
                image.draft(grey, (self._stored_width // factor, self._stored_height // factor))
            part = image.crop((columns.start, rows.start, columns.stop, rows.stop))
            pixels = np.array(convert(part, self.mode))
        return pixels if pixels.ndim == 3 else pixels[..., None]

    def open(self) -> Image.Image:
        """Open the file with Pillow; the caller may change the image."""
        opened, self._opened = self._opened, None
        image = opened or Image.open(io.BytesIO(self.encoded))
        if self.format in PADDED and image.mode in ("LA", "RGBA"):
            *_, alpha = image.getextrema()
            if alpha == (0, 0):
                return image.convert(image.mode[:-1])
        return image


def allow_pixels(number: int) -> None:
    """Set the most pixels that an image may have, in this process.

    Loader workers take the number over, see `worker_options`.

    Args:
        number: Height times width.
    """
    # Above this number Pillow warns; above twice this number it refuses.
    Image.MAX_IMAGE_PIXELS = number / 2  # type: ignore[assignment]


def _is_too_large(number: int) -> bool:
    """Whether Pillow refuses an image of so many pixels."""
    return Image.MAX_IMAGE_PIXELS is not None and number > 2 * Image.MAX_IMAGE_PIXELS


def _open_header(encoded: bytes) -> tuple[Image.Image, int]:
    """Open an image, and find the value of its EXIF orientation."""
    header = Image.open(io.BytesIO(encoded))
    if header.format in REFUSED:  # nothing is started before pixels are asked for
        raise OSError(f"{header.format} is not read, since that may start a program")
    if header.format in ("PNG", "TIFF"):
        header.load()  # a PNG may have EXIF at its end, and a TIFF is turned upright
    if header.format == "TIFF":
        return header, 1  # whatever its tag still says, which depends on the version of Pillow
    return header, header.getexif().get(int(ExifTags.Base.Orientation), 1)


def maxval_of(image: Any) -> int:
    """Return the number that is white in a PPM image just opened, if Pillow has to scale by it."""
    decoder, _, _, arguments = image.tile[0]
    return int(arguments[-1]) if decoder in ("ppm", "ppm_plain") else 255


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Report any error in reading an image as one of that image.

    Args:
        name: Name of the image for messages.

    Raises:
        UnreadableImageError: The image can't be read.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of Pillow, on what it reads all the same
            yield
    except UnreadableImageError:
        raise
    except Image.DecompressionBombError as error:
        allowed = round(2 * (Image.MAX_IMAGE_PIXELS or 0))
        reason = f"more than the {allowed} pixels that max_pixels allows: a decompression bomb?"
        raise UnreadableImageError(name, reason) from error
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        reason = "no image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise UnreadableImageError(name, reason or type(error).__name__) from error


def _scaled(start: int, length: int, factor: int, limit: int) -> slice:
    """The whole pixels nearest to a range, at 1/factor of the resolution, below a limit."""
    scaled_length = round(length / factor)
    scaled_start = min(round(start / factor), limit - scaled_length)
    return slice(scaled_start, scaled_start + scaled_length)


def has_alpha(image: Image.Image) -> bool:
    """Return whether pixels of an image of 8 bits may be transparent."""
    return image.mode.endswith(("A", "a")) or "transparency" in image.info


def convert(image: Image.Image, mode: str) -> Image.Image:
    """Convert an image of 8 bits to L, RGB or RGBA; the first two without transparency."""
    if mode != "RGBA" and has_alpha(image):
        if image.mode == "La":
            image = image.convert("LA")
        colours = image.convert("RGBA")
        image = Image.new("RGB", image.size, (round(255 * BACKGROUND),) * 3)
        image.paste(colours, mask=colours.getchannel("A"))
    return image.convert(mode)
