"""Damaged files, and files made to do harm: one clear line each, no program, little memory."""

from __future__ import annotations

import io
import logging
import os
import struct
import subprocess
import zlib
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, IptcImagePlugin

from mae_et import data
from tests.support.arrays import pixels, tiff
from tests.support.images import chunk, encode, picture, png

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\nshowpage\n%%EOF\n"
BANDS = {"photometric": "minisblack"}


def cut(encoded: bytes, length: int) -> bytes:
    return encoded[:length]


def with_bad_checksum(encoded: bytes, kind: bytes) -> bytes:
    """A PNG file in which the checksum of the first chunk of a kind is wrong."""
    start = encoded.index(kind)
    stop = start + 4 + int.from_bytes(encoded[start - 4 : start])
    return encoded[:stop] + b"\0\0\0\0" + encoded[stop + 4 :]


def with_chunk(kind: bytes, body: bytes, *, at_end: bool = False) -> bytes:
    """A sound PNG file with a chunk more, after its header or before its end."""
    encoded = encode(picture(), "PNG")
    place = len(encoded) - 12 if at_end else 33
    return encoded[:place] + chunk(kind, body) + encoded[place:]


def animated(kind: str) -> bytes:
    frames = [Image.new("RGB", (30, 20), (shade, 0, 0)) for shade in (250, 90, 10)]
    buffer = io.BytesIO()
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], **options)
    return buffer.getvalue()


def tiff_in_a_loop(bands: int = 1) -> bytes:
    """A TIFF file whose only directory names itself as the next one."""
    start = 8 + 128 * bands
    fields = {256: 8, 257: 8, 258: 16, 259: 1, 262: 1, 273: 8, 277: bands, 278: 8, 279: 128 * bands}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields.items()]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", start)
    return struct.pack("<4sI", b"II*\0", start) + bytes(start - 8) + directory


def jpeg_with_much_exif() -> bytes:
    """20 MB of it, and its first offset points nowhere."""
    encoded = encode(picture())
    segment = b"\xff\xe1\xff\xffExif\0\0MM\0*\0\0\0\x08" + b"\xff" * 65519
    return encoded[:2] + 300 * segment + encoded[2:]


def iptc(inside: bytes) -> bytes:
    """A file of the International Press Telecommunications Council, with another one inside."""

    def field(record: int, kind: int, value: bytes) -> bytes:
        return struct.pack(">BBBH", 0x1C, record, kind, len(value)) + value

    header = field(3, 60, b"\1\0") + field(3, 20, b"\x09") + field(3, 30, b"\x09")
    return header + field(3, 120, b"\5") + field(8, 10, inside)


def array_of_objects() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}]), allow_pickle=True)
    return buffer.getvalue()


def one_header_of_16_bits() -> bytes:
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "truncated JPEG": (lambda: cut(encode(picture()), 900), "truncated"),
    "truncated PNG": (lambda: cut(encode(picture(), "PNG"), 9000), "truncated"),
    "truncated TIFF": (lambda: cut(encode(picture(), "TIFF"), 9000), "."),
    "PNG with a wrong checksum": (lambda: with_bad_checksum(png(8, 8), b"IHDR"), "no image"),
    "GIF without frames": (lambda: b"GIF89a\x08\0\x08\0\0\0\0;", "no image"),
    "decompression bomb": (
        lambda: png(30_000, 30_000),
        "more than the 178956970 pixels that max_pixels allows",
    ),
    "deep bomb": (one_header_of_16_bits, "more than the 178956970 pixels that max_pixels allows"),
    "no pixels": (lambda: png(0, 0), "no image"),
    "SVG": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", "no image"),
    "HTML": (lambda: b"<!DOCTYPE html>\n<html><img src='http://a/'></html>", "no image"),
    "no bytes": (lambda: b"", "no image"),
    "zeros": (lambda: bytes(5000), "no image"),
    "EPS": (lambda: EPS, "EPS is not read, since that may start a program"),
    "EPS with a preview": (
        lambda: b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, len(EPS)) + bytes(20) + EPS,
        "EPS is not read",
    ),
    "EPS inside": (lambda: iptc(EPS), "IPTC is not read"),
    "TIFF without directory": (lambda: b"II*\0\xff\xff\xff\xff", "no "),
    "array of objects": (array_of_objects, "allow_pickle=False"),
}


@pytest.fixture(autouse=True)
def _no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow believes that Ghostscript is there, and a program that is started is an error."""

    def started(*command: object, **_: object) -> NoReturn:
        raise SystemExit(f"started: {command}")

    monkeypatch.setattr(EpsImagePlugin, "gs_binary", "gs", raising=False)
    for name in ("Popen", "run", "call", "check_call", "check_output"):
        monkeypatch.setattr(subprocess, name, started)
    monkeypatch.setattr(os, "system", started)


def opened(encoded: bytes, in_chans: int = 3) -> Any:
    return data.open_image({"bytes": encoded, "path": None}, in_chans, "a.jpg")


def test_the_fixture_sees_ghostscript_start() -> None:
    with pytest.raises(SystemExit, match="started"):
        Image.open(io.BytesIO(EPS)).load()
    pytest.importorskip("PIL", minversion="10.2")  # older ones can't read what is inside
    with pytest.raises(SystemExit, match="started"):
        IptcImagePlugin.IptcImageFile(io.BytesIO(iptc(EPS))).load()


@pytest.mark.parametrize("in_chans", [1, 3, 5])
@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(
    name: str, in_chans: int, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    make, reason = REFUSED[name]
    reason = reason if in_chans == 3 else "."
    with pytest.raises(data.UnreadableImageError, match=f"^a.jpg: .*{reason}") as caught:
        opened(make(), in_chans).crop(data.Box(0, 0, 8, 8), (8, 8))
    assert "\n" not in str(caught.value)
    assert not any(capfd.readouterr())
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


READ: dict[str, Callable[[], bytes]] = {
    "text that is large when it is unpacked": lambda: with_chunk(
        b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20 << 20))
    ),
    "international text": lambda: with_chunk(
        b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(20 << 20))
    ),
    "text at the end": lambda: with_chunk(
        b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20 << 20)), at_end=True
    ),
    "much text": lambda: with_chunk(b"tEXt", b"Comment\0" + bytes(65 << 20)),
    "colour profile": lambda: with_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(20 << 20))),
    "EXIF that points nowhere": lambda: with_chunk(b"eXIf", b"MM\0*\0\0\0\x08" + b"\xff" * 9999),
    "wrong checksum of pixels": lambda: with_bad_checksum(encode(picture(), "PNG"), b"IDAT"),
    "much EXIF": jpeg_with_much_exif,
}


@pytest.mark.parametrize("name", READ)
def test_what_does_not_concern_pixels_is_passed_over(name: str) -> None:
    image = opened(READ[name]())
    plain = opened(encode(picture(), "JPEG" if name == "much EXIF" else "PNG"))
    np.testing.assert_array_equal(np.asarray(image.decode()), np.asarray(plain.decode()))
    box = data.Box(0, 0, 96, 96), (24, 24)
    assert image.crop(*box).equal(plain.crop(*box))


def test_a_text_with_the_orientation_is_kept() -> None:
    """Among others that are too large."""
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = exif.tobytes()
    body = f"\nexif\n{len(profile):8d}\n{profile.hex()}\n".encode()
    buffer = io.BytesIO()
    picture().save(buffer, "PNG")
    header, rest = buffer.getvalue()[:33], buffer.getvalue()[33:]
    text = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(body))
    large = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20 << 20)))
    assert opened(header + rest).size == (120, 176)
    assert opened(header + text + rest).size == (176, 120)
    assert opened(header + large + text + rest).size == (176, 120)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_a_film_is_seen(kind: str) -> None:
    found = np.asarray(opened(animated(kind)).decode())
    assert found.shape == (20, 30, 3)
    assert (found == (250, 0, 0)).all()


def test_directories_in_a_loop(capfd: pytest.CaptureFixture[str]) -> None:
    """The first page is there, and no more are looked for than there are channels."""
    for in_chans in (1, 3):
        assert opened(tiff_in_a_loop(), in_chans).size == (8, 8)
    with pytest.raises(data.UnreadableImageError, match="5 channels are asked for, it is"):
        opened(tiff_in_a_loop(), 5)
    assert not any(capfd.readouterr())


@pytest.mark.parametrize("length", [3000, 5000])
def test_a_truncated_file_of_bands(length: int) -> None:
    with pytest.raises(data.UnreadableImageError, match=r"^a.jpg: "):
        opened(tiff(pixels(), **BANDS)[:-length], 5)


def test_a_file_with_more_bands_than_asked_for_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile = pytest.importorskip("tifffile")
    many = tiff(np.zeros((40, 20, 30), np.uint16), **BANDS)
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", None)
    with pytest.raises(data.UnreadableImageError, match="5 channels are asked for, it is 40 × 20"):
        opened(many, 5)


@pytest.fixture
def _limit() -> Any:
    before = Image.MAX_IMAGE_PIXELS
    yield
    Image.MAX_IMAGE_PIXELS = before


@pytest.mark.usefixtures("_limit")
def test_the_limit_of_pixels_can_be_moved() -> None:
    wide = encode(Image.new("L", (400, 10)), "PNG")
    bands = tiff(pixels(), **BANDS)  # 20 × 30
    data.allow_pixels(3999)
    with pytest.raises(data.UnreadableImageError, match="more than the 3999 pixels"):
        opened(wide)
    assert opened(bands, 5).size == (20, 30)
    data.allow_pixels(4000)  # of which Pillow would warn
    assert opened(wide).size == (10, 400)
    data.allow_pixels(599)
    with pytest.raises(data.UnreadableImageError, match="more than the 599 pixels"):
        opened(bands, 5)
