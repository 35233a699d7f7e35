"""Images as a data set stores them: encoded files, arrays, and the column that holds them.

This package imports nothing else of `mae_et`.
"""

from .arrays import ArrayImage
from .boxes import Box
from .encoded import MODES, EncodedImage, UnreadableImageError, allow_pixels
from .file_states import file_states
from .shrink import Shrunk, shrink
from .table import (
    ORIGIN,
    TEXTS,
    AnyImage,
    ImageTable,
    holds_images,
    image_column,
    is_picture,
    open_image,
    origin_of,
    place_of,
    read_cell,
    undecoded,
)

__all__ = [
    "MODES",
    "ORIGIN",
    "TEXTS",
    "AnyImage",
    "ArrayImage",
    "Box",
    "EncodedImage",
    "ImageTable",
    "Shrunk",
    "UnreadableImageError",
    "allow_pixels",
    "file_states",
    "holds_images",
    "image_column",
    "is_picture",
    "open_image",
    "origin_of",
    "place_of",
    "read_cell",
    "shrink",
    "undecoded",
]
