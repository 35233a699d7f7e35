"""Any backbone as masked pretraining sees it: a map of features, and tokens after the stem.

Backbones differ in where their map has its channels, and in whether they have tokens that a learned
one can replace. Both are found out by a pass of two black images, once.

Shape legend: N images of C × H × W; maps (N, D, h, w); stems of E channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import first_line
from .backbone import total_stride

Layout = Literal["NCHW", "NHWC", "NLC"]

STEMS = ("patch_embed", "patch_embed1", "stage1_conv_embed")
"""What networks call the stem that makes tokens of patches: timm's transformers, PVT and CSWin."""


class Stem(NamedTuple):
    """The stem of a network, whose outputs are tokens."""

    name: str
    layout: Layout
    dim: int
    """E."""
    stride: tuple[int, int]
    """(height, width) of a token in pixels."""


@dataclass(frozen=True)
class MapReader:
    """How to get the last map of a network."""

    layout: Layout
    """That of `forward_features`; NLC for those whose maps come from `forward_intermediates`."""
    dim: int
    """D."""
    stride: tuple[int, int]
    """(height, width) of a position of the map in pixels."""
    stem: Stem | None
    """Where learned tokens go; None if the network has no tokens."""

    def __call__(
        self,
        network: nn.Module,
        images: Tensor,
        mask: Tensor | None = None,
        token: Tensor | None = None,
    ) -> Tensor:
        """Return the last map (N, D, h, w) of images.

        Args:
            network: The network, or a twin of it.
            images: (N, C, H, W).
            mask: (N, h, w) bool over the tokens of the stem, True for those to replace; None for
                none.
            token: (E,), what they are replaced by.
        """
        if self.stem is None or mask is None or token is None:
            return read_map(network, images, self.layout)
        module = network.get_submodule(self.stem.name)
        module.masking = _for_layout(mask, token, self.stem.layout)  # type: ignore[assignment]
        try:
            return read_map(network, images, self.layout)
        finally:
            module.masking = None  # type: ignore[assignment]


def read_map(network: Any, images: Tensor, layout: Layout) -> Tensor:
    """Return the last map (N, D, h, w) of a network whose maps have a layout; see `MapReader`."""
    if layout == "NLC":
        maps: list[Tensor] = network.forward_intermediates(
            images, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return maps[-1]
    features: Tensor = network.forward_features(images)
    return features if layout == "NCHW" else features.permute(0, 3, 1, 2)


def find_maps(network: nn.Module, images: Tensor, name: str) -> MapReader:
    """Find out how to get a network's maps, and where it has tokens.

    Args:
        network: The network.
        images: Two black images (2, C, H, W).
        name: The network's name, for messages.

    Raises:
        ValueError: The network has no map of features, or its stride does not divide the images.
    """
    stems: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda *io, name=stem: stems.update({name: io[2]}))
        for stem, module in network.named_children()
        if stem in STEMS
    ]
    mode = network.training
    try:
        with torch.no_grad():
            layout, maps = _find_layout(network.eval(), images)
    except Exception as error:  # networks raise anything
        raise ValueError(
            f"model.encoder {name!r} must give a map of features (N, D, h, w), by forward_features "
            f"or timm's forward_intermediates: {first_line(error)}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
        network.train(mode)
    stride = _stride(network, images, maps, name)
    found = [_find_stem(stem, tokens, images) for stem, tokens in stems.items()]
    stem = next(filter(None, found), None)
    return MapReader(layout, maps.shape[1], stride, stem)


def _find_layout(network: Any, images: Tensor) -> tuple[Layout, Tensor]:
    """Return where the maps of a network have their channels, and its map of the images."""
    if hasattr(network, "forward_features"):
        features = network.forward_features(images)
        if isinstance(features, Tensor) and features.ndim == 4:
            dim, told = getattr(network, "num_features", None), getattr(network, "output_fmt", None)
            is_last = str(told) == "NHWC" or (dim not in (None, features.shape[1]))
            layout: Layout = "NHWC" if is_last else "NCHW"
            return layout, read_map(network, images, layout)
    if not hasattr(network, "forward_intermediates"):
        raise ValueError("it has neither")
    maps = read_map(network, images, "NLC")
    if maps.ndim != 4:
        raise ValueError(f"got {tuple(maps.shape)}")
    return "NLC", maps


def _stride(network: Any, images: Tensor, maps: Tensor, name: str) -> tuple[int, int]:
    """Return the pixels between the positions of a map.

    Raises:
        ValueError: They do not divide the images; the message names the nearest sizes.
    """
    size, grid = tuple(images.shape[-2:]), tuple(maps.shape[-2:])
    told = total_stride(network)
    if told and any(
        cells in (side // told, -(-side // told)) for side, cells in zip(size, grid, strict=True)
    ):
        stride = (told, told)  # an image may end within the last position, or behind it
    else:
        stride = (-(-size[0] // grid[0]), -(-size[1] // grid[1]))
    if any(side % step for side, step in zip(size, stride, strict=True)):
        sides = list(zip(size, stride, strict=True))
        below = [side // step * step for side, step in sides]
        above = [-(-side // step) * step for side, step in sides]
        near = " or ".join(f"{h} x {w}" for h, w in (below, above) if h * w)
        raise ValueError(
            f"model.image_size must be a multiple of {stride[0]} x {stride[1]} pixels, the stride "
            f"of {name}, got {size[0]} x {size[1]}; nearest: {near}"
        )
    return stride


def _find_stem(name: str, tokens: Any, images: Tensor) -> Stem | None:
    """Return what a stem makes of images; None if that is no grid of tokens."""
    if not isinstance(tokens, Tensor) or tokens.ndim not in (3, 4):
        return None
    height, width = images.shape[-2:]
    if tokens.ndim == 3:
        side = round((height * width / tokens.shape[1]) ** 0.5)
        fits = height % side == 0 and width % side == 0
        return Stem(name, "NLC", tokens.shape[2], (side, side)) if fits else None
    for layout, grid, dim in (
        ("NHWC", tokens.shape[1:3], tokens.shape[3]),
        ("NCHW", tokens.shape[2:4], tokens.shape[1]),
    ):
        if height % grid[0] == 0 and width % grid[1] == 0:
            return Stem(name, layout, dim, (height // grid[0], width // grid[1]))  # type: ignore[arg-type]
    return None


def _for_layout(mask: Tensor, token: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Return a mask (N, h, w) and a token (E,) as tokens of a layout broadcast with them."""
    if layout == "NCHW":
        return mask[:, None], token[:, None, None]
    return (mask.flatten(1) if layout == "NLC" else mask)[..., None], token


def replace_masked(stem: nn.Module, _: object, tokens: Tensor) -> Tensor | None:
    """A forward hook of a stem, which replaces its masked tokens.

    It is always there, and reads what is masked from the stem: twins are copies of the network, and
    a graph of torch.compile holds it.
    """
    masking = getattr(stem, "masking", None)
    if masking is None:
        return None
    mask, token = masking
    return torch.where(mask, token.to(tokens.dtype), tokens)
