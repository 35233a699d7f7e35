"""The column of images of a data set."""

from __future__ import annotations

import io
from functools import cached_property
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from .arrays import NPY_MAGIC, ArrayImage, read_npy
from .cells import describe_cells
from .deep import from_picture, read_tiff
from .encoded import MODES, EncodedImage, UnreadableImageError, reading

AnyImage = EncodedImage | ArrayImage

ORIGIN = "__origin__"
"""The column that tells the file and the row, or the member, that an image comes from."""


class ImageTable:
    """The images of a data set, read one by one.

    Args:
        dataset: A data set with a column of images; see `image_column`.
        column: The name of that column; None to find it.
        in_chans: Channels of the model. Pictures of any mode are converted to 1, 3 or 4 channels;
            arrays, and TIFF files that Pillow can't read, must have as many already.

    Raises:
        ValueError: There is no such column.
    """

    def __init__(self, dataset: datasets.Dataset, column: str | None, in_chans: int) -> None:
        self.column = image_column(dataset, column)
        self.rows = undecoded(dataset, self.column)
        self.in_chans = in_chans

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> AnyImage:
        """The image of a row.

        Raises:
            UnreadableImageError: The row holds no readable image; the message names it.
        """
        cell, place = self.cell(index)
        return open_image(cell, self.in_chans, place)

    def cell(self, index: int) -> tuple[Any, str]:
        """Return the cell of a row, as `read_cell` takes it, and its name for messages."""
        row = self._row(index)
        cell = row[self.column]
        return cell, _path_outside(cell) or place_of(cell, self._origin(row, index))

    def blank(self) -> Image.Image | Tensor:
        """Return a black image to stand in for one that can't be decoded."""
        if self.in_chans not in MODES:
            return torch.zeros(self.in_chans, 32, 32)
        return Image.new(MODES[self.in_chans], (32, 32))

    def name(self, index: int) -> str:
        """Return where the image of a row is; see `place_of`."""
        return self.cell(index)[1]

    @property
    def runs_user_code(self) -> bool:
        """Whether reading a row calls a function of the user's, as `set_transform` has it do."""
        return bool(self.rows.format["type"] == "custom")

    def __getstate__(self) -> dict[str, Any]:
        """What a worker needs: the data set knows how to send its rows, or where they lie."""
        return {name: value for name, value in vars(self).items() if name != "_stored"}

    @cached_property
    def _stored(self) -> dict[str, Any] | None:
        """The columns in Arrow, of a data set that returns what they hold."""
        if self.rows.format["type"] is not None:
            return None
        return {name: self.rows.data.column(name) for name in self.rows.column_names}

    def _row(self, index: int) -> Any:
        """Return a row as `rows[index]` does, straight from Arrow where that is the same."""
        if self._stored is None:
            return self.rows[index]
        indices = self.rows._indices  # of the rows that were selected, None for all in order
        number = index if indices is None else indices.column(0)[index].as_py()
        return {name: column[number].as_py() for name, column in self._stored.items()}

    def _origin(self, row: Any, index: int) -> str:
        """Where a row comes from: its file and row in it; or else its row before any selection."""
        origin = origin_of(row)
        if origin is not None:
            return origin
        indices = self.rows._indices
        number = index if indices is None else indices.column(0)[index].as_py()
        return f"{self.rows.split} row {number}"


TEXTS = (pa.string(), pa.large_string())
"""Types of paths."""


def image_column(dataset: Any, column: str | None) -> str:
    """Find the column of images of a data set or stream.

    That is a column of `datasets.Image`, or of the structs {bytes, path} that it is stored as; or,
    if there is none or it is named, one of arrays (`datasets.Array2D`, `Array3D`, nested lists of
    numbers) or of files as bytes.

    Args:
        dataset: A data set or stream.
        column: The name of the column; None for the only one of its kind.

    Returns:
        The name of the column.

    Raises:
        ValueError: There is no such column, or none is named and there are several.
    """
    features = {name: kind for name, kind in (dataset.features or {}).items() if name != ORIGIN}
    images = [name for name, kind in features.items() if is_picture(kind)]
    arrays = [name for name, kind in features.items() if _is_array(kind)]
    only = images or arrays
    found = column or (only[0] if len(only) == 1 else "")
    if found not in images + arrays:
        asked = (
            [column] if column and column in features else [] if images + arrays else list(features)
        )
        hints = [describe_cells(dataset, name) for name in asked]
        raise ValueError(
            f"data.image_column must be a column of images or arrays "
            f"({', '.join(images + arrays) or 'there is none'}; all columns: "
            f"{', '.join(features) or 'unknown, give the data set its features'}), got {column!r}"
            + "".join(f"; {hint}" for hint in hints if hint)
        )
    return found


def undecoded(dataset: Any, column: str) -> Any:
    """Select the column of images of a data set or stream, its cells as `open_image` takes them.

    The column `ORIGIN` stays beside it, if there is one.
    """
    origin = [ORIGIN] if ORIGIN in dataset.features else []
    only = dataset.select_columns([column, *origin])
    if is_picture(only.features[column]):
        return only.cast_column(column, datasets.Image(decode=False))
    return only.with_format("arrow")  # reading arrays as lists takes a hundred times as long


def place_of(cell: Any, origin: str) -> str:
    """Name an image by where it is: its file, or else its place in a table.

    Paths that are stored beside the bytes of images need not differ, so the place is told, too.

    Args:
        cell: A cell of a column of images.
        origin: The place of its row.
    """
    path = cell.get("path") if isinstance(cell, dict) else None
    return _path_outside(cell) or (f"{origin} ({path})" if path else origin)


def _path_outside(cell: Any) -> str | None:
    """Return the path of a cell that names a file without holding its bytes; None for others."""
    if not isinstance(cell, dict) or cell["bytes"] is not None:
        return None
    return cell.get("path") or None


def origin_of(row: Any) -> str | None:
    """Return where a row comes from, which its column `ORIGIN` tells; None without that column."""
    if isinstance(row, pa.Table):
        return row[ORIGIN][0].as_py() if ORIGIN in row.column_names else None
    origin: str | None = row.get(ORIGIN)
    return origin


def open_image(cell: Any, in_chans: int, name: str) -> AnyImage:
    """Open the image in a cell.

    Args:
        cell: Bytes or path as `datasets.Image(decode=False)` returns them; one row of an Arrow
            column of arrays or bytes; or an array or a Pillow image, which user code may return.
        in_chans: Channels of the model; see `ImageTable`.
        name: Name of the image for messages.

    Raises:
        UnreadableImageError: The cell holds no readable image.
    """
    stored = read_cell(cell, name)
    if isinstance(stored, np.ndarray):
        return ArrayImage(stored, in_chans, name)
    if stored.startswith(NPY_MAGIC):
        return ArrayImage(read_npy(stored, name), in_chans, name)
    bands = read_tiff(stored, in_chans, name)
    if bands is not None:
        return bands
    if in_chans not in MODES:
        raise UnreadableImageError(name, f"a picture, which can't have {in_chans} channels")
    picture = EncodedImage(stored, MODES[in_chans], name)
    return from_picture(picture) if picture.is_deep else picture


def read_cell(cell: Any, name: str) -> Any:
    """Return the bytes of the file that a cell holds or names, or else its array.

    Args:
        cell: As for `open_image`.
        name: Name of the image for messages.

    Raises:
        UnreadableImageError: The cell is empty, or its file can't be read.
    """
    if isinstance(cell, pa.ChunkedArray):
        row = cell.chunk(0)
        cell = row[0].as_py() if _is_bytes(row.type) else _to_numpy(row, name)
    if isinstance(cell, Image.Image):
        buffer = io.BytesIO()
        is_for_png = cell.mode in ("1", "L", "LA", "P", "RGB", "RGBA")
        with reading(name):
            cell.save(buffer, "PNG" if is_for_png else "TIFF", compress_level=0)
        cell = {"bytes": buffer.getvalue()}
    if isinstance(cell, dict):
        try:
            stored, path = cell["bytes"], cell.get("path")
            cell = _read_file(path) if stored is None and path else stored
        except OSError as error:
            raise UnreadableImageError(name, str(error.strerror or error)) from error
    if cell is None or (isinstance(cell, bytes) and not cell):
        raise UnreadableImageError(name, "no image")
    return cell


def _read_file(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # a Path takes twice as long
        return file.read()


def _is_bytes(kind: pa.DataType) -> bool:
    return kind in (pa.binary(), pa.large_binary())


def holds_images(features: Any) -> bool:
    """Whether any feature holds images, arrays or bytes."""
    return any(is_picture(kind) or _is_array(kind) for kind in features.values())


def is_picture(kind: Any) -> bool:
    """Whether a feature is an image, or the struct that one is stored as."""
    if isinstance(kind, dict) and "bytes" in kind:
        stored, path = (getattr(kind.get(name), "pa_type", None) for name in ("bytes", "path"))
        return (_is_bytes(stored) and path in (*TEXTS, pa.null(), None)) or (
            stored == pa.null() and path in TEXTS
        )
    return isinstance(kind, datasets.Image)


def _is_array(kind: Any) -> bool:
    """Whether a feature holds arrays or bytes."""
    if isinstance(kind, datasets.Array2D | datasets.Array3D):
        return True
    depth = 0
    while isinstance(kind, datasets.List | datasets.LargeList):
        kind, depth = kind.feature, depth + 1
    if not isinstance(kind, datasets.Value):
        return False
    is_number = pa.types.is_primitive(kind.pa_type)
    return (is_number and depth in (2, 3)) or (_is_bytes(kind.pa_type) and depth == 0)


def _to_numpy(row: pa.Array, name: str) -> Any:
    """One row of nested lists as an array of its numeric type; None for null.

    Raises:
        UnreadableImageError: The lists do not form a rectangle, or values are missing.
    """
    values = row.storage if isinstance(row, pa.ExtensionArray) else row
    if values.null_count:
        return None
    shape = []
    while pa.types.is_nested(values.type):
        lengths = values.value_lengths().unique().to_pylist()
        if len(lengths) != 1 or lengths == [None]:
            raise UnreadableImageError(name, "an array of rows of several lengths")
        shape += lengths
        values = values.flatten()
    if values.null_count:
        raise UnreadableImageError(name, "missing values")
    return values.to_numpy(zero_copy_only=False).reshape(shape)
