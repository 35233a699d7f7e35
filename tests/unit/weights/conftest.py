"""What tests of weights share."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from mae_et import MaskedAutoencoder
from tests.support.models import SMALL, BuildMAE, randomized


@pytest.fixture(autouse=True)
def _quiet() -> None:
    if "transformers" in sys.modules:  # of the tests that need it
        sys.modules["transformers"].utils.logging.disable_progress_bar()


@pytest.fixture
def make_mae(tiny_mae: BuildMAE) -> BuildMAE:
    """`tiny_mae` for 32 × 32 pixels, two blocks deep, with every parameter drawn anew."""

    def build(encoder: str = "vit_base_patch16_224", **changes: Any) -> MaskedAutoencoder:
        sizes = {"encoder_args": SMALL, "image_size": 32, "patch_size": 8}
        decoder = {"decoder_depth": 2, "decoder_num_heads": 4}
        model: MaskedAutoencoder = randomized(tiny_mae(encoder, **sizes | decoder | changes))
        return model

    return build
