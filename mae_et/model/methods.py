"""The methods of masked pretraining by name, as in `model.method`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import check
from .hiera import HieraAutoencoder
from .mae import MaskedAutoencoder
from .masked import MaskedModel
from .simmim import SimMIM

METHODS: dict[str, type[MaskedModel]] = {
    kind.method: kind for kind in (MaskedAutoencoder, SimMIM, HieraAutoencoder)
}
"""Method -> its model."""


def create_masked(arguments: Mapping[str, Any]) -> MaskedModel:
    """Create the model of a section `model`.

    Args:
        arguments: Its fields; those written before there were methods have none, and are MAE's.
            Fields of other methods, which `ModelConfig` keeps at their defaults, are left out.

    Raises:
        ValueError: There is no such method, or its model can't be built.
    """
    given = dict(arguments)
    method = given.pop("method", "mae")
    check(method in METHODS, "model.method", method, f"one of {', '.join(METHODS)}")
    kind = METHODS[method]
    return kind(**{name: value for name, value in given.items() if name not in kind.other_fields})
