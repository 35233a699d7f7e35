"""Networks in stages for transformers: Swin, ConvNeXt (and V2), ResNet, PVT and Hiera.

Start reading at `convert`. A network is a `Kind`: what transformers lacks of it, its configuration
and the names of its tensors.
"""

from .convert import check_same, to_backbone

__all__ = ["check_same", "to_backbone"]
