"""The MAE of other libraries, as their documentation shows it, to compare training steps with.

Each takes normalised images (N, 3, size, size) and returns the loss (): normalised pixels, a mask
ratio of 0.75, fixed sin-cos positions, and the same encoder and decoder as ours.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn


class Decoder(NamedTuple):
    """Width, number of blocks and attention heads of a decoder."""

    dim: int
    depth: int
    num_heads: int


class Transformers(nn.Module):
    """`ViTMAEForPreTraining` with its default attention, sdpa."""

    def __init__(self, encoder: str, decoder: Decoder, size: int) -> None:
        from transformers import ViTMAEConfig, ViTMAEForPreTraining

        super().__init__()
        vit = timm.create_model(encoder, num_classes=0)
        width, depth = vit.embed_dim, len(vit.blocks)
        config = ViTMAEConfig(
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=vit.blocks[0].attn.num_heads,
            intermediate_size=vit.blocks[0].mlp.fc1.out_features,
            image_size=size,
            patch_size=vit.patch_embed.patch_size[0],
            decoder_hidden_size=decoder.dim,
            decoder_num_hidden_layers=decoder.depth,
            decoder_num_attention_heads=decoder.num_heads,
            decoder_intermediate_size=4 * decoder.dim,
            norm_pix_loss=True,
        )
        self.model = ViTMAEForPreTraining(config)

    def forward(self, images: Tensor) -> Tensor:
        """The loss () of images (N, 3, size, size)."""
        loss: Tensor = self.model(pixel_values=images).loss
        return loss


class Lightly(nn.Module):
    """The modules of lightly, assembled as in its MAE example, with normalised targets."""

    def __init__(self, encoder: str, decoder: Decoder, size: int) -> None:
        super().__init__()
        modules: Any = import_module("lightly.models.modules")
        vit = timm.create_model(encoder, img_size=size, num_classes=0)
        self.patch_size: int = vit.patch_embed.patch_size[0]
        self.encoder = modules.MaskedVisionTransformerTIMM(vit=vit)
        self.embed = nn.Linear(vit.embed_dim, decoder.dim)
        self.decoder = modules.MaskedVisionTransformerDecoderTIMM(
            vit.patch_embed.num_patches, decoder.dim, decoder.depth, decoder.num_heads
        )
        self.predict = nn.Linear(decoder.dim, self.patch_size**2 * 3)

    def forward(self, images: Tensor) -> Tensor:
        """The loss () of images (N, 3, size, size)."""
        utils: Any = import_module("lightly.models.utils")
        num_images, num_tokens = len(images), self.encoder.sequence_length
        visible, masked = utils.random_token_mask(
            size=(num_images, num_tokens), mask_ratio=0.75, device=images.device
        )
        encoded = self.embed(self.encoder.encode(images=images, idx_keep=visible))
        tokens = utils.repeat_token(self.decoder.mask_token, (num_images, num_tokens))
        tokens = utils.set_at_index(tokens.type_as(encoded), visible, encoded)
        decoded = utils.get_at_index(self.decoder(tokens), masked)
        patches = utils.get_at_index(utils.patchify(images, self.patch_size), masked - 1)
        target = utils.normalize_mean_var(patches)
        return nn.functional.mse_loss(self.predict(decoded), target)


PEERS: dict[str, type[Transformers] | type[Lightly]] = {
    "transformers": Transformers,
    "lightly": Lightly,
}


def step(
    peer: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, dtype: torch.dtype
) -> None:
    """Run forward, backward and the optimizer, as a script without gradient clipping does."""
    with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
        loss = peer(images)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
