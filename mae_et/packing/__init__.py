"""Pack a data set: its big images rewritten once, at the size that training needs, into shards.

- packer: the command from top to bottom; options: what it is asked for
- source: the data set, and its images as workers make them smaller
- columns: labels and further columns, and how a tar file holds them
- shards: the files that are written
- state: what a folder holds already, so that a killed command goes on
- speed: how fast training's own loader reads images; summary: what is said at the end
"""

from .options import FORMATS, PackOptions
from .packer import pack
from .summary import PackSummary

__all__ = ["FORMATS", "PackOptions", "PackSummary", "pack"]
