"""Probes: how well the features of a frozen encoder tell classes apart, without fine-tuning it.

Features (N, D) are computed once. The k-nearest-neighbour probe follows DINO
(https://arxiv.org/abs/2104.14294, Appendix F), the linear one MAE (https://arxiv.org/abs/2111.06377,
Appendix A.1): a batch norm without affine parameters, then a linear layer, without weight decay.
It differs in two things: SGD in place of LARS, which is made for batches of 16,384; and no
augmentation, since features are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from . import data
from .config import EvalConfig, ProbeConfig
from .interrupt import shield_workers
from .labels import LabelledImages, check_every_class
from .optim import learning_rate


@dataclass(frozen=True, kw_only=True)
class Features:
    """Features (N, D) float32 and labels (N,) of images, on the CPU."""

    values: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@torch.no_grad()
def compute_outputs(
    accelerator: Accelerator,
    forward: Callable[[Tensor], Tensor],
    chunks: Iterator[dict[str, Any]],
    num_images: int,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The outputs of a model for all images of a stream, gathered from all processes.

    Args:
        accelerator: of this process.
        forward: images as the stream gives them, (n, C, H, W) -> (n, D).
        chunks: of this process's share, as `data.shard` divides it.
        num_images: of the stream.

    Returns:
        (N, D) float32, and the other fields of the samples (N,), on the CPU, in the stream's order
        and in every process.
    """
    parts = []
    for chunk in chunks:
        batch = data.join([chunk], accelerator.device)
        outputs = forward(batch.pop("image")).float()
        parts.append({name: value.cpu() for name, value in {"output": outputs, **batch}.items()})
    mine = {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else {}
    gathered = gather_object([mine])
    fields = {
        name: value.new_empty(num_images, *value.shape[1:]) for name, value in gathered[0].items()
    }
    for rank, part in enumerate(gathered):
        for name, value in part.items():
            fields[name][rank :: accelerator.num_processes] = value
    return fields.pop("output"), fields


def compute_features(
    accelerator: Accelerator,
    forward: Callable[[Tensor], Tensor],
    images: data.SampleStream,
    chunk_size: int,
    num_workers: int,
) -> Features:
    """The features of all images of a stream; see `compute_outputs`."""
    shard = data.shard(
        len(images), chunk_size, accelerator.process_index, accelerator.num_processes
    )
    on_cuda = accelerator.device.type == "cuda"
    loader = shield_workers(data.make_loader(images, shard, num_workers, on_cuda))
    values, fields = compute_outputs(accelerator, forward, iter(loader), len(images))
    return Features(values=values, labels=fields["label"])


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
    for queries, labels in _batches(test):
        similarity = F.normalize(queries.to(device), dim=1) @ bank
        nearest, rows = similarity.topk(min(k, len(train)))
        weights = (nearest / temperature).softmax(dim=1)  # a common factor changes no vote
        votes = weights.new_zeros(len(queries), num_classes)
        votes.scatter_add_(1, bank_labels[rows], weights)
        hits += int((votes.argmax(dim=1).cpu() == labels).sum())
    return hits / len(test)


def linear_probe(
    train: Features, test: Features, options: ProbeConfig, *, seed: int, device: torch.device
) -> dict[float, float]:
    """Top-1 accuracy of linear classifiers of the features, by learning rate.

    The classifiers of all rates are trained at once, on the same batches: SGD with momentum is
    linear in the gradient, so a loss multiplied by a rate trains its classifier with that rate.

    Args:
        train: to learn from.
        test: to measure.
        options: rates per 256 images, epochs, batch size, warm-up.
        seed: of the order of the images and of the initial weights.
        device: trains the classifiers.
    """
    generator = torch.Generator().manual_seed(seed)
    rates, num_features = list(options.linear_rates), train.values.shape[1]
    num_classes = int(max(train.labels.max(), test.labels.max())) + 1
    initial = 0.01 * torch.randn(num_features, num_classes, generator=generator)
    weight = nn.Parameter(initial.repeat(len(rates), 1, 1).to(device))  # (R, D, classes)
    bias = nn.Parameter(torch.zeros(len(rates), 1, num_classes, device=device))
    norm = nn.BatchNorm1d(num_features, affine=False, eps=1e-6).to(device)
    optimizer = torch.optim.SGD([weight, bias], lr=1.0, momentum=0.9)
    batch_size = min(options.linear_batch_size, len(train))
    rate = torch.tensor(rates, device=device)[:, None] * batch_size / 256

    values, labels = train.values.to(device), train.labels.to(device)
    steps_per_epoch = len(train) // batch_size
    num_steps = options.linear_epochs * steps_per_epoch
    step = 0
    for _ in range(options.linear_epochs):
        order = torch.randperm(len(train), generator=generator)
        for rows in order[: steps_per_epoch * batch_size].view(-1, batch_size).to(device):
            logits = _logits(norm(values[rows]), weight, bias)  # (R, n, classes)
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

    norm.eval()
    hits = torch.zeros(len(rates), dtype=torch.long)
    with torch.no_grad():
        for queries, truth in _batches(test):
            predicted = _logits(norm(queries.to(device)), weight, bias).argmax(dim=2).cpu()
            hits += (predicted == truth).sum(dim=1)
    return {r: count / len(test) for r, count in zip(rates, hits.tolist(), strict=True)}


def _batches(features: Features) -> Iterator[tuple[Tensor, Tensor]]:
    """Values and labels of 1024 images at a time."""
    for start in range(0, len(features), 1024):
        yield features.values[start : start + 1024], features.labels[start : start + 1024]


def _logits(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(n, D), (R, D, classes), (R, 1, classes) -> (R, n, classes)."""
    return torch.baddbmm(bias, features.expand(len(weight), -1, -1), weight)


class Probe:
    """Labelled images, and the probes of an encoder on them.

    Args:
        train: stream of the images that are learnt from; its samples have "image" and "label".
        test: stream of the images that are classified.
        options: of the probes.
        chunk_size: images that a process handles at a time.
        num_workers: loader processes.
        seed: of the linear probe.
    """

    def __init__(
        self,
        train: data.SampleStream,
        test: data.SampleStream,
        options: ProbeConfig,
        *,
        chunk_size: int,
        num_workers: int,
        seed: int,
    ) -> None:
        self.train, self.test = train, test
        self.options = options
        self.chunk_size, self.num_workers, self.seed = chunk_size, num_workers, seed

    def scores(
        self,
        accelerator: Accelerator,
        forward: Callable[[Tensor], Tensor],
        *,
        knn: bool,
        linear: bool,
    ) -> dict[str, float]:
        """ "knn_top1"; "linear_top1" and the "linear_lr" that it is of.

        Args:
            accelerator: of this process; each computes a share of the features.
            forward: images as the streams give them, (n, C, H, W) -> (n, D).
            knn: whether to look for nearest neighbours.
            linear: whether to train linear classifiers.
        """
        train, test = (
            compute_features(accelerator, forward, images, self.chunk_size, self.num_workers)
            for images in (self.train, self.test)
        )
        scores, options, device = {}, self.options, accelerator.device
        if knn:
            scores["knn_top1"] = knn_accuracy(
                train, test, k=options.k, temperature=options.temperature, device=device
            )
        if linear:
            by_rate = linear_probe(train, test, options, seed=self.seed, device=device)
            scores["linear_lr"] = max(by_rate, key=lambda rate: by_rate[rate])
            scores["linear_top1"] = by_rate[scores["linear_lr"]]
        return scores


class LabelledCrop:
    """The centre of the image as "image" (C, H, W) uint8, and its "label"."""

    def __init__(self, size: tuple[int, int], labels: Any) -> None:
        self.crop = data.centre_crop(size)
        self.labels = labels

    def __call__(self, image: Image.Image, index: int, number: int) -> dict[str, Any]:
        return {"image": self.crop(image), "label": int(self.labels[index])}


def load_probe_images(
    options: EvalConfig,
    source: tuple[str, str, str | None, str | None],
    size: tuple[int, int],
    in_chans: int,
    seed: int,
) -> tuple[data.SampleStream, data.SampleStream]:
    """The streams that a run's probes learn from and classify, of `options.images` each at most.

    Args:
        options: where the labels are.
        source: path, split, evaluation split and image column of the run's own data.
        size: (height, width) in pixels.
        in_chans: image channels.
        seed: chooses the images.

    Raises:
        ValueError: there are no labels, or one class only.
    """
    path, split, eval_split, image_column = source
    if options.path is not None:
        path, split, eval_split = options.path, options.split, None
    train_rows, test_rows = data.train_and_eval_splits(
        path, split, eval_split, options.images, seed
    )
    train = LabelledImages(train_rows, options.label_column, field="eval.label_column")
    test = LabelledImages(
        test_rows, options.label_column, train.class_names, field="eval.label_column"
    )
    order = np.random.default_rng([seed, 3]).permutation(len(train))
    train.take(np.sort(order[: options.images]))
    check_every_class(train.labels, train.class_names, "eval.label_column")
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
