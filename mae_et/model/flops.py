"""The cost of a training step in floating-point operations, counted by torch without computing.

The forward and the backward pass run on the meta device, so a ViT-H takes seconds and no memory.
The counter sees matrix products and convolutions (a multiply-add counts as two) in linear layers,
attention and targets. It does not see norms, softmax, activations and other element-wise work, nor
the optimizer, nor what happens before the model: decoding and the low-frequency crop.
"""

from __future__ import annotations

from itertools import chain

import torch
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..curriculum import Size, as_pair
from .masked import MaskedModel


def training_flops(model: MaskedModel, size: Size) -> int:
    """Count the FLOPs of the forward and the backward pass of one image.

    Args:
        model: On any device; it stays as it is.
        size: Pixels or (height, width) of the image.

    Raises:
        ValueError: The size does not fit the model.
    """
    size_before = model.input_size
    model.set_input_size(size)
    tensors = {
        name: torch.empty_like(tensor, device="meta", requires_grad=tensor.requires_grad)
        for name, tensor in chain(model.named_parameters(), model.named_buffers())
    }
    images = torch.empty(1, model.in_chans, *as_pair(size), device="meta")
    # Fused kernels compute some products twice, which would be counted.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        functional_call(model, tensors, (images,), {"masked_only": True}).loss.backward()
    model.set_input_size(size_before)
    return int(counter.get_total_flops())
