"""Tables and tar files, made as others make them."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mae_et import data
from mae_et.data.streaming.order import Span


def picture_bytes(shade: int, kind: str = "PNG") -> bytes:
    """An image of one shade."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(buffer, kind)
    return buffer.getvalue()


def npy_bytes(shade: int) -> bytes:
    """An array of one shade as a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, np.full((3, 8, 8), shade, np.uint8))
    return buffer.getvalue()


def write_parquet(file: Path, **columns: Any) -> Path:
    """Write columns as others do: without the metadata of `datasets`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file)
    return file


def write_tar(file: Path, members: Mapping[str, bytes], mode: Any = "w") -> Path:
    """Write members in the order given."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, mode) as tar:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return file


def shades(path: str, column: str | None = None, split: str = "train") -> list[int]:
    """The shade of each image of a table, in order."""
    images = data.ImageTable(data.load_splits(path)[split], column, 3)
    whole = (images[row].crop(data.Box(0, 0, 8, 8), (8, 8)) for row in range(len(images)))
    return [int(pixels.flatten()[0]) for pixels in whole]


def span(shard: int, images: data.StreamedImages) -> Span:
    """All rows of a shard that are not held out."""
    return Span(shard=shard, first=images.left_out[shard], number=None)


def replaced(file: Path, start: int, content: bytes) -> None:
    """Overwrite bytes of a file; a negative start counts from its end."""
    whole = bytearray(file.read_bytes())
    start = start if start >= 0 else len(whole) + start
    whole[start : start + len(content)] = content
    file.write_bytes(whole)


class Hostile:
    """Creates a file when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return (os.mkdir, ("executed",))
