"""Probes: how well the features of a frozen encoder tell classes apart, without fine-tuning it.

Features (N, D) are computed once. The k-nearest-neighbour probe follows DINO
(https://arxiv.org/abs/2104.14294, Appendix F), the linear one MAE (https://arxiv.org/abs/2111.06377,
Appendix A.1): features normalised without affine parameters, then a linear layer, without weight
decay. It differs in two things: SGD in place of LARS, which is made for batches of 16,384; and no
augmentation, since features are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.nn import functional as F

from . import data
from .cli import RunStoppedError
from .config import DataConfig, EvalConfig, ProbeConfig
from .interrupt import shield_workers
from .labels import LabelledImages, check_every_class
from .optim import learning_rate

MAX_REPEATED = 10_000
"""Up to this many training images, a tenth is too few to choose a learning rate by."""


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
        chunks: of this process's share, as `data.shard` divides it.
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
    images: data.SampleStream,
    chunk_size: int,
    num_workers: int,
    max_bad_share: float,
) -> Features | None:
    """The features of all readable images of a stream; see `compute_outputs`.

    Raises:
        RunStoppedError: more than `max_bad_share` of the images are unreadable.
    """
    shard = data.shard(
        len(images), chunk_size, accelerator.process_index, accelerator.num_processes
    )
    on_cuda = accelerator.device.type == "cuda"
    loader = shield_workers(data.make_loader(images, shard, num_workers, on_cuda))
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
            f"{unreadable[0]} of {len(images)} images to probe are unreadable, and "
            f"data.max_bad_share allows {max_bad_share:.2%}"
        )
    return readable


@torch.no_grad()
def knn_accuracy(
    train: Features, test: Features, *, k: int, temperature: float, device: torch.device
) -> float:
    """Top-1 accuracy of a vote of the k nearest training images, weighted by exp(cosine / T).

    Args:
        train: the images that vote.
        test: the images to classify.
        k: neighbours; at most all training images vote.
        temperature: T, above 0.
        device: computes the similarities.
    """
    num_classes = int(train.labels.max()) + 1
    bank = F.normalize(train.values.to(device), dim=1).T  # (D, N)
    bank_labels = train.labels.to(device)
    hits = 0
    for queries, labels in _batches(test, max(1, 2**27 // len(train))):  # at most 512 MB each
        similarity = F.normalize(queries.to(device), dim=1) @ bank
        nearest, rows = similarity.topk(min(k, len(train)))
        weights = (nearest / temperature).softmax(dim=1)  # a common factor changes no vote
        votes = weights.new_zeros(len(queries), num_classes)
        votes.scatter_add_(1, bank_labels[rows], weights)
        hits += int((votes.argmax(dim=1).cpu() == labels).sum())
    return hits / len(test)


def linear_probe(
    train: Features, test: Features, options: ProbeConfig, *, seed: int, device: torch.device
) -> tuple[float, float]:
    """Top-1 accuracy of a linear classifier of the features, and its learning rate.

    The rate is chosen on a tenth of the training images, or on five tenths one after another if
    there are few; then the classifier learns from all.

    Args:
        train: to learn from.
        test: to measure.
        options: rates per 256 images, epochs, batch size, warm-up.
        seed: of the tenths, the order of the images and the initial weights.
        device: trains the classifiers.
    """
    totals = dict.fromkeys(options.linear_rates, 0.0)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    tenths = [tenth for tenth in order.tensor_split(10) if len(tenth)]
    for tenth in tenths[: 5 if len(train) <= MAX_REPEATED else 1] if len(totals) > 1 else ():
        others = torch.cat([part for part in tenths if part is not tenth])
        learnt, held_out = train.take(others), train.take(tenth)
        by_rate = linear_accuracies(learnt, held_out, options, seed=seed, device=device)
        totals = {rate: total + by_rate[rate] for rate, total in totals.items()}
    best = max(totals, key=lambda rate: totals[rate])
    chosen = replace(options, linear_rates=(best,))
    return linear_accuracies(train, test, chosen, seed=seed, device=device)[best], best


def linear_accuracies(
    train: Features, test: Features, options: ProbeConfig, *, seed: int, device: torch.device
) -> dict[float, float]:
    """Top-1 accuracy of linear classifiers of the features, by learning rate.

    The classifiers of all rates are trained at once, on the same batches: SGD with momentum is
    linear in the gradient, so a loss multiplied by a rate trains its classifier with that rate.
    """
    generator = torch.Generator().manual_seed(seed)
    rates, num_features = list(options.linear_rates), train.values.shape[1]
    num_classes = int(max(train.labels.max(), test.labels.max())) + 1
    initial = 0.01 * torch.randn(num_features, num_classes, generator=generator)
    weight = nn.Parameter(initial.repeat(len(rates), 1, 1).to(device))  # (R, D, classes)
    bias = nn.Parameter(torch.zeros(len(rates), 1, num_classes, device=device))
    optimizer = torch.optim.SGD([weight, bias], lr=1.0, momentum=0.9)
    batch_size = min(options.linear_batch_size, len(train))
    rate = torch.tensor(rates, device=device)[:, None] * batch_size / 256

    mean, std = train.values.mean(dim=0), train.values.std(dim=0, correction=0) + 1e-6
    values = ((train.values - mean) / std).to(device)
    labels = train.labels.to(device)
    steps_per_epoch = len(train) // batch_size
    num_steps = options.linear_epochs * steps_per_epoch
    step = 0
    for _ in range(options.linear_epochs):
        order = torch.randperm(len(train), generator=generator)
        for rows in order[: steps_per_epoch * batch_size].view(-1, batch_size).to(device):
            logits = _logits(values[rows], weight, bias)  # (R, n, classes)
            losses = F.cross_entropy(
                logits.transpose(1, 2), labels[rows].expand(len(rates), -1), reduction="none"
            )
            factor = learning_rate(
                step / num_steps,
                peak=1.0,
                warmup=options.linear_warmup_epochs / options.linear_epochs,
            )
            optimizer.zero_grad()
            loss = (factor * rate * losses).mean(dim=1).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1

    hits = torch.zeros(len(rates), dtype=torch.long)
    with torch.no_grad():
        for queries, truth in _batches(test, 1024):
            normalised = ((queries - mean) / std).to(device)
            predicted = _logits(normalised, weight, bias).argmax(dim=2).cpu()
            hits += (predicted == truth).sum(dim=1)
    return {r: count / len(test) for r, count in zip(rates, hits.tolist(), strict=True)}


def _batches(features: Features, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Values and labels of `size` images at a time."""
    for start in range(0, len(features), size):
        yield features.values[start : start + size], features.labels[start : start + size]


def _logits(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(n, D), (R, D, classes), (R, 1, classes) -> (R, n, classes)."""
    return torch.baddbmm(bias, features.expand(len(weight), -1, -1), weight)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Labelled images, and the probes of an encoder on them.

    Args:
        train: stream of the images that are learnt from; its samples have "image", "label", and
            "is_own": whether the image is the sample's own, not in the place of an unreadable one.
        test: stream of the images that are classified.
        options: of the probes.
        chunk_size: images that a process handles at a time.
        num_workers: loader processes.
        max_bad_share: share of the images that may be unreadable.
        seed: of the linear probe.
    """

    train: data.SampleStream
    test: data.SampleStream
    options: ProbeConfig
    chunk_size: int
    num_workers: int
    max_bad_share: float
    seed: int

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

    def scores(
        self, train: Features, test: Features, device: torch.device, *, knn: bool, linear: bool
    ) -> dict[str, float]:
        """ "knn_top1" if asked for; "linear_top1" and its "linear_rate" if asked for."""
        scores: dict[str, float] = {}
        if knn:
            k, temperature = self.options.k, self.options.temperature
            scores["knn_top1"] = knn_accuracy(
                train, test, k=k, temperature=temperature, device=device
            )
        if linear:
            scores["linear_top1"], scores["linear_rate"] = linear_probe(
                train, test, self.options, seed=self.seed, device=device
            )
        return scores


class LabelledCrop:
    """The centre of the image as "image" (C, H, W) uint8, its "label", and whether it "is_own"."""

    def __init__(self, size: tuple[int, int], labels: Any) -> None:
        self.crop = data.centre_crop(size)
        self.labels = labels

    def __call__(self, image: data.EncodedImage, index: int, number: int) -> dict[str, Any]:
        label = int(self.labels[index])
        return {"image": self.crop(image.decode()), "label": label, "is_own": index == number}


def load_probe_images(
    options: EvalConfig, source: DataConfig, size: tuple[int, int], in_chans: int, seed: int
) -> tuple[data.SampleStream, data.SampleStream]:
    """The streams that a run's probes learn from and classify, of `options.images` each at most.

    Args:
        options: where the labels are.
        source: the run's own data, for labels that are there.
        size: (height, width) in pixels.
        in_chans: image channels.
        seed: chooses the images.

    Raises:
        ValueError: there are no labels, or one class only.
    """
    path, split, eval_split = source.path, source.split, source.eval_split
    image_column = source.image_column
    if options.path is not None:
        path, split, eval_split = options.path, options.split, None
        image_column = options.image_column
    assert path is not None
    train_rows, test_rows = data.train_and_eval_splits(
        path, split, eval_split, options.images, seed
    )
    field = "eval.label_column"
    train = LabelledImages(train_rows, options.label_column, field=field)
    test = LabelledImages(test_rows, options.label_column, train.class_names, field=field)
    order = np.random.default_rng([seed, 3]).permutation(len(train))
    train.take(np.sort(order[: options.images]))
    check_every_class(train.labels, train.class_names, field)
    train_stream, test_stream = (
        data.SampleStream(
            data.ImageTable(part.dataset, image_column, in_chans),
            LabelledCrop(size, part.labels),
            seed,
            shuffle=False,
        )
        for part in (train, test)
    )
    return train_stream, test_stream
