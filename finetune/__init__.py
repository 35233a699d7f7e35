"""Supervised fine-tuning of a pretrained encoder, or training of any network from scratch.

What is public is imported when it is first used, since torch and timm take seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import ClassifierRun, finetune, probe_encoder

__all__ = ["ClassifierRun", "finetune", "probe_encoder"]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(".api", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
