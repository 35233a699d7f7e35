"""The cost of a training step in floating-point operations, counted by torch without computing.

The forward and the backward pass run on the meta device, so a ViT-H takes seconds and no memory.
The counter sees matrix products and convolutions (a multiply-add counts as two) in linear layers,
attention and targets. It does not see norms, softmax, activations and other element-wise work, nor
the optimizer, nor what happens before the model: decoding and the low-frequency crop.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from ..curriculum import Size, as_pair
from .masked import MaskedModel
from .meta import on_meta


def training_flops(model: MaskedModel, size: Size) -> int:
    """Count the FLOPs of the forward and the backward pass of one image.

    Args:
        model: On any device; it stays as it is.
        size: Pixels or (height, width) of the image.

    Raises:
        ValueError: The size does not fit the model.
    """
    copied = on_meta(model)
    copied.set_input_size(size)
    has_batch_norm = any(isinstance(module, _BatchNorm) for module in model.modules())
    num_images = 2 if has_batch_norm else 1  # of a single value there is no variance
    images = torch.empty(num_images, model.in_chans, *as_pair(size), device="meta")
    flops = counted_flops(lambda: copied(images, masked_only=True).loss.backward())
    return flops // num_images


def counted_flops(work: Callable[[], object]) -> int:
    """Count the FLOPs of some work on the meta device."""
    # Fused kernels compute some products twice, which would be counted.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())
