"""Masked pretraining of any backbone that gives a map of features.

Source: SimMIM (https://arxiv.org/abs/2111.09886): masked units stay in the input, as a learned
token, and one linear layer predicts the pixels of each position of the last map. So the network
computes what it always does, and needs no change. That convolutional networks can be trained so,
with a learned colour in place of the token, is from A2MIM (https://arxiv.org/abs/2205.13943), which
adds losses that are left out here.

What stands for masked pixels: in the input, a colour (learned, or the mean colour where tokens take
its place), so that no kernel that overlaps a unit's border sees them; after the stem, a learned
token in networks that have tokens there.

Losses: the mean over masked units of the absolute error for the target pixel, as in SimMIM, and of
the squared error for norm_pixel (as in MAE) and hog (as in MaskFeat).

Shape legend: N images of C × H × W, L mask units, M of them masked, P values of a unit or its
target; maps (N, D, h, w); U pixels of a unit, S pixels of a position of the map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from ..curriculum import Size, as_pair, as_size
from ..errors import check
from .feature_maps import find_maps, replace_masked
from .mae_output import MAEOutput
from .masked import MaskedModel
from .masking import mask_patches, take_patches
from .meta import unreached
from .pos_embed import Grid
from .simmim_network import build_network, check_unit, with_hook_of
from .targets import create_target
from .twins import HasTwins, Twins, device_of


class SimMIM(HasTwins, MaskedModel):
    """A masked model over any backbone, whose patches are the mask units.

    Parameters that the map does not depend on, such as ConvNeXt's last norm, are not trained.

    Args:
        encoder: Name of a timm model, or "module:callable"; see `build_backbone`. It is called with
            num_classes=0, and with those of img_size= and in_chans= that it takes, and has
            `forward_features`, which returns a map, or timm's `forward_intermediates`.
        encoder_args: Further arguments of the network.
        image_size: Full size, pixels or (height, width).
        patch_size: Pixels or (height, width) of the network's patches; None for its default.
        in_chans: C.
        mask_ratio: Share of masked units, in (0, 1).
        mask_unit: Pixels or (height, width) of a mask unit; None for the stride of the last map.
        target: "pixel", "norm_pixel" (each unit by its own mean and variance) or "hog".
        hog: Options of `mae_et.model.targets.hog`, for that target.

    Raises:
        ValueError: The network gives no map, or a size does not fit.
    """

    method = "simmim"

    def __init__(
        self,
        encoder: str,
        *,
        encoder_args: dict[str, Any] | None = None,
        image_size: Size = 224,
        patch_size: Size | None = None,
        in_chans: int = 3,
        mask_ratio: float = 0.6,
        mask_unit: Size | None = None,
        target: Literal["norm_pixel", "pixel", "hog"] = "pixel",
        hog: Mapping[str, Any] | None = None,
    ) -> None:
        built = build_network(encoder, encoder_args or {}, image_size, patch_size, in_chans)
        images = torch.zeros(2, in_chans, *as_pair(image_size), device=device_of(built.module))
        read = find_maps(built.module, images, encoder)
        unit = as_pair(mask_unit or as_size(*read.stride))
        check_unit(unit, as_pair(image_size), read.stem.stride if read.stem else (1, 1))
        super().__init__(
            full_size=as_size(*as_pair(image_size)), patch_size=unit, mask_ratio=mask_ratio
        )
        self.encoder = built.module
        self.encoder_name = encoder
        self.encoder_args = encoder_args or {}
        self.in_chans = in_chans
        self.read = read
        self.arguments = built.arguments
        self.target_name = target
        self.target = create_target(target, patch_size=unit, in_chans=in_chans, **(hog or {}))
        self.mask_token = nn.Parameter(torch.zeros(read.stem.dim if read.stem else in_chans))
        if read.stem:
            nn.init.trunc_normal_(self.mask_token, std=0.02)
            self.encoder.get_submodule(read.stem.name).register_forward_hook(replace_masked)
        self.decoder_pred = nn.Conv2d(read.dim, self._num_predicted(), 1)
        nn.init.trunc_normal_(self.decoder_pred.weight, std=0.02)
        nn.init.zeros_(self.decoder_pred.bias)  # type: ignore[arg-type]
        self._twins = Twins(
            self.encoder,
            full_size=self.full_size,
            build=with_hook_of(built, read.stem),
            forward=read,
        )
        self.set_input_size(self.full_size)
        for name in unreached(self, images):
            self.get_parameter(name).requires_grad_(False)

    def _num_predicted(self) -> int:
        """Return the values that a position of the map predicts.

        Raises:
            ValueError: Cells of the target do not divide a position.
        """
        cells = []
        for stride, unit, values in zip(
            self.read.stride, self.patch_size, self.target.patch_size, strict=True
        ):
            cell = unit // values
            check(stride % cell == 0, "model.hog.cell", cell, f"a divisor of the stride {stride}")
            cells.append(stride // cell)
        return math.prod(cells) * self.target.num_features

    @property
    def size_multiple(self) -> Size:
        """The pixels, or (height, width), of whole mask units and whole positions of the map."""
        return as_size(*map(math.lcm, self.patch_size, self.read.stride))

    def _multiple_in_words(self) -> str:
        unit, stride = as_size(*self.patch_size), as_size(*self.read.stride)
        return f"{self.size_multiple} (model.mask_unit {unit}, the network's stride {stride})"

    def _units_in_words(self) -> str:
        return f"mask units of {self.mask_unit} pixels"

    def check_input_size(self, size: Size) -> Grid:
        """Return the grid (rows, columns) of mask units of an input size.

        Args:
            size: Pixels or (height, width).

        Raises:
            ValueError: The size does not fit the mask units or the network.
        """
        grid, pair = super().check_input_size(size), as_pair(size)
        sides = tuple(side // step for side, step in zip(pair, self.read.stride, strict=True))

        def check_map(maps: Tensor) -> None:
            if maps.shape[-2:] != sides:
                raise ValueError(
                    f"{type(self.encoder).__name__} must give a map of {sides[0]} x {sides[1]} "
                    f"positions of images of size {size}, got {tuple(maps.shape[-2:])}"
                )

        self._twins.prepare(size, self.in_chans, check_map)
        return grid

    def forward(
        self,
        images: Tensor,
        noise: Tensor | None = None,
        *,
        masked_only: bool = False,
        size: Size | None = None,
    ) -> MAEOutput:
        """Mask, encode, predict and score a batch; see `MaskedModel.forward`."""
        if size is not None:  # in a method of its own, it would cut torch.compile's graph again
            images = self.at_size(images, size)
        noise = self._noise_for(images, noise)
        patch_mask = mask_patches(noise, self.num_visible)
        maps = self._encode(images, patch_mask.mask)
        predicted = self._predict(maps)

        target = self.target.features(images)
        masked = patch_mask.masked
        values = self.target.normalize(take_patches(self.patchify(target), masked).float())
        scored = take_patches(predicted, masked)
        is_pixel = self.target_name == "pixel"
        loss_of = nn.functional.l1_loss if is_pixel else nn.functional.mse_loss
        loss = loss_of(scored.float(), values)
        if masked_only:
            return MAEOutput(loss, patch_mask.mask, scored, masked)
        order = torch.arange(self.num_patches, device=images.device).expand(len(images), -1)
        return MAEOutput(loss, patch_mask.mask, predicted, order)

    def _encode(self, images: Tensor, mask: Tensor) -> Tensor:
        """Return the last map (N, D, h, w) of images whose units (N, L) are masked where True."""
        has_tokens = self.read.stem is not None
        colour = torch.zeros_like(self.mask_token[:1]) if has_tokens else self.mask_token
        hidden = self._enlarge(mask, (1, 1))[:, None]
        images = torch.where(hidden, colour.to(images.dtype)[:, None, None], images)
        twin = self._twins.get(self.input_size)
        if self.read.stem is None:
            maps: Tensor = self._twins.run(twin, images)
        else:
            maps = self._twins.run(
                twin, images, self._enlarge(mask, self.read.stem.stride), self.mask_token
            )
        return maps

    def _enlarge(self, mask: Tensor, step: tuple[int, int]) -> Tensor:
        """Return a mask (N, L) of units over all pixels, or over cells of `step` pixels."""
        grid = rearrange(mask, "n (r c) -> n r c", r=self.grid[0])
        for axis, (unit, of_cell) in enumerate(zip(self.patch_size, step, strict=True), start=1):
            grid = grid.repeat_interleave(unit // of_cell, dim=axis)
        return grid

    def _predict(self, maps: Tensor) -> Tensor:
        """Predict the targets of all units, (N, L, P), from the last map (N, D, h, w)."""
        predicted = self.decoder_pred(maps)
        unit, values = self.patch_size, self.target.patch_size
        rows, columns = (
            stride * value // side
            for stride, value, side in zip(self.read.stride, values, unit, strict=True)
        )
        wide = rearrange(predicted, "n (f y x) h w -> n f (h y) (w x)", y=rows, x=columns)
        return self.patchify(wide)

    def features(self, images: Tensor) -> Tensor:
        """Return the network's own pooled features, or else the mean of its last map."""
        if hasattr(self.encoder, "forward_head"):
            pooled = self.encoder.forward_head(
                self.encoder.forward_features(images), pre_logits=True
            )
        else:
            pooled = self.read(self.encoder, images).mean((2, 3))
        features: Tensor = pooled.float()
        return features

    def timm_arguments(self) -> dict[str, Any]:
        """Return the arguments that the network was built with."""
        return dict(self.arguments)

    def no_weight_decay(self) -> set[str]:
        """Return the names of what the network itself does not penalise."""
        own: Callable[[], set[str]] = getattr(self.encoder, "no_weight_decay", set)
        return {f"encoder.{name}" for name in own()}
