"""Probes: how well the features of a frozen encoder tell classes apart, without fine-tuning it.

The k-nearest-neighbour probe follows DINO (https://arxiv.org/abs/2104.14294, Appendix F), the
linear one MAE (https://arxiv.org/abs/2111.06377, Appendix A.1): features normalised without affine
parameters, then a linear layer, without weight decay. It differs from MAE's in two ways: it uses
SGD instead of LARS, which is made for batches of 16,384, and no augmentation, since features are
computed once.

Shape legend: N images of the training or the test set, n of a batch, D features, R learning rates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import ProbeConfig
from ..curriculum import learning_rate
from .features import Features

MAX_REPEATED = 10_000
"""Up to this many training images, a single tenth is too small to choose a learning rate by."""

LEAST_STD = 1e-6
"""Is added to the standard deviation of each feature, which may be constant."""


def probe_scores(
    train: Features,
    test: Features,
    options: ProbeConfig,
    *,
    knn: bool,
    linear: bool,
    seed: int,
    device: torch.device,
) -> dict[str, float]:
    """Run the probes that are asked for.

    Args:
        train: The features that probes learn from.
        test: The features that they classify.
        options: Settings of the probes.
        knn: Whether to run the k-nearest-neighbour probe.
        linear: Whether to run the linear probe.
        seed: Seed of the linear probe.
        device: The device that computes.

    Returns:
        "knn_top1" of the first; "linear_top1" and the chosen "linear_rate" of the second.
    """
    scores: dict[str, float] = {}
    if knn:
        k, temperature = options.k, options.temperature
        scores["knn_top1"] = knn_accuracy(train, test, k=k, temperature=temperature, device=device)
    if linear:
        scores["linear_top1"], scores["linear_rate"] = linear_probe(
            train, test, options, seed=seed, device=device
        )
    return scores


@torch.no_grad()
def knn_accuracy(
    train: Features, test: Features, *, k: int, temperature: float, device: torch.device
) -> float:
    """Measure the accuracy of a vote of the k nearest training images, weighted by exp(cosine / T).

    Args:
        train: Features of the images that vote.
        test: Features of the images to classify.
        k: Number of neighbours; if there are fewer training images, all of them vote.
        temperature: T, above 0.
        device: The device that computes the similarities.

    Returns:
        The top-1 accuracy, in [0, 1].
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
    """Measure the accuracy of a linear classifier of the features with the best learning rate.

    The rate is chosen on a tenth of the training images, or on five tenths in turn if there are
    few; then the classifier is trained on all.

    Args:
        train: Features to learn from.
        test: Features to classify.
        options: Learning rates per 256 images, epochs, batch size and warm-up.
        seed: Seed of the tenths, the order of the images and the initial weights.
        device: The device that trains the classifiers.

    Returns:
        The top-1 accuracy, in [0, 1], and the learning rate.
    """
    rate = _best_rate(train, options, seed=seed, device=device)
    chosen = replace(options, linear_rates=(rate,))
    return linear_accuracies(train, test, chosen, seed=seed, device=device)[rate], rate


def linear_classifier(
    train: Features, options: ProbeConfig, *, num_classes: int, seed: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Train the classifier that `linear_probe` measures, for features as they are.

    The probe standardises features. That map is part of the weight and the bias here, so that they
    are those of a plain linear layer. Features that are constant have no weight.

    Args:
        train: Features to learn from.
        options: As for `linear_probe`.
        num_classes: Number of classes.
        seed: As for `linear_probe`.
        device: The device that trains the classifiers.

    Returns:
        The weight (classes, D) and the bias (classes,), on the CPU.
    """
    rate = _best_rate(train, options, seed=seed, device=device)
    chosen = replace(options, linear_rates=(rate,))
    trained = train_classifiers(train, chosen, num_classes, seed=seed, device=device)
    weight = trained.weight[0].double().cpu() / trained.std.double()[:, None]  # (D, classes)
    weight[trained.std < 2 * LEAST_STD] = 0  # what tells nothing here may vary when it is trained
    bias = trained.bias[0, 0].double().cpu() - trained.mean.double() @ weight
    return weight.T.float().contiguous(), bias.float()


def _best_rate(train: Features, options: ProbeConfig, *, seed: int, device: torch.device) -> float:
    """Return the learning rate that does best on tenths of the training images."""
    totals = dict.fromkeys(options.linear_rates, 0.0)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    tenths = [tenth for tenth in order.tensor_split(10) if len(tenth)]
    for tenth in tenths[: 5 if len(train) <= MAX_REPEATED else 1] if len(totals) > 1 else ():
        others = torch.cat([part for part in tenths if part is not tenth])
        learnt, held_out = train.take(others), train.take(tenth)
        by_rate = linear_accuracies(learnt, held_out, options, seed=seed, device=device)
        totals = {rate: total + by_rate[rate] for rate, total in totals.items()}
    return max(totals, key=lambda rate: totals[rate])


def linear_accuracies(
    train: Features, test: Features, options: ProbeConfig, *, seed: int, device: torch.device
) -> dict[float, float]:
    """Measure the accuracy of linear classifiers of the features for each learning rate.

    Args:
        train: Features to learn from.
        test: Features to classify.
        options: Learning rates per 256 images, epochs, batch size and warm-up.
        seed: Seed of the order of the images and of the initial weights.
        device: The device that trains the classifiers.

    Returns:
        The top-1 accuracy, in [0, 1], by learning rate.
    """
    num_classes = int(max(train.labels.max(), test.labels.max())) + 1
    trained = train_classifiers(train, options, num_classes, seed=seed, device=device)
    hits = torch.zeros(len(options.linear_rates), dtype=torch.long)
    with torch.no_grad():
        for queries, truth in _batches(test, 1024):
            predicted = trained.logits(queries).argmax(dim=2).cpu()
            hits += (predicted == truth).sum(dim=1)
    counts = zip(options.linear_rates, hits.tolist(), strict=True)
    return {rate: count / len(test) for rate, count in counts}


@dataclass(frozen=True, kw_only=True)
class Classifiers:
    """Linear classifiers of standardised features."""

    weight: Tensor
    """(R, D, classes), on the device that trained it."""
    bias: Tensor
    """(R, 1, classes), likewise."""
    mean: Tensor
    """(D,) of the features, on the CPU."""
    std: Tensor
    """(D,), likewise."""

    def logits(self, features: Tensor) -> Tensor:
        """(n, D) -> (R, n, classes)."""
        normalised = ((features - self.mean) / self.std).to(self.weight.device)
        return _logits(normalised, self.weight, self.bias)


def train_classifiers(
    train: Features, options: ProbeConfig, num_classes: int, *, seed: int, device: torch.device
) -> Classifiers:
    """Train a linear classifier of standardised features with each learning rate.

    The classifiers of all rates are trained at once, on the same batches: SGD with momentum is
    linear in the gradient, so multiplying a classifier's loss by a rate trains it with that rate.

    Args:
        train: Features to learn from.
        options: Learning rates per 256 images, epochs, batch size and warm-up.
        num_classes: Number of classes.
        seed: Seed of the order of the images and of the initial weights.
        device: The device that trains the classifiers.
    """
    generator = torch.Generator().manual_seed(seed)
    rates, num_features = list(options.linear_rates), train.values.shape[1]
    initial = 0.01 * torch.randn(num_features, num_classes, generator=generator)
    weight = nn.Parameter(initial.repeat(len(rates), 1, 1).to(device))  # (R, D, classes)
    bias = nn.Parameter(torch.zeros(len(rates), 1, num_classes, device=device))
    optimizer = torch.optim.SGD([weight, bias], lr=1.0, momentum=0.9)
    batch_size = min(options.linear_batch_size, len(train))
    rate = torch.tensor(rates, device=device)[:, None] * batch_size / 256

    mean, std = train.values.mean(dim=0), train.values.std(dim=0, correction=0) + LEAST_STD
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
    return Classifiers(weight=weight.detach(), bias=bias.detach(), mean=mean, std=std)


def _batches(features: Features, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Values and labels of `size` images at a time."""
    for start in range(0, len(features), size):
        yield features.values[start : start + size], features.labels[start : start + size]


def _logits(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(n, D), (R, D, classes), (R, 1, classes) -> (R, n, classes)."""
    return torch.baddbmm(bias, features.expand(len(weight), -1, -1), weight)
