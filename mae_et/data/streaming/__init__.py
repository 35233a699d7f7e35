"""Data sets that are read as a stream: their shards, the order of their rows, and their samples.

Imports `errors` and its neighbours in `data`.
"""

from .lanes import StreamedSamples
from .shards import HeldOutImages, StreamedImages

__all__ = [
    "HeldOutImages",
    "StreamedImages",
    "StreamedSamples",
]
