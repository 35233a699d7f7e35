"""What a training step costs in floating-point operations, by torch's counter, without computing.

A copy of the model on the meta device goes forward and backward, so a ViT-H takes seconds and no
memory. The counter sees matrix products and convolutions (a multiply-add counts as two) in linear
layers, attention and targets. It does not see norms, softmax, activations and other element-wise
work, the optimizer, and what is done before the model: decoding, the low-frequency crop.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .config import ModelConfig
from .curriculum import Size, as_pair
from .model import MaskedAutoencoder
from .plain import to_dict


def flops_counter(config: ModelConfig) -> Callable[[Size], int]:
    """Size in pixels -> FLOPs of the forward and the backward pass of one image."""

    @cache
    def flops(size: Size) -> int:
        model = meta_model()
        model.set_input_size(size)
        images = torch.empty(1, config.in_chans, *as_pair(size), device="meta")
        # Fused kernels would be counted with what they compute twice.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(images).loss.backward()
        return int(counter.get_total_flops())

    meta_model = cache(lambda: build_on_meta(config))
    return flops


def build_on_meta(config: ModelConfig) -> MaskedAutoencoder:
    """The model without memory: its shapes, and what it accepts.

    Raises:
        ValueError: something about the configuration.
    """
    with torch.device("meta"):
        return MaskedAutoencoder(**to_dict(config))
