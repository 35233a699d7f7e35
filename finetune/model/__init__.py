"""The classifier: any backbone by name, its head, the weights it starts from, and its folder.

Imports `mae_et`'s packages and `finetune.config`.
"""

from .classifier import build_classifier, build_encoder, parameter_groups, size_multiple
from .saved import load_classifier, save_classifier, saved_top1
from .weights import linear_head

__all__ = [
    "build_classifier",
    "build_encoder",
    "linear_head",
    "load_classifier",
    "parameter_groups",
    "save_classifier",
    "saved_top1",
    "size_multiple",
]
