"""The header of an ordinary JPEG: what Pillow says of it, or nothing."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from PIL import Image

from mae_et.data.images import Box, EncodedImage, UnreadableImageError, allow_pixels
from mae_et.data.images.jpeg_header import read_jpeg_header
from tests.support.images import encode, picture


def saved(mode: str = "RGB", kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture(97, 130, mode).save(buffer, kind, **options)
    return buffer.getvalue()


def with_segment(marker: int, body: bytes) -> bytes:
    """A JPEG with a segment more, behind its first one."""
    encoded = saved()
    place = 4 + int.from_bytes(encoded[4:6])
    segment = bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2) + body
    return encoded[:place] + segment + encoded[place:]


@pytest.mark.parametrize(
    "encoded",
    [
        saved(),
        saved("L"),
        saved(progressive=True),
        saved(subsampling=0, restart_marker_blocks=3, comment="no EXIF in here: \xff\xda"),
        saved(icc_profile=bytes(range(256)) * 300),
        with_segment(0xED, b"Photoshop 3.0\0" + bytes(20)),
    ],
)
def test_an_ordinary_file_is_read_as_pillow_reads_it(
    encoded: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("simplejpeg")
    opened = Image.open(io.BytesIO(encoded))
    assert read_jpeg_header(encoded) == (*opened.size[::-1], opened.mode)
    box, size = Box(11, 20, 61, 77), (32, 24)
    ours = EncodedImage(encoded, "RGB", "a")
    monkeypatch.setattr("mae_et.data.images.encoded.read_jpeg_header", lambda encoded: None)
    pillows = EncodedImage(encoded, "RGB", "a")
    assert torch.equal(ours.crop(box, size), pillows.crop(box, size))
    facts = [{**vars(image), "_opened": None} for image in (ours, pillows)]
    assert facts[0] == facts[1]


@pytest.mark.parametrize(
    "encoded",
    [
        encode(picture(), orientation=6),
        with_segment(0xE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'),
        with_segment(0xE2, b"MPF\0" + bytes(20)),
        saved("CMYK"),
        saved(kind="PNG"),
        saved()[:200],
        saved()[:3],
        b"",
        saved().replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"),  # 12 bits
        saved().replace(b"\xff\xc0\0\x11\x08\0\x61", b"\xff\xc0\0\x11\x08\0\0"),  # no height
        saved().replace(b"\xff\xc4", b"\xff\xcc", 1),  # arithmetic coding
        saved().replace(b"\xff\xdb", b"\0\0", 1),
    ],
)
def test_of_any_other_file_it_says_nothing(encoded: bytes) -> None:
    assert read_jpeg_header(encoded) is None


def test_too_many_pixels_are_refused_without_a_look_by_pillow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    allow_pixels(97 * 130)
    assert EncodedImage(saved(), "RGB", "a").size == (97, 130)
    allow_pixels(97 * 130 - 1)
    with pytest.raises(UnreadableImageError, match="12609 pixels that max_pixels allows"):
        EncodedImage(saved(), "RGB", "a")
