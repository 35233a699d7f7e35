"""The masked autoencoder: a timm VisionTransformer, a light decoder, and the loss between them.

Source: He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022
(https://arxiv.org/abs/2111.06377). Encoder, decoder and target live at the current input size,
which a curriculum changes with `set_input_size`.

Shape legend: N images of H × W, L patches, K of them visible, T prefix tokens (class, registers),
D encoder width, E decoder width, P values of a patch. Tokens need no un-shuffling in the decoder:
attention is blind to their order, and positions are added by index.
"""

from __future__ import annotations

import difflib
from typing import Any, Literal, NamedTuple

import timm
import torch
from einops import rearrange, repeat
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from .curriculum import Size, as_pair, as_size
from .masking import PatchMask, mask_patches, num_visible_patches, take_patches
from .pos_embed import Grid, resample_table, sincos_table
from .targets import TARGETS


class MAEOutput(NamedTuple):
    """What a forward pass gives."""

    loss: Tensor
    """(): mean squared error over the masked patches."""
    mask: Tensor
    """(N, L) bool, True where masked."""
    shuffled: Tensor
    """(N, L, P): predicted targets of all patches, in the order in which they were decoded."""
    order: Tensor
    """(N, L): the index of each patch in that order."""

    @property
    def prediction(self) -> Tensor:
        """(N, L, P): predicted targets of all patches, in the order of the grid."""
        return take_patches(self.shuffled, self.order.argsort(dim=1))


class MaskedAutoencoder(nn.Module):
    """A masked autoencoder over any timm VisionTransformer with absolute positions.

    Args:
        encoder: timm name. `model.encoder` is that model without a head; its state dict has
            timm's keys.
        encoder_args: further arguments of the timm model.
        image_size: full size, pixels or (height, width).
        patch_size: pixels or (height, width); None for the encoder's own.
        in_chans: image channels.
        decoder_dim: E.
        decoder_depth: blocks of the decoder.
        decoder_num_heads: attention heads of the decoder.
        mask_ratio: share of masked patches, in (0, 1).
        target: "norm_pixel" or "pixel".
        positions: "sincos" (fixed, as in MAE) or "learned", for encoder and decoder. The tables
            of the full grid are the only source; other sizes resample them.

    Raises:
        ValueError: the encoder has no absolute positions, or a size does not fit.
    """

    encoder_positions: Tensor
    decoder_positions: Tensor
    input_size: tuple[int, int]

    def __init__(
        self,
        encoder: str = "vit_base_patch16_224",
        *,
        encoder_args: dict[str, Any] | None = None,
        image_size: Size = 224,
        patch_size: Size | None = None,
        in_chans: int = 3,
        decoder_dim: int = 512,
        decoder_depth: int = 8,
        decoder_num_heads: int = 16,
        mask_ratio: float = 0.75,
        target: Literal["norm_pixel", "pixel"] = "norm_pixel",
        positions: Literal["sincos", "learned"] = "sincos",
    ) -> None:
        super().__init__()
        if decoder_num_heads < 1 or decoder_dim % decoder_num_heads:
            raise ValueError(
                f"model.decoder_num_heads must divide model.decoder_dim {decoder_dim}, "
                f"got {decoder_num_heads}"
            )
        if target not in TARGETS:
            raise ValueError(f"model.target must be one of {', '.join(TARGETS)}, got {target!r}")
        if positions not in ("sincos", "learned"):
            raise ValueError(f"model.positions must be 'sincos' or 'learned', got {positions!r}")
        self.encoder = create_vit(
            encoder,
            image_size=image_size,
            patch_size=patch_size,
            in_chans=in_chans,
            encoder_args=encoder_args,
            num_classes=0,
            fc_norm=False,  # the norm is applied to every token, before any pooling
        )
        self.encoder_args = dict(encoder_args or {})
        patch_embed = self.encoder.patch_embed
        self.full_size: Size = as_size(*patch_embed.img_size)
        self.patch_size: tuple[int, int] = patch_embed.patch_size
        self.full_grid: Grid = patch_embed.grid_size
        self.in_chans = in_chans
        self.num_prefix_tokens: int = self.encoder.num_prefix_tokens
        self.mask_ratio = mask_ratio
        self.compute_target = TARGETS[target]
        self.learned_positions = positions == "learned"

        num_tokens = self.num_prefix_tokens + patch_embed.num_patches
        self.decoder_embed = nn.Linear(self.encoder.embed_dim, decoder_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_dim))
        self.decoder_pos_embed = nn.Parameter(torch.zeros(1, num_tokens, decoder_dim))
        self.decoder_blocks = nn.Sequential(
            *(
                Block(decoder_dim, decoder_num_heads, qkv_bias=True, norm_layer=_LayerNorm)
                for _ in range(decoder_depth)
            )
        )
        self.decoder_norm = _LayerNorm(decoder_dim)
        self.decoder_pred = nn.Linear(
            decoder_dim, self.patch_size[0] * self.patch_size[1] * in_chans
        )

        self._init_weights()
        self.register_buffer("encoder_positions", torch.empty(0), persistent=False)
        self.register_buffer("decoder_positions", torch.empty(0), persistent=False)
        self.register_load_state_dict_post_hook(  # type: ignore[no-untyped-call]
            _update_positions_after_loading
        )
        self.input_size = (0, 0)
        self.set_input_size(self.full_size)

    def _init_weights(self) -> None:
        """Xavier for linear layers and the patch projection, normal(0.02) for tokens."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.encoder.patch_embed.proj.weight.flatten(1))
        for token in (self.mask_token, self.encoder.cls_token, self.encoder.reg_token):
            if token is not None:
                nn.init.normal_(token, std=0.02)
        for table, num_prefix_tokens in self._tables():
            sincos = sincos_table(self.full_grid, table.shape[-1], num_prefix_tokens)
            table.data.copy_(sincos)
            table.requires_grad_(self.learned_positions)

    def _tables(self) -> tuple[tuple[nn.Parameter, int], tuple[nn.Parameter, int]]:
        """The full-grid position tables of encoder and decoder, with their prefix rows."""
        encoder_prefix = 0 if self.encoder.no_embed_class else self.num_prefix_tokens
        return (
            (self.encoder.pos_embed, encoder_prefix),
            (self.decoder_pos_embed, self.num_prefix_tokens),
        )

    def set_input_size(self, size: Size) -> None:
        """Accept images of another size from now on; parameters stay as they are.

        Args:
            size: pixels or (height, width): multiples of the patch size, at most the full size,
                with at least one visible patch.

        Raises:
            ValueError: the size does not fit.
        """
        if as_pair(size) != self.input_size:
            self.grid = self.check_input_size(size)
            self.input_size = as_pair(size)
            self._update_positions()

    def check_input_size(self, size: Size) -> Grid:
        """The grid (rows, columns) of an input size.

        Raises:
            ValueError: the size does not fit; see `set_input_size`.
        """
        sides = zip(as_pair(size), as_pair(self.full_size), self.patch_size, strict=True)
        for pixels, limit, patch in sides:
            if pixels % patch or not patch <= pixels <= limit:
                raise ValueError(
                    f"input size must be a multiple of the patch size {as_size(*self.patch_size)} "
                    f"and at most the full size {self.full_size}, got {size}"
                )
        height, width = as_pair(size)
        grid = (height // self.patch_size[0], width // self.patch_size[1])
        if grid[0] * grid[1] < 2:
            raise ValueError(f"input size must be at least 2 patches, got {size}")
        num_visible_patches(grid[0] * grid[1], self.mask_ratio)
        return grid

    def _update_positions(self) -> None:
        if not self.learned_positions:  # learned tables change with every step
            encoder, decoder = self._resampled_tables()
            self.encoder_positions, self.decoder_positions = encoder.detach(), decoder.detach()

    def _resampled_tables(self) -> tuple[Tensor, Tensor]:
        encoder, decoder = (
            resample_table(table, self.full_grid, self.grid, num_prefix_tokens)
            for table, num_prefix_tokens in self._tables()
        )
        return encoder, decoder

    def _positions(self) -> tuple[Tensor, Tensor]:
        if self.learned_positions:
            return self._resampled_tables()
        return self.encoder_positions, self.decoder_positions

    @property
    def num_patches(self) -> int:
        """L at the current input size."""
        return self.grid[0] * self.grid[1]

    @property
    def num_visible(self) -> int:
        """K at the current input size."""
        return num_visible_patches(self.num_patches, self.mask_ratio)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> MAEOutput:
        """Mask, encode, decode and score a batch.

        Args:
            images: (N, C, H, W), normalised, of the current input size.
            noise: (N, L); the patches with the smallest noise stay visible. Drawn if None.

        Raises:
            ValueError: the images are not of the current input size.
        """
        if images.shape[1:] != (self.in_chans, *self.input_size):
            raise ValueError(
                f"images must be (N, {self.in_chans}, {self.input_size[0]}, {self.input_size[1]}), "
                f"got {tuple(images.shape)}; see set_input_size"
            )
        patches = self.patchify(images)
        if noise is None:
            noise = torch.rand(patches.shape[:2], device=images.device)
        patch_mask = mask_patches(noise, self.num_visible)
        encoder_positions, decoder_positions = self._positions()

        latent = self.encode(
            take_patches(patches, patch_mask.visible), patch_mask, encoder_positions
        )
        shuffled = self.decode(latent, patch_mask, decoder_positions)  # visible, then masked

        target = self.compute_target(take_patches(patches, patch_mask.masked).float())
        predicted = shuffled[:, self.num_visible :].float()
        loss = (predicted - target).square().mean()
        order = torch.cat([patch_mask.visible, patch_mask.masked], dim=1)
        return MAEOutput(loss, patch_mask.mask, shuffled, order)

    def encode(self, visible: Tensor, patch_mask: PatchMask, positions: Tensor) -> Tensor:
        """Visible patches (N, K, P) -> tokens (N, T + K, D)."""
        encoder = self.encoder
        kernel = rearrange(encoder.patch_embed.proj.weight, "d c h w -> d (h w c)")
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

    def decode(self, latent: Tensor, patch_mask: PatchMask, positions: Tensor) -> Tensor:
        """Tokens (N, T + K, D) -> predictions (N, L, P): visible patches, then masked ones."""
        num_images, num_prefix = len(latent), self.num_prefix_tokens
        tokens = self.decoder_embed(latent)  # (N, T + K, E)
        mask_tokens = repeat(
            self.mask_token.to(tokens.dtype),
            "1 1 e -> n m e",
            n=num_images,
            m=patch_mask.masked.shape[1],
        )
        tokens = torch.cat([tokens, mask_tokens], dim=1)

        order = torch.cat([patch_mask.visible, patch_mask.masked], dim=1)
        patch_positions = positions[:, num_prefix:].expand(num_images, -1, -1)
        prefix_positions = positions[:, :num_prefix].expand(num_images, -1, -1)
        tokens = tokens + torch.cat([prefix_positions, take_patches(patch_positions, order)], dim=1)

        tokens = self.decoder_norm(self.decoder_blocks(tokens))
        predictions: Tensor = self.decoder_pred(tokens[:, num_prefix:])
        return predictions

    def patchify(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, L, P), each patch in the order (row, column, channel)."""
        height, width = self.patch_size
        return rearrange(images, "n c (r h) (s w) -> n (r s) (h w c)", h=height, w=width)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """(N, L, P) -> (N, C, H, W), the inverse of `patchify` at the current input size."""
        height, width = self.patch_size
        return rearrange(
            patches,
            "n (r s) (h w c) -> n c (r h) (s w)",
            r=self.grid[0],
            h=height,
            w=width,
        )


def _update_positions_after_loading(model: MaskedAutoencoder, _: object) -> None:
    """A hook; no method, since a method's copies would go on to update the original."""
    model._update_positions()


class _LayerNorm(nn.LayerNorm):
    """Layer norm with the epsilon of MAE's decoder (and of timm's encoders)."""

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(dim, eps=1e-6, **kwargs)


def create_vit(
    name: str,
    *,
    image_size: Size,
    patch_size: Size | None,
    in_chans: int,
    encoder_args: dict[str, Any] | None = None,
    **arguments: Any,
) -> VisionTransformer:
    """A timm VisionTransformer with absolute positions.

    Args:
        name: of the timm model.
        image_size: pixels or (height, width), multiples of the patch size.
        patch_size: pixels or (height, width); None for the model's own.
        in_chans: image channels.
        encoder_args: the user's further arguments of the timm model.
        arguments: ours.

    Raises:
        ValueError: timm does not know the name, does not accept the arguments, or the model is no
            VisionTransformer with absolute positions.
    """
    if not timm.is_model(name):
        similar = ", ".join(difflib.get_close_matches(name, timm.list_models("*vit_*"), n=3))
        raise ValueError(
            f"model.encoder must be the name of a timm VisionTransformer, got {name!r}"
            + (f"; nearest: {similar}" if similar else "")
        )
    arguments = {"img_size": as_pair(image_size), "in_chans": in_chans, **arguments}
    taken = {"patch_size", "patch_drop_rate", *arguments} & (encoder_args or {}).keys()
    if taken:
        raise ValueError(
            f"model.encoder_args must not have {', '.join(sorted(taken))}, which "
            "model.image_size, model.patch_size, model.in_chans and the method itself set"
        )
    arguments |= encoder_args or {}
    if patch_size is not None:
        arguments["patch_size"] = as_pair(patch_size)
    try:
        encoder = timm.create_model(name, pretrained=False, **arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError, ArithmeticError) as error:
        raise ValueError(
            f"model.encoder must be a timm VisionTransformer with absolute positions that accepts "
            f"{arguments}, got {name!r}: {error}"
        ) from error
    if type(encoder) is not VisionTransformer or type(encoder.patch_embed) is not PatchEmbed:
        raise ValueError(
            f"model.encoder must be a plain timm VisionTransformer with absolute positions, got "
            f"{name!r} ({type(encoder).__name__}); allowed: vit_*, deit_* and flexivit_* models"
        )
    if encoder.attn_pool is not None:
        raise ValueError(f"model.encoder must not pool by attention, got {name!r}")
    if encoder.pos_embed is None:
        raise ValueError(f"model.encoder must have absolute positions, got {name!r} without any")
    for side, patch in zip(as_pair(image_size), encoder.patch_embed.patch_size, strict=True):
        if side % patch:
            raise ValueError(
                f"model.image_size must be a multiple of the patch size {patch}, got {image_size}"
            )
    return encoder
