"""The outputs of a model for all images of a data set, and the labelled images of probes.

Shape legend: N images, n of a chunk, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from .. import data
from ..config import DataConfig, EvalConfig
from ..data import LabelledImages, check_every_class
from ..errors import RunStoppedError, errors_of


@dataclass(frozen=True, kw_only=True)
class Features:
    """The features and labels of images, on the CPU."""

    values: Tensor
    """(N, D) float32."""
    labels: Tensor
    """(N,) class numbers."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> Features:
        """Return the features of some of the images.

        Args:
            rows: Numbers of the images, or a mask (N,) of them.
        """
        return Features(values=self.values[rows], labels=self.labels[rows])


@torch.no_grad()
def compute_outputs(
    accelerator: Accelerator,
    forward: Callable[[Tensor], Tensor],
    chunks: Iterator[dict[str, Any]],
    num_images: int,
) -> tuple[Tensor, dict[str, Tensor]] | None:
    """Compute the outputs of a model for all samples and gather them in the main process.

    Args:
        accelerator: The accelerator of this process.
        forward: Images as samples hold them, (n, C, H, W) -> outputs (n, D).
        chunks: The chunks of this process's share, as `data.process_batches` divides the samples.
        num_images: N, over all processes.

    Returns:
        In the main process the outputs (N, D) float32, and the other fields of the samples (N,), on
        the CPU and in the order of the samples; None in other processes.
    """
    parts = []
    for chunk in chunks:
        batch = data.join([chunk], accelerator.device)
        outputs = forward(batch.pop("image")).float()
        parts.append({name: value.cpu() for name, value in {"output": outputs, **batch}.items()})
    mine = {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else {}
    world, is_main = accelerator.num_processes, accelerator.is_main_process
    gathered: list[Any] = [mine] * world
    if world > 1:
        torch.distributed.gather_object(mine, gathered if is_main else None)
    if not is_main:
        return None
    fields = {
        name: value.new_empty(num_images, *value.shape[1:]) for name, value in gathered[0].items()
    }
    for rank, part in enumerate(gathered):
        for name, value in part.items():
            fields[name][rank::world] = value
    return fields.pop("output"), fields


def compute_features(
    accelerator: Accelerator,
    forward: Callable[[Tensor], Tensor],
    samples: data.Samples,
    chunk_size: int,
    num_workers: int,
    max_bad_share: float,
) -> Features | None:
    """Compute the features of all readable images and gather them in the main process.

    Args:
        accelerator: The accelerator of this process.
        forward: Images as samples hold them, (n, C, H, W) -> features (n, D).
        samples: Samples with "image", "label" and "is_own"; see `ProbeImages`.
        chunk_size: Images that a process handles at a time.
        num_workers: Worker processes of the loader.
        max_bad_share: Share of the images that may be unreadable.

    Returns:
        The features in the main process; None in others.

    Raises:
        RunStoppedError: More than `max_bad_share` of the images are unreadable.
    """
    batches = data.process_batches(
        len(samples), chunk_size, accelerator.process_index, accelerator.num_processes
    )
    loader = data.make_loader(samples, batches, num_workers, accelerator.device.type == "cuda")
    result = compute_outputs(accelerator, forward, iter(loader), len(samples))
    readable = None
    unreadable = [0]
    if result is not None:
        values, fields = result
        features = Features(values=values, labels=fields["label"])
        readable = features.take(fields["is_own"])
        unreadable = [len(features) - len(readable)]
    broadcast_object_list(unreadable)
    if unreadable[0] > max_bad_share * len(samples):
        raise RunStoppedError(
            f"{unreadable[0]} of {len(samples)} images to probe are unreadable, and "
            f"data.bad_images and data.max_bad_share allow {max_bad_share:.2%}"
        )
    return readable


@dataclass(frozen=True, kw_only=True)
class ProbeImages:
    """The labelled images of a probe.

    Args:
        train: Samples to learn from, with "image", "label", and "is_own", which is false where the
            image stands in for an unreadable one.
        test: Samples to classify, with the same fields.
        chunk_size: Images that a process handles at a time.
        num_workers: Worker processes of the loaders.
        max_bad_share: Share of the images that may be unreadable.
    """

    train: data.Samples
    test: data.Samples
    chunk_size: int
    num_workers: int
    max_bad_share: float

    def features(
        self, accelerator: Accelerator, forward: Callable[[Tensor], Tensor]
    ) -> tuple[Features, Features] | None:
        """Compute the features of the images; every process computes a share of them.

        Args:
            accelerator: The accelerator of this process.
            forward: Images as samples hold them, (n, C, H, W) -> features (n, D).

        Returns:
            The features to learn from and to classify in the main process; None in others.

        Raises:
            RunStoppedError: Too many images are unreadable.
        """
        train, test = (
            self.features_of(samples, accelerator, forward) for samples in (self.train, self.test)
        )
        return None if train is None or test is None else (train, test)

    def features_of(
        self, samples: data.Samples, accelerator: Accelerator, forward: Callable[[Tensor], Tensor]
    ) -> Features | None:
        """Compute the features of `train` or of `test` alone, as `features` does for both.

        Args:
            samples: `train` or `test`.
            accelerator: The accelerator of this process.
            forward: Images as samples hold them, (n, C, H, W) -> features (n, D).

        Returns:
            The features in the main process; None in others.

        Raises:
            RunStoppedError: Too many images are unreadable.
        """
        return compute_features(
            accelerator,
            forward,
            samples,
            self.chunk_size,
            self.num_workers,
            self.max_bad_share,
        )


def load_probe_images(
    options: EvalConfig,
    source: DataConfig,
    *,
    size: tuple[int, int],
    in_chans: int,
    chunk_size: int,
    seed: int,
) -> ProbeImages:
    """Open the images that a run's probes learn from and classify, at most `options.images` each.

    Args:
        options: Where the labels are.
        source: The run's data, in case the labels are there.
        size: (height, width) in pixels.
        in_chans: Image channels.
        chunk_size: Images that a process handles at a time.
        seed: Seed of the choice of images.

    Raises:
        ValueError: There are no labels, or there is only one class.
    """
    train_rows, test_rows, image_column = _open_rows(options, source, in_chans, seed)
    field = "eval.label_column"
    train = LabelledImages(train_rows, options.label_column, field=field)
    test = LabelledImages(test_rows, options.label_column, train.class_names, field=field)
    check_every_class(train, other=test)
    order = np.random.default_rng([seed, 3]).permutation(len(train))
    train.take(np.sort(order[: options.images]))
    check_every_class(train, f"eval.images {options.images}")
    train_samples, test_samples = (
        data.Samples(
            data.ImageTable(part.dataset, image_column, in_chans),
            data.LabelledCrop(size, part.labels),
            seed,
            shuffle=False,
        )
        for part in (train, test)
    )
    return ProbeImages(
        train=train_samples,
        test=test_samples,
        chunk_size=chunk_size,
        num_workers=source.num_workers,
        max_bad_share=source.allowed_bad_share,
    )


def _open_rows(
    options: EvalConfig, source: DataConfig, in_chans: int, seed: int
) -> tuple[datasets.Dataset, datasets.Dataset, str | None]:
    """The rows to learn from and those to classify, and the name of their column of images."""
    path, split, eval_split = source.path, source.split, source.eval_split
    layout, image_column = source.layout, source.image_column
    if options.path is not None:
        path, split, eval_split = options.path, options.split, None
        layout, image_column = options.layout, options.image_column
    if path is None:
        raise ValueError("eval.path must be given where data.sources are several, got null")
    if options.path is None and source.streaming:  # else all of it would be copied to this machine
        raise ValueError("eval.path must be given with data.streaming, got null")
    with errors_of("data" if options.path is None else "eval"):
        splits = data.load_splits(path, layout)
        if options.held_out:
            splits = {name: rows for name, rows in splits.items() if name == split}
            eval_split = None
        train_rows, test_rows = data.train_and_eval_splits(
            splits, split, eval_split, options.images, seed
        )
        data.ImageTable(train_rows, image_column, in_chans)  # raises if there are no images
    return train_rows, test_rows, image_column
