"""Decoding as much of an image as a crop needs, against whole images decoded by Pillow."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms import v2

from mae_et.data.images import Box, EncodedImage, UnreadableImageError, encoded
from mae_et.data.transforms import PretrainTransform
from tests.support.images import encode, picture


def array(pixels: torch.Tensor) -> Any:
    """(C, h, w) -> (h, w, C), signed."""
    return pixels.permute(1, 2, 0).numpy().astype(int)


def reference(data: bytes, box: Box, size: tuple[int, int], mode: str = "RGB") -> Any:
    """(h, w, C): the whole image, turned upright, cropped, resized by Pillow."""
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert(mode)
    top, left, height, width = box
    part = upright.crop((left, top, left + width, top + height))
    pixels = np.asarray(part.resize(size[::-1], Image.Resampling.BICUBIC)).astype(int)
    return pixels if pixels.ndim == 3 else pixels[..., None]


@pytest.fixture(params=["simplejpeg", "Pillow"])
def _decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "Pillow":
        monkeypatch.setattr(encoded, "simplejpeg", None)
    else:
        pytest.importorskip("simplejpeg")


@pytest.mark.usefixtures("_decoder")
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation(kind: str, orientation: int) -> None:
    data = encode(picture(), kind, orientation)
    image = EncodedImage(data, "RGB", "a")
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert image.size == upright.size[::-1]
    np.testing.assert_array_equal(np.asarray(image.decode()), np.asarray(upright))

    box, size = Box(17, 9, 60, 80), (40, 30)  # not a square, off the centre
    difference = np.abs(array(image.crop(box, size)) - reference(data, box, size))
    assert difference.max() <= 2  # of columns and rows, either is resized and rounded first
    assert difference.mean() < 0.3

    box, size = Box(16, 8, 96, 96), (40, 48)  # a JPEG is decoded at half its resolution
    difference = np.abs(array(image.crop(box, size)) - reference(data, box, size))
    assert difference.mean() < (3 if kind == "JPEG" else 0.3)


@pytest.mark.usefixtures("_decoder")
def test_exif_that_pillow_cannot_write_again() -> None:
    """Other tags have no part in it: here a resolution that is a text, as some cameras write."""
    plain = encode(picture(), "JPEG")
    tags = ((274, 3, 1, struct.pack("<HH", 6, 0)), (282, 2, 4, b"300\0"))
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(tags))
    exif += b"".join(struct.pack("<HHI", *tag[:3]) + tag[3] for tag in tags) + bytes(4)
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    expected = np.rot90(np.asarray(Image.open(io.BytesIO(plain))), -1)
    image = EncodedImage(data, "RGB", "a")
    np.testing.assert_array_equal(np.asarray(image.decode()), expected)
    height, width = image.size
    np.testing.assert_array_equal(
        array(image.crop(Box(0, 0, height, width), (height, width))), expected
    )


@pytest.mark.usefixtures("_decoder")
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("stored", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_images_of_any_mode(kind: str, stored: str, mode: str) -> None:
    if (kind, stored) == ("PNG", "CMYK") or (kind == "JPEG" and stored in ("LA", "P", "RGBA")):
        pytest.skip("the format has no such mode")
    source = picture(mode=stored)
    expected = Image.open(io.BytesIO(encode(source, kind)))
    image = EncodedImage(encode(source, kind), mode, "a")
    whole = np.asarray(image.decode())
    np.testing.assert_array_equal(whole, np.asarray(expected.convert(mode)))

    pixels = image.crop(Box(8, 16, 40, 24), (40, 24))  # as large as the box: nothing is resized
    assert pixels.dtype == torch.uint8
    difference = np.abs(array(pixels) - whole.reshape(120, 176, -1)[8:48, 16:40])
    # The luma of a colour JPEG is taken as it is stored; Pillow computes it from rounded RGB.
    assert difference.max() <= (2 if (kind, mode, stored) == ("JPEG", "L", "RGB") else 0)


@pytest.mark.usefixtures("_decoder")
@pytest.mark.parametrize(
    ("size", "factor"),
    [((120, 176), 1), ((61, 88), 1), ((60, 89), 1), ((60, 88), 2), ((30, 44), 4), ((15, 22), 8)],
)
def test_a_jpeg_is_decoded_at_the_least_scale_that_is_enough(
    size: tuple[int, int], factor: int
) -> None:
    data = encode(picture())
    at_scale = Image.open(io.BytesIO(data))
    at_scale.draft("RGB", (176 // factor, 120 // factor))
    pixels = v2.functional.pil_to_tensor(at_scale)
    assert pixels.shape == (3, 120 // factor, 176 // factor)
    expected = v2.functional.resize(pixels, list(size), v2.InterpolationMode.BICUBIC)
    crop = EncodedImage(data, "RGB", "a").crop(Box(0, 0, 120, 176), size)
    assert (crop.int() - expected.int()).abs().max() <= 1  # memory formats round differently


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("stored", ["L", "RGB"])
@pytest.mark.parametrize("extent", [(120, 176), (117, 171)])
def test_both_decoders_give_the_same_pixels(
    extent: tuple[int, int], stored: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("simplejpeg")
    image = EncodedImage(encode(picture(*extent, mode=stored)), mode, "a")
    boxes = [Box(0, 0, 117, 171), Box(0, 1, 117, 170), Box(7, 11, 101, 153), Box(3, 5, 2, 3)]
    cases = [(box, (size, size + 2)) for box in boxes for size in (12, 24, 50, 117)]
    fast = [image.crop(*case) for case in cases]
    monkeypatch.setattr(encoded, "simplejpeg", None)
    for case, pixels in zip(cases, fast, strict=True):
        assert torch.equal(image.crop(*case), pixels)


@pytest.mark.parametrize("number", range(12))
def test_the_pretraining_crop_is_that_of_torchvision(number: int) -> None:
    """The same generators, the same box, the same pixels as from the whole image."""
    data = encode(picture())
    pixels = v2.functional.pil_to_tensor(Image.open(io.BytesIO(data)))
    crop = v2.RandomResizedCrop(
        (96, 64), scale=(0.2, 1.0), interpolation=v2.InterpolationMode.BICUBIC
    )
    torch.manual_seed(number)
    noise = torch.rand(24)
    expected = v2.RandomHorizontalFlip()(crop(pixels))
    torch.manual_seed(number)
    sample = PretrainTransform((96, 64), 24)(EncodedImage(data, "RGB", "a"), 0, number)
    assert torch.equal(sample["noise"], noise)
    assert (sample["image"].int() - expected.int()).abs().max() <= 1


@pytest.mark.usefixtures("_decoder")
def test_damaged_bytes_are_named() -> None:
    data = encode(picture())
    for damaged, reason in ((b"nothing", "no image"), (b"", "no image"), (data[:900], "truncated")):
        with pytest.raises(UnreadableImageError, match=f"cat.jpg: .*{reason}"):
            EncodedImage(damaged, "RGB", "cat.jpg").crop(Box(0, 0, 96, 96), (24, 24))


def test_what_only_pillow_reads_is_read() -> None:
    """The decoder simplejpeg refuses a restart marker out of place; Pillow goes on."""
    data = bytearray(encode(picture()))
    data[data.index(b"\xff\xda") + 40 : data.index(b"\xff\xda") + 42] = b"\xff\xd3"
    with pytest.raises(ValueError, match="Corrupt JPEG data"):
        pytest.importorskip("simplejpeg").decode_jpeg(bytes(data))
    crop = EncodedImage(bytes(data), "RGB", "a").crop(Box(0, 0, 96, 96), (24, 24))
    assert crop.shape == (3, 24, 24)
