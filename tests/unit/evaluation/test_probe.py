"""Probes against plain loops."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mae_et.config.training import ProbeConfig
from mae_et.evaluation.features import Features
from mae_et.evaluation.probe import (
    knn_accuracy,
    linear_accuracies,
    linear_classifier,
    linear_probe,
    train_classifiers,
)

CPU = torch.device("cpu")


def clouds(number: int, seed: int) -> Features:
    """Three overlapping clouds of points in 8 dimensions."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(3, (number,), generator=generator)
    return Features(
        values=centres[labels] + torch.randn(number, 8, generator=generator), labels=labels
    )


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 1.0), (500, 0.5)])
def test_knn_is_the_weighted_vote(k: int, temperature: float) -> None:
    train, test = clouds(100, 1), clouds(40, 2)
    hits = 0
    for query, label in zip(test.values, test.labels, strict=True):
        similarity = F.cosine_similarity(train.values, query[None])
        votes = torch.zeros(3)
        for row in similarity.argsort(descending=True)[:k]:
            votes[train.labels[row]] += (similarity[row] / temperature).exp()
        hits += int(votes.argmax() == label)
    assert knn_accuracy(train, test, k=k, temperature=temperature, device=CPU) == hits / 40


def test_rates_trained_at_once_are_trained_as_alone() -> None:
    train, test = clouds(128, 1), clouds(200, 2)
    options = ProbeConfig(
        linear_rates=(0.03, 0.3, 3.0), linear_epochs=4, linear_warmup_epochs=1, linear_batch_size=32
    )
    together = linear_accuracies(train, test, options, seed=5, device=CPU)
    for rate in options.linear_rates:
        assert together[rate] == pytest.approx(alone(train, test, rate, seed=5))
    assert max(together.values()) > 0.7


def alone(train: Features, test: Features, rate: float, seed: int) -> float:
    """The same training with plain modules: 4 epochs, one of them warm-up, batches of 32."""
    generator = torch.Generator().manual_seed(seed)
    linear, norm = nn.Linear(8, 3), nn.BatchNorm1d(8, affine=False, momentum=None)
    norm(train.values)  # all at once: the statistics of the training images
    norm.eval()
    linear.weight.data = 0.01 * torch.randn(8, 3, generator=generator).T
    linear.bias.data.zero_()
    optimizer = torch.optim.SGD(linear.parameters(), lr=1.0, momentum=0.9)
    for epoch in range(4):
        for index, rows in enumerate(torch.randperm(128, generator=generator).split(32)):
            step = 4 * epoch + index
            cosine = 0.5 * (1 + torch.tensor(torch.pi * (step - 4) / 12).cos().item())
            gradient_scale = rate * 32 / 256 * (step / 4 if step < 4 else cosine)
            optimizer.zero_grad()
            loss = F.cross_entropy(linear(norm(train.values[rows])), train.labels[rows])
            (gradient_scale * loss).backward()
            optimizer.step()
    return float((linear(norm(test.values)).argmax(1) == test.labels).float().mean())


def test_the_rate_is_not_chosen_on_the_test_images() -> None:
    """The held-out tenth of the training images decides, and the classifier learns from all."""
    train, test = clouds(200, 1), clouds(100, 2)
    options = ProbeConfig(
        linear_rates=(1e-6, 0.3), linear_epochs=4, linear_warmup_epochs=1, linear_batch_size=32
    )
    unlike = Features(values=test.values, labels=(test.labels + 1) % 3)
    for measured in (test, unlike):
        top1, rate = linear_probe(train, measured, options, seed=0, device=CPU)
        assert rate == 0.3
        assert top1 == linear_accuracies(train, measured, options, seed=0, device=CPU)[0.3]


def test_the_plain_layer_has_the_logits_of_the_probe() -> None:
    """Standardising is part of its weight and bias; a constant feature has no weight."""
    train, test = (
        Features(
            values=F.pad(features.values * torch.logspace(-1, 1, 8) + 3, (0, 1), value=0.5),
            labels=features.labels,
        )
        for features in (clouds(300, 1), clouds(200, 2))
    )
    options = ProbeConfig(
        linear_rates=(1e-6, 0.3), linear_epochs=4, linear_warmup_epochs=1, linear_batch_size=32
    )
    chosen = replace(options, linear_rates=(0.3,))
    trained = train_classifiers(train, chosen, 3, seed=0, device=CPU)
    weight, bias = linear_classifier(train, options, num_classes=3, seed=0, device=CPU)
    logits = F.linear(test.values, weight, bias)
    torch.testing.assert_close(logits, trained.logits(test.values)[0], rtol=1e-4, atol=1e-4)
    top1, rate = linear_probe(train, test, options, seed=0, device=CPU)
    assert rate == 0.3
    assert float((logits.argmax(1) == test.labels).float().mean()) == pytest.approx(top1)
    assert top1 > 0.7
    assert torch.equal(weight[:, 8], torch.zeros(3))
