"""Which files are images, by the endings of their names."""

from __future__ import annotations

from functools import cache

from PIL import Image

COMMON_ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".npy"}
"""Common endings of images; for others Pillow is asked, which has to load its plug-ins first."""

NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
"""Formats that Pillow recognises but cannot decode, or only by starting another program."""


@cache
def image_endings() -> frozenset[str]:
    """Return the endings, in lower case and with their dot, of files that may be images."""
    Image.init()
    formats = Image.OPEN.keys() - NOT_DECODED
    known = {ending for ending, name in Image.EXTENSION.items() if name in formats}
    return frozenset(known | COMMON_ENDINGS)
