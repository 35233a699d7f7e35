"""What a model makes of all images of a stream, and the labelled images of probes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

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
    """Features (N, D) float32 and labels (N,) of images, on the CPU."""

    values: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> Features:
        """The features of some images."""
        return Features(values=self.values[rows], labels=self.labels[rows])


@torch.no_grad()
def compute_outputs(
    accelerator: Accelerator,
    forward: Callable[[Tensor], Tensor],
    chunks: Iterator[dict[str, Any]],
    num_images: int,
) -> tuple[Tensor, dict[str, Tensor]] | None:
    """The outputs of a model for all images of a stream, gathered in the main process.

    Args:
        accelerator: of this process.
        forward: images as the stream gives them, (n, C, H, W) -> (n, D).
        chunks: of this process's share, as `data.process_batches` divides it.
        num_images: of the stream.

    Returns:
        In the main process (N, D) float32, and the other fields of the samples (N,), on the CPU
        and in the stream's order; elsewhere None.
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
    images: data.Samples,
    chunk_size: int,
    num_workers: int,
    max_bad_share: float,
) -> Features | None:
    """The features of all readable images of a stream; see `compute_outputs`.

    Raises:
        RunStoppedError: more than `max_bad_share` of the images are unreadable.
    """
    shard = data.process_batches(
        len(images), chunk_size, accelerator.process_index, accelerator.num_processes
    )
    loader = data.make_loader(images, shard, num_workers, accelerator.device.type == "cuda")
    result = compute_outputs(accelerator, forward, iter(loader), len(images))
    readable = None
    unreadable = [0]
    if result is not None:
        values, fields = result
        features = Features(values=values, labels=fields["label"])
        readable = features.take(fields["is_own"])
        unreadable = [len(features) - len(readable)]
    broadcast_object_list(unreadable)
    if unreadable[0] > max_bad_share * len(images):
        raise RunStoppedError(
            f"{unreadable[0]} of {len(images)} images to probe are unreadable, and data.bad_images "
            f"and data.max_bad_share allow {max_bad_share:.2%}"
        )
    return readable


@dataclass(frozen=True, kw_only=True)
class ProbeImages:
    """The labelled images of a probe.

    Args:
        train: stream of the images that are learnt from; its samples have "image", "label", and
            "is_own": whether the image is the sample's own, not in the place of an unreadable one.
        test: stream of the images that are classified.
        chunk_size: images that a process handles at a time.
        num_workers: loader processes.
        max_bad_share: share of the images that may be unreadable.
    """

    train: data.Samples
    test: data.Samples
    chunk_size: int
    num_workers: int
    max_bad_share: float

    def features(
        self, accelerator: Accelerator, forward: Callable[[Tensor], Tensor]
    ) -> tuple[Features, Features] | None:
        """The features of both in the main process; None elsewhere.

        Args:
            accelerator: of this process; each computes a share of the features.
            forward: images as the streams give them, (n, C, H, W) -> (n, D).

        Raises:
            RunStoppedError: too many images are unreadable.
        """
        train, test = (
            compute_features(
                accelerator,
                forward,
                images,
                self.chunk_size,
                self.num_workers,
                self.max_bad_share,
            )
            for images in (self.train, self.test)
        )
        return None if train is None or test is None else (train, test)


def load_probe_images(
    options: EvalConfig,
    source: DataConfig,
    *,
    size: tuple[int, int],
    in_chans: int,
    chunk_size: int,
    seed: int,
) -> ProbeImages:
    """What a run's probes learn from and classify, of `options.images` images each at most.

    Args:
        options: where the labels are.
        source: the run's own data, for labels that are there.
        size: (height, width) in pixels.
        in_chans: image channels.
        chunk_size: images that a process handles at a time.
        seed: chooses the images.

    Raises:
        ValueError: there are no labels, or one class only.
    """
    path, split, eval_split = source.path, source.split, source.eval_split
    image_column = source.image_column
    if options.path is not None:
        path, split, eval_split = options.path, options.split, None
        image_column = options.image_column
    if path is None:
        raise ValueError("eval.path must be given where data.sources are several, got null")
    if options.path is None and source.streaming:  # else all of it would be copied to this machine
        raise ValueError("eval.path must be given with data.streaming, got null")
    with errors_of("data" if options.path is None else "eval"):
        splits = data.load_splits(path)
        if options.held_out:
            splits = {name: rows for name, rows in splits.items() if name == split}
            eval_split = None
        train_rows, test_rows = data.train_and_eval_splits(
            splits, split, eval_split, options.images, seed
        )
        data.ImageTable(train_rows, image_column, in_chans)  # its errors
    field = "eval.label_column"
    train = LabelledImages(train_rows, options.label_column, field=field)
    test = LabelledImages(test_rows, options.label_column, train.class_names, field=field)
    check_every_class(train.labels, train.class_names, field)
    order = np.random.default_rng([seed, 3]).permutation(len(train))
    train.take(np.sort(order[: options.images]))
    check_every_class(train.labels, train.class_names, f"eval.images {options.images}")
    train_stream, test_stream = (
        data.Samples(
            data.ImageTable(part.dataset, image_column, in_chans),
            data.LabelledCrop(size, part.labels),
            seed,
            shuffle=False,
        )
        for part in (train, test)
    )
    return ProbeImages(
        train=train_stream,
        test=test_stream,
        chunk_size=chunk_size,
        num_workers=source.num_workers,
        max_bad_share=source.allowed_bad_share,
    )
