"""The images that a run's reconstructions are drawn of: its own, or others.

A run may be a stranger's, so its own are opened only if they are files of this machine: to open
others could run code, or tell a host on the network that somebody looks at the run.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from .. import data
from ..config import DataConfig
from ..curriculum import as_pair
from ..data.tables import ALL_ENDINGS
from ..errors import check, first_line
from ..model import MaskedModel
from ..runs import Run

LOCAL_KINDS = ("imagefolder", "parquet", "webdataset", "disk")
"""Kinds of data.path that are files, unless they have an address in them."""


def source_of(run: Run | None, path: str | None, num_images: int, in_chans: int) -> DataConfig:
    """Return where the images to draw come from, and how they are normalised.

    Args:
        run: The run, whose configuration says both; None for neither.
        path: The images, as in data.path; None for those of the run.
        num_images: How many there should be.
        in_chans: Channels of the model.

    Raises:
        ValueError: The configuration is damaged, or names none, or images that are not opened
            unless the user gives their path.
    """
    section = run.section("data") if run else {}
    given = {"path": path, "sources": [], "streaming": False} if path else {}
    try:
        source = DataConfig.from_run({"eval_images": num_images, **section, **given})
        named = [source.path, *(part.path for part in source.sources)]
        ok = all(name is None or isinstance(name, str) for name in named)
        ok = ok and (run is None or len(source.mean) == len(source.std) == in_chans)
        check(ok, "its paths, mean and std", section, "texts, and a number per channel")
    except Exception as error:  # values of any type
        where = run.config_file if run else "--data.path"
        raise ValueError(f"{where} has a damaged section data: {first_line(error)}") from error
    if source.path is None and not source.sources:
        raise ValueError("data.path must be given, since the checkpoint names no data")
    for name in named if path is None else ():
        if name is not None and not is_local(name):
            raise ValueError(
                f"--data.path must be given: the run's images are {name}, which is not files of "
                f"this machine but would be fetched or run; --data.path {name} does so"
            )
    return source


def is_local(path: str) -> bool:
    """Return whether a path as in `data.path` is files of this machine, which nothing fetches."""
    kind, _, location = path.partition(":")
    if kind in ("hub", "python") or "://" in path or "::" in path:  # "::" chains addresses
        return False
    bare = Path(path).expanduser()
    is_table = bare.is_file() and path.lower().endswith(ALL_ENDINGS)
    return bool(kind in LOCAL_KINDS and location) or bare.is_dir() or is_table


def load_images(
    model: MaskedModel,
    source: DataConfig,
    split: str | None,
    num_images: int,
    run_seed: int,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Load images, and the noise that masks them.

    Args:
        model: The model.
        source: Where they come from.
        split: Their split; None for the held-out ones.
        num_images: The most images.
        run_seed: Seed of the run, which chose the held-out images.
        seed: Seed of the choice of images and masks.

    Returns:
        Images (N, C, H, W) as loaded, and noise (N, L).

    Raises:
        ValueError: The images can't be read.
    """
    data.allow_pixels(source.max_pixels)
    images: data.Images
    if split:
        if source.path is None:
            raise ValueError(f"--data.split must be left out with data.sources, got {split!r}")
        rows = data.take_split(data.load_splits(source.path, source.layout), split, "data.split")
        images = data.ImageTable(rows, source.image_column, model.in_chans)
    else:
        _, images = data.open_images(source, model.in_chans, run_seed)
    transform = data.EvalTransform(as_pair(model.full_size), model.num_units)
    samples = data.Samples(images, transform, seed)  # shuffled by --seed
    batch = data.collate([samples[number] for number in range(min(num_images, len(samples)))])
    return batch["image"], batch["noise"]
