"""What `scripts/study_supervised.py` measures: runs, batch norms, and steps at each size."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

import finetune
from finetune.config import FinetuneConfig
from finetune.data import evaluation_samples, load_labelled
from finetune.model import build_classifier, load_classifier
from finetune.plan import make_parser
from mae_et.config.parser import parse
from mae_et.config.request import options_of
from mae_et.data import Samples, normalize
from mae_et.runs import Run, find_runs
from mae_et.training import metrics

from .supervised import BATCH_SIZE

SIZES = (12, 20, 24, 28)
"""The sizes at which steps are measured, in pixels."""

CALIBRATING = 4000
"""Training images of which batch norms take new statistics."""


def configuration(settings: dict[str, Any]) -> FinetuneConfig:
    """Return the configuration of a run from scratch.

    Args:
        settings: What differs from the recipe demo, by dotted name.
    """
    options = ["--config=demo", "--checkpoint=none", *options_of(settings)]
    return parse(make_parser(), FinetuneConfig, options, "finetune")[0]


def trained(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Train, or go on training, and return accuracies and CPU seconds of training.

    Args:
        folder: The folder of the run, in which a complete one is only read.
        settings: As for `configuration`.
    """
    if not (folder / "report.json").exists():
        cpu = SimpleNamespace(perf_counter=time.process_time)
        with mock.patch.object(metrics, "time", cpu):  # by which a run measures itself
            finetune.finetune(
                checkpoint="none", recipe="demo", out=folder, resume="auto", **settings
            )
    (history,), _ = find_runs([str(folder)])
    sizes: dict[str, dict[str, float]] = {}
    for stage in history.stages:
        new = {"images": 0, "step_seconds": 0.0, "loading_seconds": 0.0}
        part, loading = sizes.setdefault(stage.size, new), stage.seconds * stage.data_wait
        part["images"] += stage.steps * BATCH_SIZE
        part["step_seconds"] += stage.seconds - loading
        part["loading_seconds"] += loading
    curve = Run(folder).top1_history()
    return {"top1": curve[-1], "curve": curve, "cpu_seconds": history.seconds, "sizes": sizes}


def recalibrated(folder: Path, settings: dict[str, Any]) -> float | None:
    """Return the accuracy of a run once its batch norms have new statistics.

    They are those of training images at full size that are not augmented.

    Args:
        folder: The folder of the run.
        settings: As for `configuration`.

    Returns:
        The accuracy in [0, 1]; None for a network without batch norms.
    """
    config = configuration(settings)
    own = config.model.encoder if ":" in config.model.encoder else None
    model, _, _ = load_classifier(folder / "last", own)
    if not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules()):
        return None
    splits = load_labelled(config.data)
    train, held_out = (evaluation_samples(config, i) for i in (splits.train, splits.held_out))
    with torch.no_grad():
        update_bn(_batches(config, train, CALIBRATING), model)
        model.eval()
        right = sum(
            int((model(images).argmax(dim=1) == labels).sum())
            for images, labels in _batches(config, held_out, len(held_out))
        )
    return right / len(held_out)


def _batches(
    config: FinetuneConfig, samples: Samples, number: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the first images (N, C, H, W), normalised, and their labels (N,)."""
    mean, std = torch.tensor(config.data.mean), torch.tensor(config.data.std)
    number = min(number, len(samples))
    for start in range(0, number, 500):
        part = [samples[row] for row in range(start, min(start + 500, number))]
        images = torch.stack([torch.as_tensor(one["image"]) for one in part])
        yield normalize(images, mean, std), torch.tensor([int(one["label"]) for one in part])


def step_times(settings: dict[str, Any], rounds: int) -> dict[int, float]:
    """Return CPU milliseconds per image of a training step at each size: alternated, medians.

    Args:
        settings: As for `configuration`.
        rounds: Steps at each size, after two to warm up.
    """
    config = configuration(settings)
    model = build_classifier(config.model, [str(label) for label in range(10)], "none")
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    labels = torch.arange(BATCH_SIZE) % 10
    seconds: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(rounds + 2):
        for size, measured in seconds.items():
            model.set_input_size(size)
            images = torch.randn(BATCH_SIZE, config.model.in_chans, size, size)
            start = time.process_time()
            _train_step(model, optimizer, images, labels)
            measured.append(time.process_time() - start)
    return {size: 1000 * median(values[2:]) / BATCH_SIZE for size, values in seconds.items()}


def _train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor
) -> None:
    """Forward, backward and optimizer."""
    loss: Any = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
