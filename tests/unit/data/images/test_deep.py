"""Pictures of more than 8 bits, and what is seen through transparency, against plain NumPy."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mae_et import data
from mae_et.data.images.units import LUMA, white_of
from tests.support.arrays import tiff
from tests.support.images import chunk, encode, picture

GREY = np.linspace(0, 1, 20 * 30).reshape(20, 30)
COLOURS = np.stack([GREY, 1 - GREY, GREY**2])
RGB, GREY_PAGE = {"photometric": "rgb"}, {"photometric": "minisblack"}
RGBA = {**RGB, "extrasamples": ["unassalpha"]}
ASSOCIATED = {**RGB, "extrasamples": ["assocalpha"]}
SHADE = GREY[:, ::-1]


def scaled(values: Any, largest: int, dtype: str = "uint16") -> Any:
    return np.round(values * largest).astype(dtype)


DEEP, TWELVE, SHALLOW = scaled(GREY, 65535), scaled(GREY, 4095), scaled(GREY, 255, "uint8")


def saved(array: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def last(array: Any) -> Any:
    return np.moveaxis(array, 0, -1)


def png_16(values: Any, colour_type: int, see_through: bytes = b"") -> bytes:
    """A PNG file of (C, H, W) uint16, every second row of which is stored as a difference."""
    channels, height, width = values.shape
    rows = last(values).astype(">u2").tobytes()
    stride = 2 * channels * width
    lines, before = [], bytes(stride)
    for row in range(height):
        line = rows[row * stride : (row + 1) * stride]
        if row % 2:  # the filter "up"
            lines.append(b"\2" + bytes((a - b) % 256 for a, b in zip(line, before, strict=True)))
        else:
            lines.append(b"\0" + line)
        before = line
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *([chunk(b"tRNS", see_through)] if see_through else [])]
    parts += [chunk(b"IDAT", zlib.compress(b"".join(lines))), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def in_units(encoded: bytes, in_chans: int) -> Any:
    """(C, H, W) float64 as the model gets it, before normalisation."""
    image = data.open_image({"bytes": encoded, "path": None}, in_chans, "a")
    whole = image.decode()
    assert image.size == (20, 30)
    pixels = whole.numpy() if isinstance(whole, torch.Tensor) else np.asarray(whole)
    if not isinstance(whole, torch.Tensor):
        pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    part = image.crop(data.Box(3, 5, 10, 20), (10, 20))  # not resized
    np.testing.assert_array_equal(part.numpy(), pixels[:, 3:13, 5:25])
    return pixels.astype(np.float64) / 255


def fits(array: Any, bits: int, **cards: float | str) -> bytes:
    """A FITS file, whose rows begin at the bottom."""
    height, width = array.shape
    header = {"SIMPLE": "T", "BITPIX": bits, "NAXIS": 2, "NAXIS1": width, "NAXIS2": height, **cards}
    lines = "".join(
        f"{f'{name:<8}= {value:>20} / of a test':<80}" for name, value in header.items()
    )
    content = array[::-1].astype(array.dtype.newbyteorder(">")).tobytes()
    return f"{lines + 'END':<2880}".encode() + content + bytes(-len(content) % 2880)


def ppm(colours: Any, white: int) -> bytes:
    rows = last(scaled(colours, white))
    return b"P6\n# of a test\n30 20\n%d\n" % white + rows.astype(">u2").tobytes()


SIGNED = {16: scaled(GREY - 0.5, 999, "int16"), 8: scaled(GREY - 0.5, 99, "int8")}
GREY_FILES = {
    "float32 TIFF": (lambda: saved(GREY.astype(np.float32), "TIFF"), GREY),
    "float64 TIFF": (lambda: tiff(GREY), GREY),
    "float16 TIFF": (lambda: tiff(GREY.astype(np.float16)), GREY.astype(np.float16)),
    "int32 TIFF": (lambda: saved(scaled(GREY, 70_000, "i4"), "TIFF"), scaled(GREY, 70_000, "i4")),
    "int16 TIFF": (lambda: tiff(SIGNED[16]), SIGNED[16]),
    "int8 TIFF": (lambda: tiff(SIGNED[8]), SIGNED[8]),
    "uint32 TIFF": (lambda: tiff(scaled(GREY, 2**32 - 1, "uint32")), GREY),
    "uint16 TIFF": (lambda: saved(DEEP, "TIFF"), DEEP / 65535),
    "uint16 TIFF, big-endian": (lambda: tiff(DEEP, byteorder=">"), DEEP / 65535),
    "uint16 TIFF, 0 is white": (lambda: tiff(DEEP, photometric="miniswhite"), 1 - DEEP / 65535),
    "uint8 TIFF, 0 is white": (lambda: tiff(SHALLOW, photometric="miniswhite"), 1 - SHALLOW / 255),
    "12-bit TIFF": (lambda: tiff(TWELVE, bitspersample=12), TWELVE / 4095),
    "16-bit PNG": (lambda: saved(DEEP, "PNG"), DEEP / 65535),
    "12 bits in 16-bit PNG": (lambda: saved(TWELVE, "PNG"), TWELVE / 65535),
    "PGM": (lambda: b"P5 30 20 65535\n" + DEEP.astype(">u2").tobytes(), DEEP / 65535),
    "PFM": (lambda: b"Pf\n30 20\n-1.0\n" + GREY[::-1].astype("<f4").tobytes(), GREY),
    "JPEG 2000": (lambda: saved(DEEP, "JPEG2000"), DEEP / 65535),
    "uint16 FITS": (lambda: fits((DEEP ^ 0x8000).view("i2"), 16, BZERO=32768.0), DEEP / 65535),
    "int16 FITS": (lambda: fits(SIGNED[16], 16), SIGNED[16]),
    "int32 FITS": (lambda: fits(SIGNED[16].astype("i4"), 32), SIGNED[16]),
    "float32 FITS": (lambda: fits(GREY.astype("f4"), -32), GREY),
    "8-bit FITS": (lambda: fits(SHALLOW, 8), SHALLOW / 255),
    "8-bit FITS, scaled": (lambda: fits(SHALLOW, 8, BSCALE=10.0, BZERO=-5.0), SHALLOW * 10.0 - 5),
    "int16 FITS, scaled": (lambda: fits(SIGNED[16], 16, BSCALE="1.0D-3"), SIGNED[16] / 1000),
    "1 bit": (lambda: saved(GREY > 0.5, "PNG"), (GREY > 0.5) * 1.0),
    "8 bits": (lambda: saved(SHALLOW, "PNG"), SHALLOW / 255),
}


@pytest.mark.parametrize("name", GREY_FILES)
def test_grey_is_the_same_number_in_every_channel(name: str) -> None:
    if name == "PFM":
        pytest.importorskip("PIL", minversion="10.3")
    make, expected = GREY_FILES[name]
    encoded = make()
    for in_chans in (1, 3, 4):
        found = in_units(encoded, in_chans)
        assert found.shape == (in_chans, 20, 30)
        for channel in found[:3]:
            np.testing.assert_allclose(channel, expected, rtol=1e-6, atol=1e-7)
        assert in_chans < 4 or (found[3] == 1).all()


COLOUR_FILES = {
    "RGB PNG": lambda: png_16(scaled(COLOURS, 65535), 2),
    "RGB TIFF": lambda: tiff(last(scaled(COLOURS, 65535)), **RGB),
    "PPM": lambda: ppm(COLOURS, 65535),
    "PPM up to 51000": lambda: ppm(COLOURS, 51000),
    "PPM as text": lambda: (
        b"P3 30 20 65535\n# of a test\n"
        + " ".join(map(str, last(scaled(COLOURS, 65535)).flat)).encode()
    ),
    "float RGB TIFF": lambda: tiff(last(COLOURS.astype(np.float32)), **RGB),
    "RGB TIFF with a band": lambda: tiff(
        last(scaled(np.stack([*COLOURS, SHADE]), 65535)), **RGB, extrasamples=["unspecified"]
    ),
}


@pytest.mark.parametrize("name", COLOUR_FILES)
def test_colours_of_16_bits(name: str) -> None:
    encoded = COLOUR_FILES[name]()
    np.testing.assert_allclose(in_units(encoded, 3), COLOURS, atol=1e-5)
    luma = np.tensordot(LUMA, COLOURS, 1)
    np.testing.assert_allclose(in_units(encoded, 1)[0], luma, atol=1e-5)
    if "band" not in name:
        with_alpha = in_units(encoded, 4)
        np.testing.assert_allclose(with_alpha[:3], COLOURS, atol=1e-5)
        assert (with_alpha[3] == 1).all()


ALPHA_FILES = {
    "PNG": lambda: png_16(scaled(np.stack([*COLOURS, SHADE]), 65535), 6),
    "TIFF": lambda: tiff(last(scaled(np.stack([*COLOURS, SHADE]), 65535)), **RGBA),
    "associated": lambda: tiff(
        last(scaled(np.stack([*COLOURS * SHADE, SHADE]), 65535)), **ASSOCIATED
    ),
    "8-bit PNG": lambda: saved(last(scaled(np.stack([*COLOURS, SHADE]), 255, "uint8")), "PNG"),
    "8-bit TIFF": lambda: saved(last(scaled(np.stack([*COLOURS, SHADE]), 255, "uint8")), "TIFF"),
}


@pytest.mark.parametrize("name", ALPHA_FILES)
def test_alpha_is_composited_on_white(name: str) -> None:
    encoded, atol = ALPHA_FILES[name](), 0.006 if "8" in name else 5e-5
    seen = COLOURS * SHADE + 1 - SHADE
    np.testing.assert_allclose(in_units(encoded, 3), seen, atol=atol)
    np.testing.assert_allclose(in_units(encoded, 1)[0], np.tensordot(LUMA, seen, 1), atol=atol)
    if name != "associated":
        stored = np.stack([*COLOURS, SHADE])
        np.testing.assert_allclose(in_units(encoded, 4), stored, atol=atol)


def test_grey_with_alpha() -> None:
    values = np.stack([GREY, SHADE])
    for encoded, atol in (
        (png_16(scaled(values, 65535), 4), 2e-5),
        (tiff(last(scaled(values, 65535)), **GREY_PAGE, extrasamples=["unassalpha"]), 2e-5),
        (saved(last(scaled(values, 255, "uint8")), "PNG"), 0.006),
    ):
        seen = GREY * SHADE + 1 - SHADE
        for in_chans in (1, 3):
            np.testing.assert_allclose(in_units(encoded, in_chans)[-1], seen, atol=atol)


@pytest.mark.parametrize("mode", ["LA", "PA", "P", "RGBA", "L", "RGB"])
def test_what_is_hidden_under_transparent_pixels_is_not_seen(mode: str) -> None:
    """Whether alpha is a channel, a palette's entry, or a colour that is declared transparent."""
    hidden, shown = (
        ((10, 200, 30), (90, 90, 90)) if mode in ("RGBA", "RGB") else ((9,) * 3, (90,) * 3)
    )
    pixels = np.full((20, 30, 3), shown, np.uint8)
    pixels[:, :10] = hidden
    alpha = np.full((20, 30), 255, np.uint8)
    alpha[:, :10] = 0
    source, options, kind = Image.fromarray(pixels), {}, "PNG"
    if mode in ("LA", "RGBA", "PA"):
        if mode == "PA":
            source, kind = source.convert("P", palette=Image.Palette.ADAPTIVE), "TIFF"
        source.putalpha(Image.fromarray(alpha))
        source = source.convert("LA") if mode == "LA" else source
    elif mode == "P":
        source = source.convert("P", palette=Image.Palette.ADAPTIVE)
        options = {"transparency": source.getpixel((0, 0))}
    else:
        source = source.convert(mode)
        options = {"transparency": hidden if mode == "RGB" else hidden[0]}
    buffer = io.BytesIO()
    source.save(buffer, kind, **options)
    for in_chans in (1, 3):
        found = in_units(buffer.getvalue(), in_chans)
        assert (found[:, :, :10] == 1).all()
        np.testing.assert_allclose(found[:, :, 10:], 90 / 255, atol=0.002)


@pytest.mark.parametrize("kind", ["BMP", "TGA"])
def test_a_fourth_byte_that_is_nowhere_set_is_no_alpha(kind: str) -> None:
    """Not in the whole image: transparent parts of one are seen through."""
    pixels = np.zeros((20, 30, 4), np.uint8)
    pixels[..., :3] = last(scaled(COLOURS, 255, "uint8"))
    for in_chans in (3, 4):
        found = in_units(padded(pixels, kind), in_chans)
        np.testing.assert_array_equal(found[:3], np.moveaxis(pixels[..., :3], -1, 0) / 255)
        assert in_chans < 4 or (found[3] == 1).all()
    pixels[0, 0, 3] = 255
    found = in_units(padded(pixels, kind), 3)
    assert (found[:, 1:] == 1).all()
    np.testing.assert_array_equal(found[:, 0, 0], pixels[0, 0, :3] / 255)


def padded(pixels: Any, kind: str) -> bytes:
    """An image of 32 bits, its rows from the bottom."""
    (height, width), rows = pixels.shape[:2], pixels[::-1][..., [2, 1, 0, 3]].tobytes()
    if kind == "TGA":
        return struct.pack("<3B5x4H2B", 0, 0, 2, 0, 0, width, height, 32, 0) + rows
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(rows), 0, 0, 0, 0)
    header += masks + bytes(52)
    return b"BM" + struct.pack("<IHHI", 14 + 108 + len(rows), 0, 0, 14 + 108) + header + rows


def test_a_transparent_colour_of_16_bits() -> None:
    """Its lower bytes count: Pillow alone would take (256, 1, 5) for (256, 1, 6)."""
    values = np.stack([np.full((20, 30), number, np.uint16) for number in (256, 1, 5)])
    values[2, :, :10] = 6
    found = in_units(png_16(values, 2, struct.pack(">HHH", 256, 1, 6)), 3)
    assert (found[:, :, :10] == 1).all()
    np.testing.assert_allclose(found[:, 0, 10], np.array([256, 1, 5]) / 65535, rtol=1e-5)
    grey = png_16(values[2:], 0, struct.pack(">H", 6))
    assert (in_units(grey, 1)[:, :, :10] == 1).all()
    assert in_units(grey, 1).min() == pytest.approx(5 / 65535)


@pytest.mark.parametrize("mode", ["I;16", "I", "F", "CMYK", "RGB", "LAB"])
def test_pictures_from_user_code(mode: str) -> None:
    values = {"I;16": scaled(GREY, 65535), "I": scaled(GREY, 9, "int32"), "F": GREY.astype("f4")}
    image = (
        Image.fromarray(values[mode])
        if mode in values
        else Image.new(mode, (30, 20), (9, 9, 9, 0)[: len(mode)])
    )
    opened = data.open_image(image, 3, "a").decode()
    if mode in values:
        white = {"I;16": 65535}.get(mode, 1)
        np.testing.assert_allclose(np.asarray(opened)[1] / 255, values[mode] / white, atol=1e-6)
    else:
        assert np.asarray(opened).shape == (20, 30, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["16-bit PNG", "16-bit TIFF", "RGB TIFF of 16 bits", "8-bit TIFF"])
def test_deep_pictures_are_turned_upright(kind: str, orientation: int) -> None:
    stored = picture(mode="RGB" if kind == "RGB TIFF of 16 bits" else "L")
    upright = Image.open(io.BytesIO(encode(stored, "PNG", orientation)))
    expected = np.asarray(
        data.EncodedImage(encode(stored, "PNG", orientation), "RGB", "a").decode()
    )
    assert upright.size == stored.size
    deep = np.asarray(stored).astype(np.uint16) * 257
    if kind == "RGB TIFF of 16 bits":
        encoded = tiff(deep, **RGB, extratags=[(274, "H", 1, orientation, True)])
    else:
        source = stored if kind == "8-bit TIFF" else Image.fromarray(deep)
        encoded = encode(source, kind.split()[-1], orientation)
    image = data.open_image({"bytes": encoded, "path": None}, 3, "a")
    assert image.size == expected.shape[:2]
    whole = image.decode()
    pixels = last(whole.numpy()) if isinstance(whole, torch.Tensor) else np.asarray(whole)
    np.testing.assert_allclose(pixels, expected, atol=1e-3)
    height, width = image.size
    part = image.crop(data.Box(8, 16, height - 8, width - 16), (height - 8, width - 16))
    np.testing.assert_allclose(last(part.numpy()), expected[8:, 16:], atol=1e-3)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "uint32", "int8", "int32", "float32"])
def test_arrays_have_the_units_of_the_table(dtype: str) -> None:
    white = {"bool": 1, "uint8": 255, "uint16": 65535, "uint32": 2**32 - 1}.get(dtype)
    assert white_of(np.dtype(dtype)) == white
    array = np.array([[[0, 1], [1, 0]]], dtype)
    expected = array.astype(np.float64) / (white or 1)
    decoded = data.open_image(array, 1, "a").decode()
    assert isinstance(decoded, torch.Tensor)
    np.testing.assert_allclose(decoded.numpy() / 255, expected, rtol=1e-6)
