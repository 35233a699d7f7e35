"""The networks: the masked autoencoder and its parts, and any backbone at any size.

Importing it registers CSWin and PVT with timm.

Of the rest of `mae_et`, this package imports only `curriculum` (for sizes), `lowfreq` and `errors`.
"""

from .any_size import SizedModel
from .backbone import build_backbone, total_stride
from .decoder import SelfDecoder
from .encoder import FROM_ELSEWHERE, create_timm, create_vit, with_class_tokens
from .flops import counted_flops, training_flops
from .hiera_units import split_positions
from .mae import MaskedAutoencoder
from .masked import MaskedModel
from .masking import num_visible_patches
from .methods import METHODS, create_masked
from .networks import CSWinTransformer, PyramidTransformer, PyramidVisionTransformer
from .pos_embed import Grid, resample_table
from .simmim import SimMIM
from .targets import unnormalize

__all__ = [
    "FROM_ELSEWHERE",
    "METHODS",
    "CSWinTransformer",
    "Grid",
    "MaskedAutoencoder",
    "MaskedModel",
    "PyramidTransformer",
    "PyramidVisionTransformer",
    "SelfDecoder",
    "SimMIM",
    "SizedModel",
    "build_backbone",
    "counted_flops",
    "create_masked",
    "create_timm",
    "create_vit",
    "num_visible_patches",
    "resample_table",
    "split_positions",
    "total_stride",
    "training_flops",
    "unnormalize",
    "with_class_tokens",
]
