"""Draw what a masked autoencoder sees and reconstructs at each input size of its run.

Reconstructions of normalised pixels are shown with the mean and variance of the true patches, which
the model never sees: a visual aid, not a measure of quality. Histograms of oriented gradients
are drawn as a star of strokes per cell, along the edges.

One channel is shown, or three. Values of more than 8 bits are shown from two standard deviations
below the channel's mean to two above it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from einops import rearrange
from torch import Tensor

from .. import data
from ..curriculum import EFFICIENTTRAIN_SIZES, Curriculum, Size, as_pair, as_size
from ..errors import check
from ..lowfreq import Nyquist, low_frequency_crop
from ..model import MaskedModel, unnormalize
from ..runs import Run
from ..weights import find_weights, load_masked
from .palette import style
from .run_images import load_images, source_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


NYQUIST: dict[str, Nyquist] = {"paper": "paper", "symmetric": "symmetric"}


MOST_SIZES = 32
"""The most input sizes of a run that are drawn without being asked for."""


GREY = 0.5
"""The value of masked pixels, in [0, 1]."""


FONT = 11
"""The size of all text, in points: to be read where the picture is as wide as a page."""


GLYPH = 9
"""Side of a drawn cell in pixels; odd, so that all strokes meet in one pixel."""


Column: TypeAlias = tuple[str, Tensor]
"""A title, and images (N, C, h, w)."""


class Reconstruction(NamedTuple):
    """What a model sees and reconstructs at one input size: images (N, C, h, w)."""

    low_frequency: Tensor
    masked: Tensor
    """Masked patches are NaN."""
    reconstructed: Tensor
    """Visible patches unchanged, masked ones as predicted; for target hog, its features."""
    target: Tensor
    """The same with all patches unchanged."""


@torch.no_grad()
def reconstruct(
    model: MaskedModel,
    images: Tensor,
    size: Size,
    noise: Tensor,
    nyquist: Nyquist = "paper",
) -> Reconstruction:
    """Crop, mask and reconstruct images.

    Args:
        model: The model in evaluation mode; its input size becomes `size`.
        images: (N, C, H, W), normalised, at full size.
        size: The input size, in pixels.
        noise: (N, U) for the full grid; see `mae_et.data.PretrainTransform`.
        nyquist: See `low_frequency_crop`.
    """
    model.set_input_size(size)
    cropped = low_frequency_crop(images, as_pair(size), nyquist)
    output = model(cropped, noise[:, : model.num_units])
    patches, prediction = model.patchify(cropped), output.prediction.float()
    if model.target_name == "norm_pixel":
        prediction = unnormalize(prediction, patches)
    mask, features = output.mask[..., None], model.target.features(cropped)
    mixed = torch.where(mask, prediction, model.patchify(features))
    return Reconstruction(
        cropped,
        model.unpatchify(patches.masked_fill(mask, math.nan)),
        model.unpatchify(mixed, model.target.patch_size),
        features,
    )


def glyphs(histograms: Tensor, in_chans: int) -> Tensor:
    """Draw histograms of oriented gradients: (N, C · bins, h, w) -> (N, 1, h · G, w · G).

    A cell of G × G pixels has a stroke across each orientation, as bright as the channels' mean.

    Args:
        histograms: (N, C · bins, h, w), as `mae_et.model.targets.hog` makes them.
        in_chans: The number of channels C.
    """
    means = rearrange(histograms, "n (c b) h w -> n c b h w", c=in_chans).mean(1).clamp(min=0)
    bins = means.shape[1]
    angles = (torch.arange(bins) + 0.5) * math.pi / bins  # of the gradients; y grows downwards
    offsets = torch.arange(GLYPH) - (GLYPH - 1) / 2
    normal_x, normal_y = angles.cos()[:, None, None], angles.sin()[:, None, None]
    distances = (normal_x * offsets + normal_y * offsets[:, None]).abs()
    strokes = (1 - distances).clamp(min=0)  # (bins, G, G)
    picture = torch.einsum("nbhw,byx->nhywx", means, strokes.to(means))
    return rearrange(picture, "n h y w x -> n 1 (h y) (w x)").clamp(max=1)


def draw(
    images: Tensor,
    columns: Sequence[Column],
    metrics: Sequence[dict[str, Any]] = (),
) -> Figure:
    """Draw a row per image, with the image and a cell per column; below, the run's losses.

    Args:
        images: (N, C, H, W), values in [0, 1].
        columns: Title and images (N, C, h, w) of each column, values in [0, 1], NaN where grey.
        metrics: The lines of the run's metrics; empty for no curves.
    """
    from matplotlib.figure import Figure

    cells = [("input", images), *columns]
    num_rows, num_columns = len(images), len(cells)
    figure = Figure(
        figsize=(1.15 * num_columns, 1.15 * num_rows + (3.2 if metrics else 0.4)),
        layout="constrained",
        dpi=120,
    )
    parts: Any = (
        figure.subfigures(2, 1, height_ratios=[1.15 * num_rows, 3]) if metrics else [figure]
    )
    axes = parts[0].subplots(num_rows, num_columns, squeeze=False)
    for column, (title, pictures) in enumerate(cells):
        axes[0][column].set_title(title, fontsize=FONT)
        for row, picture in enumerate(pictures):
            axis = axes[row][column]
            axis.imshow(_pixels(picture), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.axis("off")
    if metrics:
        _draw_losses(parts[1].subplots(), metrics)
    return figure


def _pixels(picture: Tensor) -> Any:
    array = torch.nan_to_num(picture.clamp(0, 1), nan=GREY).permute(1, 2, 0).numpy()
    return array[..., 0] if array.shape[-1] == 1 else array[..., :3]


def _draw_losses(axis: Any, metrics: Sequence[dict[str, Any]]) -> None:
    training = [line for line in metrics if "loss" in line]
    evaluations = [line for line in metrics if "eval_loss" in line]
    sizes = list(dict.fromkeys(str(line["size"]) for line in training))
    for index, size in enumerate(sizes):
        lines = [line for line in training if str(line["size"]) == size]
        color, _, dashes = style(index)
        axis.plot(
            [line["step"] for line in lines],
            [line["loss"] for line in lines],
            marker="." if len(lines) == 1 else None,
            color=color,
            linestyle=dashes,
            label=f"training, size {size}",
        )
    axis.plot(
        [line["step"] for line in evaluations],
        [line["eval_loss"] for line in evaluations],
        "k.--",
        label="held-out images, full size",
    )
    axis.set_xlabel("optimizer step", fontsize=FONT)
    axis.set_ylabel("loss", fontsize=FONT)
    axis.tick_params(labelsize=FONT)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=FONT)


def picture(
    checkpoint: Path,
    *,
    path: str | None = None,
    split: str | None = None,
    sizes: Sequence[Size] | None = None,
    num_images: int = 6,
    channels: Sequence[int] | None = None,
    seed: int = 0,
    with_losses: bool = True,
) -> Figure:
    """Draw what the model of a checkpoint sees and reconstructs, and the losses of its run.

    Args:
        checkpoint: See `load_masked`.
        path: The images, as in data.path; None for those of the run.
        split: The split of the images; None for the held-out ones.
        sizes: Input sizes, in pixels; None for those of the run.
        num_images: Number of rows.
        channels: One channel, or three as RGB, from 0; None for the first one or three.
        seed: Seed of the choice of images and masks.
        with_losses: Whether the losses of the run are drawn.

    Raises:
        ValueError: The checkpoint or the data is missing, or a channel or a size does not exist.
    """
    model = load_masked(checkpoint).eval()
    channels = channels or ([0] if model.in_chans < 3 else [0, 1, 2])
    check(
        len(channels) in (1, 3) and all(0 <= channel < model.in_chans for channel in channels),
        "--channels",
        channels,
        f"one or three channels, from 0 to {model.in_chans - 1}",
    )
    run = Run.of(checkpoint)
    metrics = run.read_metrics() if run else []
    source = source_of(run, path, num_images, model.in_chans)
    if run is None:  # then the weights may tell how images are normalised
        told: dict[str, Any] = {**find_weights(checkpoint).normalisation}
        source = replace(source, **told)
    run_seed = run.section("run").get("seed", 0) if run else 0
    check(isinstance(run_seed, int) and run_seed >= 0, "run.seed", run_seed, "at least 0")
    images, noise = load_images(model, source, split, num_images, run_seed, seed)

    mean, std = data.channel_statistics(source.mean), data.channel_statistics(source.std)
    normalized = data.normalize(images, mean, std)
    scale, shift = (1 / 4, 1 / 2) if images.is_floating_point() else (std, mean)

    def shown(pictures: Tensor) -> Tensor:
        return (pictures * scale + shift)[:, channels]

    nyquist = run.section("curriculum").get("nyquist", "paper") if run else "paper"
    check(str(nyquist) in NYQUIST, "curriculum.nyquist", nyquist, f"one of {', '.join(NYQUIST)}")
    columns: list[Column] = []
    for size in sizes or _sizes(model, metrics):
        pictures = reconstruct(model, normalized, size, noise, NYQUIST[str(nyquist)])
        columns += _columns(pictures, size, model, shown)
    return draw(shown(normalized), columns, metrics if with_losses else ())


def _columns(
    pictures: Reconstruction,
    size: Size,
    model: MaskedModel,
    shown: Callable[[Tensor], Tensor],
) -> list[Column]:
    """Return the columns of a size; `shown` turns normalised images into values in [0, 1]."""
    pixels = "×".join(map(str, dict.fromkeys(as_pair(size)))) + " px"
    columns = [(f"masked\n{pixels}", shown(pictures.masked))]
    if as_pair(size) != as_pair(model.full_size):  # else it is the input
        columns.insert(0, (f"low\nfrequencies\n{pixels}", shown(pictures.low_frequency)))
    if model.target_name != "hog":
        return [*columns, (f"reconstructed\n{pixels}", shown(pictures.reconstructed))]
    return [
        *columns,
        (f"reconstructed\n{pixels}", glyphs(pictures.reconstructed, model.in_chans)),
        (f"HOG\n{pixels}", glyphs(pictures.target, model.in_chans)),
    ]


def _sizes(model: MaskedModel, metrics: Sequence[dict[str, Any]]) -> list[Size]:
    """Return the input sizes of a run, each once; without a run, those of EfficientTrain."""
    seen = [line["size"] for line in metrics if "size" in line]
    number = len({as_pair(size) for size in seen})
    check(number <= MOST_SIZES, "--sizes", None, f"given, since the run has {number} sizes")
    if not seen:
        curriculum = Curriculum.efficienttrain(
            full_size=model.full_size,
            patch_size=model.size_multiple,
            num_steps=len(EFFICIENTTRAIN_SIZES),
        )
        seen = [stage.size for stage in curriculum.stages]
    return [as_size(*pair) for pair in dict.fromkeys(as_pair(size) for size in seen)]
