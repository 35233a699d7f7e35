"""Folders of images: what is in them, how to read their layout, and their images as a data set.

This package imports `errors` from the rest of `mae_et`, and nothing else.
"""

from .dataset import open_folder
from .layout import LAYOUTS

__all__ = ["LAYOUTS", "open_folder"]
