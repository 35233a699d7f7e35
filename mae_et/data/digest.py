"""A digest of a run's images, by which a later start notices that the data have changed.

It covers their number, names and sizes, in order; no image is read. So it does not depend on where
a folder lies, nor on times of files, and costs a second for some 100,000 files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from .images import ImageTable, file_states
from .mixture import Mixture
from .streaming.shards import StreamedImages


def digest_images(images: Any) -> str:
    """Return a digest of the number, names and sizes of images, in their order.

    Args:
        images: An `ImageTable`, a `Mixture`, or `StreamedImages`, of which only the number of rows
            of each shard is known; of any others, the number is.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in _parts(images):
        digest.update(part)
    return digest.hexdigest()


def _parts(images: Any) -> Iterator[bytes]:
    yield f"{len(images)}\n".encode()
    if isinstance(images, Mixture):
        for table in images.tables:
            yield from _parts(table)
    elif isinstance(images, StreamedImages):
        yield f"{images.lengths}\n".encode()
    elif isinstance(images, ImageTable):
        column = images.rows.data.column(images.column)  # of the split, also if rows are selected
        yield f"{len(column)} {column.type}\n".encode()
        if pa.types.is_struct(column.type):
            yield from _encoded(column)
        states = file_states(images.rows, images.column)
        yield np.fromiter((state.size for state in states), np.int64).tobytes()


def _encoded(column: pa.ChunkedArray) -> Iterator[bytes]:
    """Yield the sizes and names of encoded images, as the cells have them."""
    lengths = pa.compute.binary_length(pa.compute.struct_field(column, "bytes"))
    yield pa.compute.fill_null(lengths, -1).to_numpy().astype(np.int64).tobytes()
    if "path" in [field.name for field in column.type]:
        paths = pa.compute.struct_field(column, "path")
        ends = pa.compute.min_max(paths).as_py().values()  # what they share, all do
        common = os.path.commonprefix([path or "" for path in ends])  # noqa: RUF071
        start = common.rfind("/") + 1  # of the deepest folder that holds all of them
        for chunk in paths.chunks:
            yield "".join(f"{(path or '')[start:]}\n" for path in chunk.to_pylist()).encode()
