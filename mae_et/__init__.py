"""Masked-autoencoder pretraining of vision transformers under the EfficientTrain curriculum.

What is public is imported when it is first used: torch and timm take seconds, which neither the
curriculum nor `--help` needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Run, embed, pack, plan, pretrain
    from .curriculum import Curriculum, Stage, learning_rate
    from .lowfreq import low_frequency_crop
    from .model import MaskedAutoencoder
    from .weights import export_encoder, load_mae_checkpoint

__version__ = "0.2.0"

__all__ = [
    "Curriculum",
    "MaskedAutoencoder",
    "Run",
    "Stage",
    "embed",
    "export_encoder",
    "learning_rate",
    "load_mae_checkpoint",
    "low_frequency_crop",
    "pack",
    "plan",
    "pretrain",
]

_MODULES = {
    "Curriculum": "curriculum",
    "MaskedAutoencoder": "model",
    "Run": "api",
    "Stage": "curriculum",
    "embed": "api",
    "export_encoder": "weights",
    "learning_rate": "curriculum",
    "load_mae_checkpoint": "weights",
    "low_frequency_crop": "lowfreq",
    "pack": "api",
    "plan": "api",
    "pretrain": "api",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
