"""What is known about a class of networks to convert it to transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ..from_transformers import Renaming


class Kind(NamedTuple):
    """How networks of a class are converted."""

    name: str
    """What transformers' classes begin with; in small letters, what a classifier's tensors do."""
    lacks: Callable[[Any], Mapping[str, bool]]
    """What transformers cannot express -> whether a network has it."""
    config: Callable[[Any], dict[str, Any]]
    """The fields of the configuration of a network."""
    renaming: Callable[[Any], Renaming]
    """timm's names to the Hub's."""
    weights: Callable[[Any], dict[str, Tensor]]
    """A network's weights by timm's names, as transformers needs them."""
    pool: str = "avg"
    """The pooling of a classifier."""
