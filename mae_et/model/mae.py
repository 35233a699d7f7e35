"""The masked autoencoder: a timm VisionTransformer, a light decoder, and the loss between them.

Source: He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022
(https://arxiv.org/abs/2111.06377). Encoder, decoder and target all work at the current input size,
which a curriculum changes with `set_input_size`.

Shape legend: N images of H × W, L patches, K of them visible, U mask units (patches, or blocks of
them), M masked patches decoded, T prefix tokens (class, registers), D encoder width, E decoder
width, P values of a patch or its target. Tokens need no un-shuffling in the decoder: attention is
blind to their order, and positions are added by index.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from einops import rearrange
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ..curriculum import Size
from .decoder import DecoderKind, LayerNorm, create_decoder
from .encoder import build_vit, with_class_tokens
from .mae_input_size import PositionTable, ResizableMAE
from .mae_output import MAEOutput
from .masking import PatchMask, mask_blocks, take_patches
from .targets import create_target


class MaskedAutoencoder(ResizableMAE):
    """A masked autoencoder over any timm VisionTransformer with absolute positions.

    Args:
        encoder: Name of a timm model. The attribute `encoder` is that model without a head, and
            its state dict has timm's keys.
        encoder_args: Further arguments of the timm model.
        num_class_tokens: Number of class tokens; None for those that the encoder has. See
            `mae_et.model.encoder.with_class_tokens`.
        image_size: Full size, pixels or (height, width).
        patch_size: Pixels or (height, width); None for the encoder's default.
        in_chans: Image channels.
        decoder_dim: E.
        decoder_depth: Number of decoder blocks.
        decoder_num_heads: Attention heads of the decoder.
        decoder: "self", attention over all tokens as in MAE, or "cross", from the masked patches
            to the visible ones; see `mae_et.model.decoder`.
        decode_ratio: Share of the masked patches, in (0, 1], that training decodes and scores. In
            evaluation mode all of them are, so that losses compare.
        mask_ratio: Share of masked patches, in (0, 1).
        mask_block: Patches on a side of a mask unit, which is masked as a whole; 4 in Pixio.
        target: "norm_pixel", "pixel" or "hog".
        hog: Options of `mae_et.model.targets.hog`, for that target.
        positions: "sincos" (fixed, as in MAE) or "learned", for encoder and decoder. The tables
            of the full grid are the only source; other sizes resample them.

    Raises:
        ValueError: The encoder has no absolute positions, or a size does not fit.
    """

    method = "mae"
    build_encoder = staticmethod(build_vit)
    """Builds the encoder from its name and arguments."""

    def __init__(
        self,
        encoder: str = "vit_base_patch16_224",
        *,
        encoder_args: dict[str, Any] | None = None,
        num_class_tokens: int | None = None,
        image_size: Size = 224,
        patch_size: Size | None = None,
        in_chans: int = 3,
        decoder_dim: int = 512,
        decoder_depth: int = 8,
        decoder_num_heads: int = 16,
        decoder: DecoderKind = "self",
        decode_ratio: float = 1.0,
        mask_ratio: float = 0.75,
        mask_block: int = 1,
        target: Literal["norm_pixel", "pixel", "hog"] = "norm_pixel",
        hog: Mapping[str, Any] | None = None,
        positions: Literal["sincos", "learned"] = "sincos",
    ) -> None:
        if not 0 < decode_ratio <= 1:
            raise ValueError(f"model.decode_ratio must be in (0, 1], got {decode_ratio}")
        if positions not in ("sincos", "learned"):
            raise ValueError(f"model.positions must be 'sincos' or 'learned', got {positions!r}")
        built = type(self).build_encoder(
            encoder,
            with_class_tokens(encoder_args, num_class_tokens),
            image_size=image_size,
            patch_size=patch_size,
            in_chans=in_chans,
            mask_block=mask_block,
        )
        super().__init__(
            full_size=built.full_size,
            patch_size=built.patch_size,
            mask_ratio=mask_ratio,
            learned_positions=positions == "learned",
            mask_block=built.mask_block,
        )
        self.encoder = built.module
        self.encoder_name = encoder
        self.encoder_args = built.arguments
        self.in_chans = in_chans
        self.num_prefix_tokens = built.num_prefix_tokens
        self.decode_ratio = decode_ratio
        self.target_name = target
        self.target = create_target(
            target, patch_size=self.patch_size, in_chans=in_chans, **(hog or {})
        )

        self.decoder_embed = nn.Linear(built.dim, decoder_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_dim))
        num_tokens = self.num_prefix_tokens + math.prod(self.full_grid)
        self.decoder_pos_embed = nn.Parameter(torch.zeros(1, num_tokens, decoder_dim))
        self.decoder_blocks = create_decoder(
            decoder, dim=decoder_dim, depth=decoder_depth, num_heads=decoder_num_heads
        )
        self.decoder_norm = LayerNorm(decoder_dim)
        self.decoder_pred = nn.Linear(decoder_dim, self.target.num_values)
        self._init_weights()
        self.set_input_size(self.full_size)

    def _init_weights(self) -> None:
        """Xavier for linear layers and the patch projection, normal(0.02) for tokens."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.encoder.patch_embed.proj.weight.flatten(1))
        tokens = (getattr(self.encoder, name, None) for name in ("cls_token", "reg_token"))
        for token in (self.mask_token, *tokens):
            if token is not None:
                nn.init.normal_(token, std=0.02)
        for table in self.position_tables():
            table.init(self.full_grid)
            table.values.requires_grad_(self.learned_positions)

    def position_tables(self) -> tuple[PositionTable, PositionTable]:
        """The position tables of encoder and decoder at the full grid."""
        encoder_prefix = 0 if self.encoder.no_embed_class else self.num_prefix_tokens
        return (
            PositionTable(self.encoder.pos_embed, encoder_prefix),
            PositionTable(self.decoder_pos_embed, self.num_prefix_tokens),
        )

    @property
    def num_decoded(self) -> int:
        """M at the current input size and in the current mode (training or evaluation)."""
        num_masked = self.num_patches - self.num_visible
        if not self.training:
            return num_masked
        per_unit = self.mask_block**2
        return per_unit * max(1, round(num_masked // per_unit * self.decode_ratio))

    def forward(
        self,
        images: Tensor,
        noise: Tensor | None = None,
        *,
        masked_only: bool = False,
        size: Size | None = None,
    ) -> MAEOutput:
        """Mask, encode, decode and score a batch.

        A training step of a stage is ``model(images, size=stage.size, masked_only=True).loss``. It
        is one call of the module, as wrappers need: DDP, FSDP, or torch.compile, which makes one
        graph for each size with ``dynamic=False``.

        Args:
            images: (N, C, H, W), normalised, of the current input size; with `size`, of that size
                or of the full size.
            noise: (N, U). The mask units with the smallest noise stay visible, and of the masked
                ones those with the smallest noise are decoded. None to draw it.
            masked_only: Whether to leave out visible patches, which are never scored, for speed.
            size: An input size to set before, and to which images of the full size are cropped by
                `low_frequency_crop`, in pixels or (height, width). None for the current one.

        Raises:
            ValueError: The images or the size do not fit.
            TypeError: The images to crop are not floating point.
        """
        if size is not None:  # in another method, it would cut torch.compile's graph again
            images = self.at_size(images, size)
        noise = self._noise_for(images, noise)
        patches = self.patchify(images)
        patch_mask = mask_blocks(noise, self.num_visible, self.grid, self.mask_block)
        encoder_positions, decoder_positions = self._positions()

        latent = self._encode(images, patches, patch_mask, encoder_positions)
        decoded = patch_mask.masked[:, : self.num_decoded]
        num_outputs = decoded.shape[1] + (0 if masked_only else self.num_visible)
        shuffled = self.decode(latent, patch_mask.visible, decoded, decoder_positions, num_outputs)
        order = torch.cat([patch_mask.visible, decoded], dim=1)[:, -shuffled.shape[1] :]

        features = self.target.features(images)
        values = patches if features is images else self.patchify(features)
        target = self.target.normalize(take_patches(values, decoded).float())
        loss = nn.functional.mse_loss(shuffled[:, -self.num_decoded :].float(), target)
        return MAEOutput(loss, patch_mask.mask, shuffled, order)

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks of encoder and decoder; see `MaskedModel.blocks`."""
        return [*self.encoder.blocks, *self.decoder_blocks]

    def timm_arguments(self) -> dict[str, Any]:
        """Return the arguments with which timm builds the encoder; see `MaskedModel`."""
        arguments = super().timm_arguments()
        if isinstance(self.encoder, VisionTransformer):
            arguments |= {"patch_size": list(self.patch_size), "fc_norm": False}
        return arguments

    def features(self, images: Tensor) -> Tensor:
        """Return what probes compare images by: the mean patch token, (N, C, H, W) -> (N, D).

        Args:
            images: Normalised images of the full size, none of whose patches is masked.
        """
        tokens = self.encoder.forward_features(images)
        mean: Tensor = tokens[:, self.num_prefix_tokens :].float().mean(dim=1)
        return mean

    def _encode(
        self, images: Tensor, patches: Tensor, patch_mask: PatchMask, positions: Tensor
    ) -> Tensor:
        """The tokens (N, T + K, D) of the visible patches of images, which are cut in patches."""
        return self.encode(take_patches(patches, patch_mask.visible), patch_mask, positions)

    def encode(self, visible: Tensor, patch_mask: PatchMask, positions: Tensor) -> Tensor:
        """Encode the visible patches of each image.

        Args:
            visible: (N, K, P).
            patch_mask: The indices of these patches.
            positions: (1, T + L, D), or (1, L, D) if prefix tokens have none.

        Returns:
            Tokens (N, T + K, D), prefix tokens first.
        """
        encoder = self.encoder
        kernel = encoder.patch_embed.proj.weight
        if self.in_chans > 1:  # one channel needs no reordering, of whose strides DDP would warn
            kernel = rearrange(kernel, "d c h w -> d h w c")
        kernel = kernel.flatten(1)
        tokens = nn.functional.linear(visible, kernel, encoder.patch_embed.proj.bias)
        tokens = encoder.patch_embed.norm(tokens)

        num_images = len(visible)
        num_prefix_rows = positions.shape[1] - self.num_patches
        patch_positions = positions[:, num_prefix_rows:].expand(num_images, -1, -1)
        tokens = tokens + take_patches(patch_positions, patch_mask.visible)

        prefix = [token for token in (encoder.cls_token, encoder.reg_token) if token is not None]
        if prefix:
            prefix_tokens = torch.cat(prefix, dim=1)  # (1, T, D)
            if num_prefix_rows:
                prefix_tokens = prefix_tokens + positions[:, :num_prefix_rows]
            tokens = torch.cat([prefix_tokens.expand(num_images, -1, -1), tokens], dim=1)

        tokens = encoder.norm_pre(encoder.pos_drop(tokens))
        latent: Tensor = encoder.norm(encoder.blocks(tokens))
        return latent

    def decode(
        self,
        latent: Tensor,
        visible: Tensor,
        decoded: Tensor,
        positions: Tensor,
        num_outputs: int,
    ) -> Tensor:
        """Predict the targets of masked patches and, with self-attention, those of visible ones.

        Args:
            latent: The encoder's tokens (N, T + K, D).
            visible: (N, K) indices of the visible patches.
            decoded: (N, M) indices of the masked patches to decode.
            positions: (1, T + L, E).
            num_outputs: M, or K + M to predict visible patches too, which then come first.

        Returns:
            Predictions (N, num_outputs, P); with cross-attention always (N, M, P).
        """
        num_images, num_prefix = len(latent), self.num_prefix_tokens
        positions = positions.expand(num_images, -1, -1)
        prefix_positions, patch_positions = positions[:, :num_prefix], positions[:, num_prefix:]
        context = torch.cat([prefix_positions, take_patches(patch_positions, visible)], dim=1)
        context = context + self.decoder_embed(latent)
        queries = self.mask_token + take_patches(patch_positions, decoded)

        tokens = self.decoder_blocks(context, queries, num_outputs)
        predictions: Tensor = self.decoder_pred(self.decoder_norm(tokens))
        return predictions
