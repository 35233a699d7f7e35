"""Images as a data set stores them: encoded files, arrays, and the column that holds them.

This package imports nothing else of `mae_et`.
"""

from .arrays import ArrayImage
from .encoded import MODES, Box, EncodedImage, UnreadableImageError
from .table import AnyImage, ImageTable, image_column, name_of, open_image, undecoded

__all__ = [
    "MODES",
    "AnyImage",
    "ArrayImage",
    "Box",
    "EncodedImage",
    "ImageTable",
    "UnreadableImageError",
    "image_column",
    "name_of",
    "open_image",
    "undecoded",
]
