"""The methods of masked pretraining by name, as in `model.method`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import check
from ..method_fields import OF_OTHERS
from .hiera import HieraAutoencoder
from .mae import MaskedAutoencoder
from .masked import MaskedModel
from .simmim import SimMIM

METHODS: dict[str, type[MaskedModel]] = {
    kind.method: kind for kind in (MaskedAutoencoder, SimMIM, HieraAutoencoder)
}
"""Method -> its model."""


def create_masked(arguments: Mapping[str, Any], *, allow_code: bool = False) -> MaskedModel:
    """Create the model of a section `model`.

    Args:
        arguments: Its fields; those written before there were methods have none, and are MAE's.
            Fields of other methods, which `ModelConfig` keeps at their defaults, are left out.
        allow_code: Whether the encoder may be module:callable. A checkpoint may be a stranger's,
            and does not decide which code is run.

    Raises:
        ValueError: There is no such method, or its model can't be built.
    """
    given = dict(arguments)
    method = given.pop("method", "mae")
    check(method in METHODS, "model.method", method, f"one of {', '.join(METHODS)}")
    name = str(given.get("encoder", ""))
    if method == "simmim" and ":" in name and not allow_code:  # the others take no code
        raise ValueError(
            f"model.encoder of a checkpoint must be a network of timm's here, got the code {name}, "
            "which a checkpoint does not decide to run; train or fine-tune with "
            f"--model.encoder {name}"
        )
    kept = {name: value for name, value in given.items() if name not in OF_OTHERS[method]}
    return METHODS[method](**kept)
