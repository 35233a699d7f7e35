"""The classifier: any backbone by name, its head, and the weights that it starts from."""

from .classifier import (
    build_classifier,
    build_encoder,
    load_classifier,
    parameter_groups,
    save_classifier,
    saved_top1,
    size_multiple,
)

__all__ = [
    "build_classifier",
    "build_encoder",
    "load_classifier",
    "parameter_groups",
    "save_classifier",
    "saved_top1",
    "size_multiple",
]
