"""Folders of images: what is in them, how to read their layout, and their images as a data set.

Of the rest of `mae_et`, this package imports `errors`, and `found`, `scratch` and `images` of
`data`.
"""

from .dataset import open_folder
from .layout import LAYOUTS

__all__ = ["LAYOUTS", "open_folder"]
