"""The models that tests of the model share."""

from __future__ import annotations

from typing import Any

import pytest

from mae_et import MaskedAutoencoder
from tests.support.models import SMALL, BuildMAE


@pytest.fixture
def small(tiny_mae: BuildMAE) -> BuildMAE:
    """`tiny_mae` for 32 × 32 pixels, two blocks deep, whose target is pixels."""

    def build(encoder: str = "vit_base_patch16_224", **changes: Any) -> MaskedAutoencoder:
        encoder_args = {**SMALL, **changes.pop("encoder_args", {})}
        defaults = {"image_size": 32, "patch_size": 8, "target": "pixel"}
        return tiny_mae(encoder, encoder_args=encoder_args, **defaults | changes)

    return build
