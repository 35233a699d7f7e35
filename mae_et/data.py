"""Data sets, the sample stream, and the loader.

One sample stream: sample number k of the run (0, 1, 2, …) determines its epoch (k // images), its
image (that epoch's permutation) and all of its randomness (generators seeded by the run's seed and
k). Optimizer step t uses the samples t·G … (t+1)·G - 1 for a global batch of G, split over the
processes. So what a step sees depends on no number of workers, processes or restarts.

The loader knows no stage: it hands over uint8 images at full size, in chunks.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from .config import PATH_KINDS

Transform = Callable[[Image.Image, int, int], dict[str, Any]]
"""(image, its row, sample number) -> a sample's fields, drawing from the global generators."""

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Channels -> the Pillow mode that every image is converted to."""


def load_splits(path: str) -> dict[str, datasets.Dataset]:
    """The splits of a data set, by name.

    Raises:
        ValueError: the path is of no known kind, does not exist, or holds no images.
    """
    kind, _, location = path.partition(":")
    if kind not in ("hub", "imagefolder", "parquet", "disk") or not location:
        raise ValueError(f"data.path must be {PATH_KINDS}, got {path!r}")
    if kind != "hub" and not Path(location).exists():
        raise ValueError(f"data.path must exist, got {path!r}")
    try:
        if kind == "hub":
            splits = datasets.load_dataset(location)
        elif kind == "disk":
            splits = datasets.load_from_disk(location)
        elif Path(location).is_file():
            splits = datasets.load_dataset(kind, data_files=location)
        else:
            splits = datasets.load_dataset(kind, data_dir=location)
    except Exception as error:  # the libraries behind these raise many kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"data.path {path!r} holds no data set of this kind: {reason}") from error
    if isinstance(splits, datasets.Dataset):
        splits = {"train": splits}
    if not any(len(split) for split in splits.values()):
        raise ValueError(f"data.path must hold images, got {path!r} with none")
    return dict(splits)


def take_split(splits: dict[str, datasets.Dataset], name: str, field: str) -> datasets.Dataset:
    """A split by name.

    Raises:
        ValueError: there is no such split.
    """
    if name not in splits:
        raise ValueError(f"{field} must be one of {', '.join(splits)}, got {name!r}")
    return splits[name]


def eval_split_name(splits: Iterable[str], split: str, eval_split: str | None) -> str | None:
    """The split to evaluate on: the one asked for, or validation or test if there is one.

    Raises:
        ValueError: it is the training split.
    """
    if eval_split == split:
        raise ValueError(f"data.eval_split must not be the training split, got {eval_split!r}")
    usual = (name for name in ("validation", "val", "test") if name in splits and name != split)
    return eval_split or next(usual, None)


def train_and_eval_splits(
    path: str, split: str, eval_split: str | None, eval_images: int, seed: int
) -> tuple[datasets.Dataset, datasets.Dataset]:
    """The training images, and held-out images to evaluate on; see `DataConfig.eval_split`."""
    splits = load_splits(path)
    train = take_split(splits, split, "data.split")
    name = eval_split_name(splits, split, eval_split)
    if name is not None:
        held_out = take_split(splits, name, "data.eval_split")
        order = np.random.default_rng([seed, 1]).permutation(len(held_out))
        return train, held_out.select(np.sort(order[:eval_images]))
    if len(train) < 2:
        raise ValueError(f"data.path must hold at least 2 images to hold one out, got {len(train)}")
    order = np.random.default_rng([seed, 1]).permutation(len(train))
    number = min(eval_images, max(1, len(train) // 10))
    return train.select(np.sort(order[number:])), train.select(np.sort(order[:number]))


class ImageTable:
    """The images of a data set, decoded one by one.

    Args:
        dataset: has a column of images.
        column: its name; None if it is the only one.
        in_chans: channels that every image is converted to: 1, 3 or 4.

    Raises:
        ValueError: there is no such column of images.
    """

    def __init__(self, dataset: datasets.Dataset, column: str | None, in_chans: int) -> None:
        images = [
            name
            for name, feature in dataset.features.items()
            if isinstance(feature, datasets.Image)
        ]
        self.column = column or (images[0] if len(images) == 1 else "")
        if self.column not in images:
            raise ValueError(
                f"data.image_column must be a column of `datasets.Image` "
                f"({', '.join(images) or 'there is none'}; all columns: "
                f"{', '.join(dataset.column_names)}), got {column!r}"
            )
        only = dataset.select_columns([self.column])
        self.rows = only.cast_column(self.column, datasets.Image(decode=False))
        self.mode = MODES[in_chans]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Image.Image:
        """The image of a row, upright and converted.

        Raises:
            UnreadableImageError: it is none; the message names it.
        """
        cell = self.rows[index][self.column]
        try:
            source = io.BytesIO(cell["bytes"]) if cell["bytes"] else cell["path"]
            with Image.open(source) as image:
                return ImageOps.exif_transpose(image).convert(self.mode)
        except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
            reason = "no image" if isinstance(error, UnidentifiedImageError) else str(error)
            raise UnreadableImageError(f"{self.name(index)}: {reason}") from error

    def blank(self) -> Image.Image:
        """An image in the place of one that can't be decoded."""
        return Image.new(self.mode, (32, 32))

    def name(self, index: int) -> str:
        """The file of a row, or its number if it has none."""
        cell = self.rows[index][self.column]
        return (cell and cell["path"]) or f"{self.rows.split} row {index}"


class UnreadableImageError(ValueError):
    """An image that can't be decoded; the message names it."""


class SampleStream(Dataset[dict[str, Any]]):
    """Sample number -> sample, for the whole run.

    An unreadable image is replaced by the data set's next readable one, and named in the sample's
    "unreadable" field.

    Args:
        images: the images of an epoch.
        transform: makes the sample of an image.
        seed: of the order and of the transforms.
        shuffle: whether each epoch has its own order; else sample k is image k % images.
    """

    def __init__(
        self, images: ImageTable, transform: Transform, seed: int, *, shuffle: bool = True
    ) -> None:
        self.images = images
        self.transform = transform
        self.seed = seed
        self.shuffle = shuffle
        self._epoch_order: tuple[int, Any] = (-1, None)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> dict[str, Any]:
        index = self.image_index(number)
        unreadable = []
        for offset in range(min(len(self), 1000)):
            candidate = (index + offset) % len(self)
            try:
                image = self.images[candidate]
            except UnreadableImageError as error:
                unreadable.append(str(error))
            else:
                seed_generators(self.seed, number)
                return {**self.transform(image, candidate, number), "unreadable": unreadable}
        raise ValueError(f"data.path must hold images, got none readable; first: {unreadable[0]}")

    def image_index(self, number: int) -> int:
        """The data set's row that sample `number` shows."""
        epoch, position = divmod(number, len(self))
        return int(self._order(epoch)[position]) if self.shuffle else position

    def _order(self, epoch: int) -> Any:
        if self._epoch_order[0] != epoch:
            order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self))
            self._epoch_order = (epoch, order)
        return self._epoch_order[1]


def seed_generators(*key: int) -> None:
    """Seed the CPU generators of Python, NumPy and torch, which image transforms draw from."""
    words = np.random.SeedSequence(key).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]) << 32 | int(words[3]))


class StepBatches:
    """The sample numbers of each chunk, for one process, from one step to another.

    Every step has the same number of chunks: the process's share of the global batch, cut into
    chunks of `chunk_size`.
    """

    def __init__(
        self, start: int, stop: int, *, batch_size: int, chunk_size: int, rank: int, world: int
    ) -> None:
        self.steps = range(start, stop)
        self.batch_size, self.chunk_size = batch_size, chunk_size
        self.rank, self.share = rank, batch_size // world

    @property
    def chunks_per_step(self) -> int:
        return self.share // self.chunk_size

    def __len__(self) -> int:
        return len(self.steps) * self.chunks_per_step

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            first = step * self.batch_size + self.rank * self.share
            for start in range(first, first + self.share, self.chunk_size):
                yield list(range(start, start + self.chunk_size))


def split_batch(
    batch_size: int, micro_batch_size: int | None, world: int, multiple: int = 1
) -> int:
    """The chunk size: images that one process handles at a time at full size.

    The largest number up to `micro_batch_size` that divides a process's share of the batch.

    Args:
        batch_size: images of a step, over all processes.
        micro_batch_size: the most that fit; None for the whole share.
        world: processes.
        multiple: the chunk size has to be a multiple of this.

    Raises:
        ValueError: the processes do not divide the batch, or the chunk size would be none.
    """
    if batch_size % world:
        raise ValueError(
            f"optim.batch_size must be a multiple of the {world} processes, got {batch_size}"
        )
    share = batch_size // world
    most = min(share, micro_batch_size or share)
    sizes = [size for size in range(multiple, most + 1, multiple) if share % size == 0]
    if not sizes:
        raise ValueError(
            f"optim.batch_size {batch_size} over {world} processes and optim.micro_batch_size "
            f"{micro_batch_size} must allow chunks of a multiple of {multiple} images"
        )
    return sizes[-1]


def shard(num_samples: int, batch_size: int, rank: int, world: int) -> list[list[int]]:
    """Batches of this process's share of the samples 0 … num_samples - 1, each sample once."""
    mine = range(rank, num_samples, world)
    return [list(mine[start : start + batch_size]) for start in range(0, len(mine), batch_size)]


def make_loader(
    stream: SampleStream,
    batches: Sequence[list[int]] | StepBatches,
    num_workers: int,
    pin_memory: bool,
) -> DataLoader[dict[str, Any]]:
    """A loader of the stream's samples, in the order of the batches."""
    return DataLoader(
        stream,
        batch_sampler=batches,
        num_workers=num_workers,
        pin_memory=pin_memory,
        collate_fn=collate,
        prefetch_factor=2 if num_workers else None,
    )


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack the fields of samples; the names of unreadable images become one list."""
    return {
        name: [line for sample in samples for line in sample[name]]
        if name == "unreadable"
        else torch.stack([torch.as_tensor(sample[name]) for sample in samples])
        for name in samples[0]
    }


def join(chunks: Sequence[Mapping[str, Any]], device: torch.device) -> dict[str, Tensor]:
    """The tensors of chunks, joined on the device."""
    moved = [
        {
            name: value.to(device, non_blocking=True)
            for name, value in chunk.items()
            if name != "unreadable"
        }
        for chunk in chunks
    ]
    if len(moved) == 1:
        return moved[0]
    return {name: torch.cat([chunk[name] for chunk in moved]) for name in moved[0]}


class PretrainTransform:
    """A random crop (bicubic) and flip as in MAE, and the noise that masks the sample's patches.

    Gives "image" (C, H, W) uint8 at full size, and "noise" (L,) for the full grid. A smaller grid
    of l patches uses the first l values, so masks too depend on the sample number alone.
    """

    def __init__(
        self,
        size: tuple[int, int],
        num_patches: int,
        crop_scale: tuple[float, float] = (0.2, 1.0),
        flip: bool = True,
    ) -> None:
        self.num_patches = num_patches
        self.augment = v2.Compose(
            [
                v2.RandomResizedCrop(
                    size, scale=crop_scale, interpolation=v2.InterpolationMode.BICUBIC
                ),
                v2.RandomHorizontalFlip(0.5 if flip else 0.0),
                v2.PILToTensor(),
            ]
        )

    def __call__(self, image: Image.Image, index: int, number: int) -> dict[str, Any]:
        return {"noise": torch.rand(self.num_patches), "image": self.augment(image)}


class EvalTransform:
    """The centre of the image at full size, (C, H, W) uint8, with noise as in training."""

    def __init__(self, size: tuple[int, int], num_patches: int) -> None:
        self.num_patches = num_patches
        self.crop = centre_crop(size)

    def __call__(self, image: Image.Image, index: int, number: int) -> dict[str, Any]:
        return {"noise": torch.rand(self.num_patches), "image": self.crop(image)}


def centre_crop(size: tuple[int, int]) -> v2.Compose:
    """The centre of a Pillow image as (C, height, width) uint8."""
    return v2.Compose(
        [
            v2.Resize(max(size), interpolation=v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(size),
            v2.PILToTensor(),
        ]
    )


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise (…, C, H, W) with values in 0 … 255 by statistics (C, 1, 1) of values in 0 … 1."""
    return (images - 255 * mean) / (255 * std)


def channel_statistics(values: Sequence[float], device: torch.device | str = "cpu") -> Tensor:
    """(C, 1, 1): a mean or deviation per channel, for `normalize`."""
    return torch.tensor(values, device=device).view(-1, 1, 1)
