"""How fast training's own loader reads images, before and after packing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice

import datasets

from ..data import (
    ImageTable,
    PretrainTransform,
    SampleClock,
    Samples,
    UnreadableImageError,
    image_column,
    make_loader,
    open_streams,
    undecoded,
)
from ..errors import RunStoppedError

SECONDS = 2.0
"""The least time of a measurement."""

BATCH = 8
"""Images of a batch: few, so that big photos don't take minutes."""

MOST_IMAGES = 512
"""The most packed images to measure with; they are held in memory."""

SIZE, PATCH = 224, 16
"""The usual size of samples, which are smaller if images are, and of their patches."""

CHANNELS = (3, 1, 4, 2, *range(5, 65))
"""Numbers of channels, in the order in which they are tried."""


@dataclass(frozen=True, kw_only=True)
class LoaderSpeed:
    """Images per second of training's loader."""

    before: float
    after: float
    size: int
    """Pixels of a side of the samples."""
    num_workers: int

    def __str__(self) -> str:
        times, workers = self.after / self.before, "worker" if self.num_workers == 1 else "workers"
        before, after = (
            f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}" for rate in (self.before, self.after)
        )
        return (
            f"training's loader ({self.size} px, {self.num_workers} {workers}): {before} images/s "
            f"before, {after} after, {times:.2g} times as many"
        )


def measure(
    source: datasets.Dataset,
    split: str,
    path: str,
    image: str,
    short_side: int,
    num_workers: int,
) -> LoaderSpeed | None:
    """Measure the loader on a split and on what was made of it; None if it can't load either.

    Packed images are read as a stream first, so that no copy of them is made in the cache.

    Args:
        source: The split.
        split: Its name.
        path: The packed data, as in `data.path`.
        image: The column of images of the source.
        short_side: Pixels of the shorter side of packed images.
        num_workers: Workers of the loader.
    """
    stream = open_streams(path)[0][split]
    name = image_column(stream, image if image in stream.features else None)
    cells = (row[name]["bytes"] for row in islice(undecoded(stream, name), MOST_IMAGES))
    only = {name: [{"bytes": content} for content in cells]}  # a path might be that of a file here
    packed = datasets.Dataset.from_dict(only, datasets.Features({name: datasets.Image()}))
    in_chans = _channels(packed, name)
    if in_chans is None:
        return None
    size = max(min(SIZE, short_side) // PATCH, 1) * PATCH
    tables = ImageTable(source, image, in_chans), ImageTable(packed, name, in_chans)
    try:
        before, after = (loader_speed(table, size, num_workers) for table in tables)
    except RunStoppedError:  # images of several numbers of channels
        return None
    return LoaderSpeed(before=before, after=after, size=size, num_workers=num_workers)


def _channels(images: datasets.Dataset, column: str) -> int | None:
    """The number of channels with which the first image can be opened."""
    for in_chans in CHANNELS:
        try:
            ImageTable(images, column, in_chans)[0].decode()
        except UnreadableImageError:
            continue
        return int(in_chans)
    return None


def loader_speed(images: ImageTable, size: int, num_workers: int) -> float:
    """Return the images per second that training's loader reads, in random order.

    Args:
        images: The images.
        size: Pixels of a side of the samples.
        num_workers: Workers of the loader.
    """
    transform = PretrainTransform((size, size), (size // PATCH) ** 2)
    samples = Samples(images, transform, seed=0, clock=SampleClock(BATCH))
    batches = samples.batches(0, 10**6, chunk_size=BATCH, rank=0, world=1)
    chunks = iter(make_loader(samples, batches, num_workers, pin_memory=False))
    for _ in range(1 + 2 * num_workers):  # workers start, and have two batches each ready
        next(chunks)
    number, began = 0, time.perf_counter()
    while (seconds := time.perf_counter() - began) < SECONDS:
        next(chunks)
        number += BATCH
    return number / seconds
