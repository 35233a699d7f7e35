"""Pictures with more than 8 bits, and TIFF files of any channels, as arrays.

Pillow reads grey ones as they are, but would clip them to make colours of them, and cuts colours of
16 bits to 8. TIFF files that are no pictures to Pillow are read by tifffile (optional: `pip install
-e '.[tiff]'`).
"""

from __future__ import annotations

import io
import logging
import re
from math import prod
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    EXTRASAMPLES,
    PHOTOMETRIC_INTERPRETATION,
    SAMPLEFORMAT,
    SAMPLESPERPIXEL,
    ImageFileDirectory_v2,
)

from .arrays import ArrayImage
from .boxes import ORIENTATIONS, UPRIGHT
from .encoded import MODES, EncodedImage, UnreadableImageError, maxval_of, reading
from .units import to_channels, white_of

try:
    import tifffile
except ImportError:
    tifffile = None

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong with a file, we say

ORIENTATION = 274
"""The tag of a TIFF file that tells how it becomes upright."""

UNSIGNED, FLOAT = 1, 3
"""Values of the tag SAMPLEFORMAT."""

WHITE_IS_0, GREY, RGB, CMYK = 0, 1, 2, 5
"""Values of the tag PHOTOMETRIC_INTERPRETATION."""

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""The first bytes of a TIFF file."""

FITS_TYPES = {8: "u1", 16: ">i2", 32: ">i4", -32: ">f4", -64: ">f8"}
"""Value of the card BITPIX -> the type of the numbers."""

ALPHA = {1: "premultiplied", 2: "straight"}
"""Value of the tag EXTRASAMPLES -> what the band after the colours is."""


def from_picture(picture: EncodedImage) -> ArrayImage:
    """Read a picture that `EncodedImage.is_deep` as an array, upright.

    Raises:
        UnreadableImageError: It can't be decoded, or has values that are not finite.
    """
    with reading(picture.name):
        alpha = None
        white: float | None = 65535
        if picture.format == "PNG":
            pixels, alpha = _read_png(picture)
        elif picture.format == "FITS":
            pixels = _read_fits(picture)
            white = white_of(pixels.dtype)
        elif picture.stored_mode == "RGB":
            pixels, white = _read_ppm(picture)
        else:
            pixels, white = _read_grey(picture)
        in_chans = next(number for number, mode in MODES.items() if mode == picture.mode)
        pixels, white = to_channels(pixels, in_chans, white, alpha=alpha)
        return ArrayImage(picture.orientation.upright_array(pixels), in_chans, picture.name, white)


def _read_png(picture: EncodedImage) -> tuple[Any, str | None]:
    """The uint16 (C, H, W) of a PNG file, and how its last channel is alpha.

    Of colours, Pillow decodes the upper bytes; asked for numbers of the other byte order, it
    decodes the lower ones. (torchvision's decoder crashes where a checksum is wrong.)
    """
    image = picture.open()
    see_through = image.info.get("transparency")  # a colour
    is_grey, has_alpha = picture.encoded[25] in (0, 4), picture.encoded[25] in (4, 6)
    if is_grey and has_alpha:
        both = _raw_png(picture, "RGBA")  # two bytes of grey, two of alpha
        high, low = both[..., ::2], both[..., 1::2]
    elif is_grey:
        high, low = np.zeros(1, np.uint8), np.asarray(image)[..., None]
    else:
        high, low = np.asarray(image), _raw_png(picture, f"{image.mode};16L")
    pixels = (high.astype(np.uint16) << 8 | low.astype(np.uint16)).transpose(2, 0, 1)
    if see_through is not None and not has_alpha:
        colour = np.reshape(see_through, (-1, 1, 1))
        opacity = (pixels != colour).any(0, keepdims=True) * np.uint16(65535)
        return np.concatenate([pixels, opacity]), "straight"
    return pixels, "straight" if has_alpha else None


def _raw_png(picture: EncodedImage, raw_mode: str) -> Any:
    """The (H, W, C) uint8 that Pillow makes of a PNG file's bytes when told how to read them."""
    image: Any = Image.open(io.BytesIO(picture.encoded))
    image.tile = [(*tile[:-1], raw_mode) for tile in image.tile]
    return np.asarray(image)


def _read_grey(picture: EncodedImage) -> tuple[Any, float | None]:
    """What Pillow reads of a deep grey picture, (1, H, W), and the number that is white."""
    image = picture.open()
    pixels, bits = np.asarray(image)[None], None
    tags = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        pixels, bits = pixels.astype(np.uint16), tags.get(BITSPERSAMPLE, (16,))[0]
    elif image.mode == "I" and picture.format == "PPM":  # which Pillow scales to 16 bits
        pixels = pixels.astype(np.uint16)
    elif image.mode == "I" and tags.get(BITSPERSAMPLE) == (32,):
        is_unsigned = tags.get(SAMPLEFORMAT, (UNSIGNED,))[0] == UNSIGNED
        pixels = pixels.view(np.uint32) if is_unsigned else pixels
    white = white_of(pixels.dtype, bits)
    is_inverted = white is not None and tags.get(PHOTOMETRIC_INTERPRETATION) == WHITE_IS_0
    return white - pixels if is_inverted else pixels, white


def _read_fits(picture: EncodedImage) -> Any:
    """The numbers, (1, H, W), that a FITS file means: zero + scale * those that it stores.

    Pillow reads the latter, and signed ones of 16 bits as unsigned, if at all (before version 11).
    """
    image: Any = picture.open()
    decoder, _, start, _ = image.tile[0]
    header = picture.encoded[:start]
    values = {b"BITPIX": 0.0, b"BSCALE": 1.0, b"BZERO": 0.0}
    for card in (header[first : first + 80] for first in range(0, start, 80)):
        if (name := card[:8].rstrip()) in values:
            values[name] = float(card[10:].partition(b"/")[0].upper().replace(b"D", b"E"))
    kind, scale, zero = values.values()
    if decoder == "raw":
        width, height = image.size
        dtype = np.dtype(FITS_TYPES[int(kind)])
        stored = np.frombuffer(picture.encoded, dtype, width * height, start)
        pixels = stored.astype(dtype.newbyteorder("=")).reshape(1, height, width)[:, ::-1]
    else:  # compressed
        pixels = np.asarray(image)[None]
        pixels = pixels.view(np.int16) if pixels.dtype == np.uint16 else pixels
    bits = 8 * pixels.itemsize
    if pixels.dtype.kind == "i" and (scale, zero) == (1, 2 ** (bits - 1)):
        return (pixels + np.int64(zero)).astype(f"uint{bits}")  # how FITS has unsigned ones
    return pixels if (scale, zero) == (1, 0) else zero + scale * pixels


def _read_ppm(picture: EncodedImage) -> tuple[Any, int]:
    """The colours, (3, H, W), of a PPM file of more than 8 bits, and the number that is white.

    Pillow scales them to 8 bits.
    """
    image: Any = picture.open()
    decoder, _, start, _ = image.tile[0]
    shape, content = (*image.size[::-1], 3), picture.encoded[start:]
    if decoder == "ppm":
        numbers = np.frombuffer(content, ">u2", prod(shape)).astype(np.uint16)
    else:
        words = re.sub(rb"#[^\r\n]*", b"", content).split()
        numbers = np.array(words[: prod(shape)]).astype(np.uint16)
    return numbers.reshape(shape).transpose(2, 0, 1), maxval_of(image)


class _Layout(NamedTuple):
    """What the tags of a TIFF file say about its first page, and how many pages there are."""

    bits: int
    number: int
    """The kind of number, of the tag SAMPLEFORMAT."""
    bands: int
    colours: int
    """How many of the bands are grey (1) or RGB (3); 0 if they are something else."""
    alpha: str | None
    is_cmyk: bool
    orientation: int
    pages: int

    @property
    def is_picture(self) -> bool:
        """Whether Pillow reads all of the file as a picture of 8 bits, whatever is asked for."""
        has_colours = self.bands in (1, 3) or self.alpha is not None or self.is_cmyk
        return self.bits <= 8 and self.number == UNSIGNED and self.pages == 1 and has_colours

    def is_for_pillow(self, in_chans: int) -> bool:
        """Whether Pillow reads the file as a picture, as far as this is possible."""
        if self.bands == 1 and self.pages == in_chans > 1:  # a page per channel
            return False
        if self.bits <= 8 and self.number == UNSIGNED:
            is_picture = self.bands < 4 or self.alpha is not None or self.is_cmyk
            return self.bands <= 4 and (self.bands != in_chans or is_picture)
        if self.bands == self.pages == 1:
            return self.bits in (12, 32) or (self.bits == 16 and self.number != FLOAT)
        is_converted = self.bands != in_chans and self.pages == 1 and self.bands <= 4
        return is_converted and (self.is_cmyk or tifffile is None)


def read_tiff(encoded: bytes, in_chans: int, name: str) -> ArrayImage | None:
    """Read a TIFF file of which Pillow would lose something; None if it would not, or is no TIFF.

    Such files have more than 8 bits in several bands, bands that are not colours, or one page per
    channel.

    Args:
        encoded: The bytes of the file.
        in_chans: Channels of the model.
        name: Name of the image for messages.

    Raises:
        UnreadableImageError: Only tifffile could read the file, and it fails or is not installed.
    """
    if not encoded.startswith(TIFF_MAGIC):
        return None
    with reading(name):
        layout = _layout(encoded, in_chans)
        if in_chans in MODES and layout.is_for_pillow(in_chans):
            return None
        pixels = _read_bands(encoded, in_chans, name)
        pixels = ORIENTATIONS.get(layout.orientation, UPRIGHT).upright_array(pixels)
        white: float | None = white_of(pixels.dtype, layout.bits)
        is_picture = in_chans in MODES and len(pixels) == layout.bands and layout.colours
        if is_picture and len(pixels) != in_chans:
            kept = layout.colours + (layout.alpha is not None)
            pixels, white = to_channels(pixels[:kept], in_chans, white, alpha=layout.alpha)
        return ArrayImage(pixels, in_chans, name, white)


def is_of_bands(encoded: bytes, name: str) -> bool:
    """Return whether a file is a TIFF that is more than a picture of 8 bits.

    Args:
        encoded: The bytes of the file.
        name: Name of the image for messages.

    Raises:
        UnreadableImageError: It is a TIFF file without a page.
    """
    if not encoded.startswith(TIFF_MAGIC):
        return False
    with reading(name):
        return not _layout(encoded, 1).is_picture


def _layout(encoded: bytes, max_pages: int) -> _Layout:
    """The layout of a TIFF file, whose pages are counted up to max_pages + 1.

    This uses Pillow's reader of tags alone: opening an image of many bands would log an error.
    """
    file = io.BytesIO(encoded)
    directory = ImageFileDirectory_v2(file.read(16 if encoded[2] == 43 else 8))
    first, pages = None, 0
    while directory.next and pages <= max_pages:
        file.seek(directory.next)
        directory.load(file)
        first, pages = first or dict(directory), pages + 1
    if first is None:
        raise OSError("no page")
    bands, kind = first.get(SAMPLESPERPIXEL, 1), first.get(PHOTOMETRIC_INTERPRETATION)
    extra = first.get(EXTRASAMPLES, (0,))[0]
    alpha = ALPHA.get(extra) if bands in (2, 4) else None
    is_rgb = kind == RGB and bands in (3, 4)
    is_grey = kind in (WHITE_IS_0, GREY) and bands == (2 if alpha else 1)
    return _Layout(
        bits=max(first.get(BITSPERSAMPLE, (1,))),
        number=first.get(SAMPLEFORMAT, (UNSIGNED,))[0],
        bands=bands,
        colours=3 if is_rgb else 1 if is_grey else 0,
        alpha=alpha,
        is_cmyk=kind == CMYK,
        orientation=first.get(ORIENTATION, 1),
        pages=pages,
    )


def _read_bands(encoded: bytes, in_chans: int, name: str) -> Any:
    """The bands or pages, (C, H, W), of a TIFF file's first series of pages."""
    if tifffile is None:
        reason = "Pillow can't read it; pip install -e '.[tiff]' in the clone may"
        raise UnreadableImageError(name, reason)
    with tifffile.TiffFile(io.BytesIO(encoded)) as file:
        if not file.series:
            raise OSError("no page")
        series = file.series[0]
        rows, columns = series.axes.index("Y"), series.axes.index("X")
        height, width = series.shape[rows], series.shape[columns]
        if height * width > 2 * (Image.MAX_IMAGE_PIXELS or np.inf):
            raise Image.DecompressionBombError
        bands = prod(series.shape) // max(height * width, 1)
        if bands > max(in_chans, 4):
            shape = " × ".join(map(str, series.shape))
            raise UnreadableImageError(name, f"{in_chans} channels are asked for, it is {shape}")
        return np.moveaxis(series.asarray(), (rows, columns), (-2, -1)).reshape(-1, height, width)
