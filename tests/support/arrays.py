"""Images of five channels and of deep pixels, and files of them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

CHANNELS = 5


def pixels(dtype: str = "uint16", *, number: int = 0, channels: int = CHANNELS) -> Any:
    """(C, 20, 30): each channel with its own range, smooth enough to be resized."""
    rng = np.random.default_rng(number)
    coarse = rng.random((channels, 5, 6)) * np.arange(1, channels + 1)[:, None, None] / channels
    values = coarse.repeat(4, 1).repeat(5, 2)
    kind = np.dtype(dtype)
    scaled = values * np.iinfo(kind).max if kind.kind == "u" else values * 3 - 1
    return scaled.astype(kind)


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def tiff(array: Any, **options: Any) -> bytes:
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()
