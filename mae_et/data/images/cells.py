"""Cells that hold no image as they are: what they hold, and how they are converted."""

from __future__ import annotations

import base64
import binascii
import io
from itertools import islice
from typing import Any

from PIL import Image

from .endings import image_endings

SHOWN = 24
"""The most characters of a cell that a message shows."""


def describe_cells(dataset: Any, column: str) -> str:
    """Say what the first cell of a column holds, if it stands for an image, and how to convert it.

    Args:
        dataset: A data set or stream.
        column: A column that holds neither images nor arrays.

    Returns:
        Half a sentence for a message; empty if the cell stands for no image.
    """
    rows = dataset.select_columns([column]).with_format("arrow")
    cells = (row[column][0].as_py() for row in islice(rows, 100))
    cell = next((cell for cell in cells if cell is not None), None)
    if isinstance(cell, list) and cell and _is_one(cell[0]):
        return (
            f"{column!r} holds lists of images, the first of {len(cell)}: give each image a row of "
            f"its own, as pandas does by explode({column!r})"
        )
    if not isinstance(cell, str):
        return ""
    shown = repr(cell if len(cell) <= SHOWN else cell[:SHOWN] + "…")
    if cell.startswith(("http://", "https://", "s3://", "gs://", "hf://")):
        return f"{column!r} holds addresses such as {shown}: download the images first"
    if cell.startswith("data:image/") or _is_base64(cell):
        return (
            f"{column!r} holds base64 text such as {shown}: write it as bytes, by map(lambda row: "
            f"{{{column!r}: base64.b64decode(row[{column!r}])}}) of `datasets`"
        )
    if cell.lower().endswith(tuple(image_endings())):
        return (
            f"{column!r} holds paths such as {shown}, of no file: they must be absolute, or "
            "relative to the folder of the table"
        )
    return ""


def _is_one(cell: Any) -> bool:
    """Whether an element of a list is an image: a file as bytes, or its bytes and path."""
    return isinstance(cell, bytes) or (isinstance(cell, dict) and "bytes" in cell)


def _is_base64(text: str) -> bool:
    try:
        start = base64.b64decode("".join(text[:4096].split())[:2048], validate=True)
        Image.open(io.BytesIO(start)).close()
    except (binascii.Error, ValueError, OSError, SyntaxError):
        return False
    return True
