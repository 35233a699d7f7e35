"""Numbers from seeds: the same in every test."""

from __future__ import annotations

import torch
from torch import Tensor

from mae_et import MaskedAutoencoder


def seeded(*shape: int, uniform: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.rand if uniform else torch.randn)(*shape, generator=generator)


def images_for(model: MaskedAutoencoder, num_images: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(num_images, model.in_chans, *model.input_size, generator=generator)


def noise_for(model: MaskedAutoencoder, num_images: int = 3) -> Tensor:
    return torch.rand(num_images, model.num_units, generator=torch.Generator().manual_seed(2))
