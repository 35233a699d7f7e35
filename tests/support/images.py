"""Images and tables of images, made rather than read; and damaged ones."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

from mae_et import data

ORIENTATION = 0x0112


def picture(height: int = 120, width: int = 176, mode: str = "RGB") -> Image.Image:
    """Coloured noise, smooth enough to survive JPEG."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encode(image: Image.Image, kind: str = "JPEG", orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    buffer = io.BytesIO()
    image.save(buffer, kind, exif=exif, **({"quality": 90} if kind == "JPEG" else {}))
    return buffer.getvalue()


def table(images: list[Image.Image], in_chans: int = 3) -> data.ImageTable:
    return data.ImageTable(
        datasets.Dataset.from_dict(
            {"image": images}, features=datasets.Features({"image": datasets.Image()})
        ),
        None,
        in_chans,
    )


def black() -> data.ImageTable:
    return table([Image.new("L", (8, 8))], in_chans=1)


def damaged_folder(source: Path, target: Path, number: int) -> Path:
    files = sorted(source.rglob("*.png"))
    for index, file in enumerate(files):
        copy = target / file.parent.name / file.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(b"no image at all" if index < number else file.read_bytes())
    return target


def png(width: int, height: int) -> bytes:
    """A PNG file of a few bytes that claims a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in chunks)


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


ROWS = (37, 29, 37, 11, 30)
"""Images of each shard; 144 in all."""


def numbered_png(number: int) -> bytes:
    """An image whose pixels tell its number."""
    buffer = io.BytesIO()
    pixels = np.full((16, 16, 3), (number // 256, number % 256, 7), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
