"""Masked-autoencoder pretraining of vision transformers under the EfficientTrain curriculum."""

from .curriculum import Curriculum, Stage
from .lowfreq import low_frequency_crop
from .model import MaskedAutoencoder
from .timm_folder import export_encoder
from .weights import load_mae_checkpoint

__version__ = "0.1.0"

__all__ = [
    "Curriculum",
    "MaskedAutoencoder",
    "Stage",
    "export_encoder",
    "load_mae_checkpoint",
    "low_frequency_crop",
]
