"""Data sets that are read as a stream: their shards, the order of their rows, and their samples.

Of the rest of `mae_et`, this package imports `errors` and modules of `data`.
"""

from .lanes import StreamedSamples
from .shards import HeldOutImages, StreamedImages

__all__ = [
    "HeldOutImages",
    "StreamedImages",
    "StreamedSamples",
]
