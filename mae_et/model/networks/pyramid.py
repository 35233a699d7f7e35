"""What transformers in stages have in common: timm's interface to their maps and their head.

Shape legend: N images of C × H × W; maps (N, D, h, w); tokens (N, P + h · w, D), the first P of
which, such as a class token, have no place in the map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from einops import rearrange
from timm.layers import trunc_normal_
from timm.models import checkpoint
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from ...curriculum import as_size
from ..pos_embed import Grid


class PyramidTransformer(nn.Module):
    """A transformer in stages, each of which embeds the map of the one before, at a lower stride.

    A subclass defines `embed` and `blocks`, sets `norm`, and ends its constructor with
    `init_weights`.

    Args:
        embed_dims: D of each stage.
        strides: Pixels between the tokens of each stage, below and beside each other.
        in_chans: C.
        num_classes: Classes of the output; 0 for features.
        global_pool: What is classified: one of `pools`; "" for all tokens.
        drop_rate: Dropout before the head.
    """

    pools: tuple[str, ...] = ("avg", "")
    """The values of `global_pool` that the network has."""

    norm: nn.Module

    def __init__(
        self,
        *,
        embed_dims: Sequence[int],
        strides: Sequence[Grid],
        in_chans: int,
        num_classes: int,
        global_pool: str,
        drop_rate: float,
    ) -> None:
        super().__init__()
        self.num_stages = len(embed_dims)
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = embed_dims[-1]
        self.feature_info = [
            {"num_chs": dim, "reduction": max(stride), "module": f"stage{number}"}
            for number, (dim, stride) in enumerate(zip(embed_dims, strides, strict=True), start=1)
        ]
        self.grad_checkpointing = False
        self.head_drop = nn.Dropout(drop_rate)
        self.reset_classifier(num_classes, global_pool)

    def embed(self, stage: int, maps: Tensor) -> tuple[Tensor, Grid]:
        """Turn the maps before a stage, at first the images, into its tokens and their grid."""
        raise NotImplementedError

    def blocks(self, stage: int) -> nn.ModuleList:
        """Return the blocks of a stage, which are called with tokens and their grid."""
        raise NotImplementedError

    def init_weights(self) -> None:
        """Draw the weights of linear layers as ViTs do; biases of linear layers become 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def get_classifier(self) -> nn.Module:
        """Return the head."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head by a new one.

        Args:
            num_classes: Classes of the output; 0 for features.
            global_pool: One of `pools`; None to leave it as it is.

        Raises:
            ValueError: The network does not pool in that way.
        """
        if global_pool is not None:
            if global_pool not in self.pools:
                allowed = ", ".join(repr(name) for name in self.pools)
                raise ValueError(
                    f"global_pool of {type(self).__name__} must be one of {allowed}, "
                    f"got {global_pool!r}"
                )
            self.global_pool = global_pool
        self.num_classes = num_classes
        like = next(self.parameters(), None)
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        if isinstance(self.head, nn.Linear):
            trunc_normal_(self.head.weight, std=0.02)
            nn.init.zeros_(self.head.bias)
        if like is not None:
            self.head.to(like.device, like.dtype)
        self.head.train(self.training)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the blocks again in the backward pass, in place of keeping what they computed."""
        self.grad_checkpointing = enable

    def fit_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of this network at another full size as they are at this one.

        Args:
            weights: Its weights by name; others stay as they are.
        """
        return dict(weights)

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters of two or more axes that are not to be penalised."""
        return set()

    def run_stage(self, stage: int, maps: Tensor) -> tuple[Tensor, Grid]:
        """Run a stage, from the maps before it to its tokens and their grid."""
        tokens, grid = self.embed(stage, maps)
        for block in self.blocks(stage):
            if self.grad_checkpointing and self.training:
                tokens = checkpoint(block, tokens, grid)
            else:
                tokens = block(tokens, grid)
        return tokens, grid

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the maps (N, D, h, w) of stages, as timm's networks do.

        Args:
            x: Images (N, C, H, W).
            indices: The stages by number from 0; a number n for the last n, None for all.
            norm: Whether the last stage's map is that after the norm.
            stop_early: Whether to end with the last stage that is asked for.
            output_fmt: NCHW.
            intermediates_only: Whether to return the maps alone, without the tokens of the end.

        Raises:
            ValueError: Maps in another format are asked for.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be NCHW, got {output_fmt}")
        taken, last = feature_take_indices(self.num_stages, indices)
        maps, intermediates = x, []
        for stage in range(last + 1 if stop_early else self.num_stages):
            tokens, grid = self.run_stage(stage, maps)
            maps = as_maps(tokens, grid)
            is_normed = norm and stage == self.num_stages - 1
            if stage in taken:
                intermediates.append(as_maps(self.norm(tokens), grid) if is_normed else maps)
        if intermediates_only:
            return intermediates
        return self.norm(tokens) if stage == self.num_stages - 1 else tokens, intermediates

    def prune_intermediate_layers(
        self,
        indices: int | Sequence[int] = 1,
        prune_norm: bool = False,
        prune_head: bool = True,
    ) -> list[int]:
        """Remove what the maps of some stages do not need, as timm's networks do.

        Args:
            indices: The stages, as in `forward_intermediates`.
            prune_norm: Whether the norm goes; it does with the last stage, too.
            prune_head: Whether the head goes; it does with the last stage, too.

        Returns:
            The stages by number from 0.
        """
        taken, last = feature_take_indices(self.num_stages, indices)
        is_cut = last < self.num_stages - 1
        for stage in range(last + 1, self.num_stages):
            for name in self.names_of_stage(stage):
                delattr(self, name)
        self.num_stages = last + 1
        if is_cut:
            self.num_features = self.head_hidden_size = self.feature_info[last]["num_chs"]
        if is_cut or prune_norm:
            self.norm = nn.Identity()
        if is_cut or prune_head:
            self.reset_classifier(0, "")
        return list(taken)

    def names_of_stage(self, stage: int) -> list[str]:
        """Return the names of the modules and parameters that belong to a stage."""
        raise NotImplementedError

    def forward_features(self, images: Tensor) -> Tensor:
        """Compute the tokens (N, P + h · w, D) of the last stage, after the norm."""
        maps = images
        for stage in range(self.num_stages):
            tokens, grid = self.run_stage(stage, maps)
            maps = as_maps(tokens, grid)
        return self.norm(tokens)  # type: ignore[no-any-return]

    def forward_head(self, tokens: Tensor, pre_logits: bool = False) -> Tensor:
        """Classify the tokens of `forward_features`.

        Args:
            tokens: (N, P + h · w, D).
            pre_logits: Whether to return the features (N, D) that the head would classify.
        """
        num_prefix = int("token" in self.pools)
        if self.global_pool == "token":
            tokens = tokens[:, 0]
        elif self.global_pool == "avg":
            tokens = tokens[:, num_prefix:].mean(1)
        features = self.head_drop(tokens)
        return features if pre_logits else self.head(features)  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits (N, classes) of images (N, C, H, W)."""
        return self.forward_head(self.forward_features(images))


def as_maps(tokens: Tensor, grid: Grid) -> Tensor:
    """(N, P + h · w, D) -> (N, D, h, w), without the tokens that have no place in the map."""
    height, width = grid
    maps: Tensor = rearrange(tokens[:, -height * width :], "n (h w) d -> n d h w", h=height)
    return maps


def check_sides(size: Grid, multiple: Grid) -> None:
    """Check that an image has no rows and columns that the network would leave out.

    Args:
        size: (height, width) in pixels.
        multiple: What they must be multiples of.

    Raises:
        ValueError: They are not; the message names the nearest sizes.
    """
    if not any(side % least for side, least in zip(size, multiple, strict=True)):
        return
    pairs = list(zip(size, multiple, strict=True))
    below = tuple(side // least * least for side, least in pairs)
    above = tuple(-(-side // least) * least for side, least in pairs)
    nearest = " or ".join(
        f"{height} × {width}" for height, width in (below, above) if height * width
    )
    raise ValueError(
        f"sides of images must be multiples of {as_size(*multiple)} pixels, got {size[0]} × "
        f"{size[1]}; nearest: {nearest}"
    )
