"""The networks: the masked autoencoder and its parts, and any backbone at any size.

Importing it registers CSWin and PVT with timm.

Of the rest of `mae_et`, this package imports only `curriculum` (for sizes), `lowfreq` and `errors`.
"""

from .any_size import SizedModel
from .decoder import SelfDecoder
from .encoder import FROM_ELSEWHERE, create_vit, with_class_tokens
from .flops import training_flops
from .mae import MaskedAutoencoder
from .masking import num_visible_patches
from .networks import CSWinTransformer, PyramidTransformer, PyramidVisionTransformer
from .pos_embed import Grid, resample_table
from .targets import unnormalize

__all__ = [
    "FROM_ELSEWHERE",
    "CSWinTransformer",
    "Grid",
    "MaskedAutoencoder",
    "PyramidTransformer",
    "PyramidVisionTransformer",
    "SelfDecoder",
    "SizedModel",
    "create_vit",
    "num_visible_patches",
    "resample_table",
    "training_flops",
    "unnormalize",
    "with_class_tokens",
]
