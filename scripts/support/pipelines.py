"""The data pipelines that `bench_loader.py` compares: those of other MAE code, and ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import datasets
import torch
from timm.data import create_transform
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from finetune.config import (
    AugmentConfig,
    ClassifierConfig,
    DataConfig,
    FinetuneConfig,
    FinetuneOptimConfig,
    FinetuneRunConfig,
    SupervisedCurriculumConfig,
)
from finetune.data import Augmentation, mend_posterize
from mae_et import data
from mae_et.config import IMAGENET_MEAN, IMAGENET_STD, ProbeConfig

BATCH_SIZE = 50
CROP_SCALE = (0.2, 1.0)
AUGMENT = AugmentConfig()

Pipeline = Callable[[Path, int, int], Iterable[Any]]
"""(folder of photos, number of images, workers) -> loader of that many images.

Without workers, all is done in this process, by one thread.
"""

ENCODED: Any = import_module("mae_et.data.images.encoded")
"""Our decoders; their simplejpeg is set to None to measure without it."""

SIMPLEJPEG: Any = ENCODED.simplejpeg
"""The module simplejpeg, or None if it is not installed."""


class Repeated(torch.utils.data.Dataset[Any]):
    """A data set, repeated until it has `length` samples."""

    def __init__(self, samples: Any, length: int) -> None:
        self.samples, self.length = samples, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.samples[index % len(self.samples)]


def torchvision_transform(size: int) -> transforms.Compose:
    """Return the transform of the reference implementations."""
    bicubic = transforms.InterpolationMode.BICUBIC
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(size, CROP_SCALE, interpolation=bicubic),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )


def with_torchvision(size: int) -> Pipeline:
    """Return the pipeline of the reference implementations."""

    def load(folder: Path, number: int, workers: int) -> Iterable[Any]:
        samples = Repeated(ImageFolder(str(folder), torchvision_transform(size)), number)
        return DataLoader(
            samples, BATCH_SIZE, num_workers=workers, multiprocessing_context=forked(workers)
        )

    return load


def forked(workers: int) -> str | None:
    """Fork workers, as PyTorch does by default unless some library changes that."""
    return "fork" if workers else None


def with_transformers(folder: Path, number: int, workers: int) -> Iterable[Any]:
    """Return the pipeline of run_mae.py in transformers."""
    rows = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train")
    transform = torchvision_transform(224)

    def preprocess(examples: dict[str, Any]) -> dict[str, Any]:
        images = [image.convert("RGB") for image in examples["image"]]
        return {"pixel_values": [transform(image) for image in images]}

    rows.set_transform(preprocess)
    return DataLoader(
        Repeated(rows, number),
        BATCH_SIZE,
        num_workers=workers,
        multiprocessing_context=forked(workers),
        collate_fn=lambda samples: torch.stack([sample["pixel_values"] for sample in samples]),
    )


def with_timm(folder: Path, number: int, workers: int) -> Iterable[Any]:
    """Return the pipeline of timm, as for fine-tuning."""
    transform = create_transform(
        (3, 224, 224),
        is_training=True,
        scale=AUGMENT.crop_scale,
        color_jitter=None,
        auto_augment=AUGMENT.randaug,
        interpolation="bicubic",
        re_prob=AUGMENT.erase,
        re_mode="pixel",
    )
    mend_posterize(transform.transforms)
    samples = Repeated(ImageFolder(str(folder), transform), number)
    return DataLoader(
        samples, BATCH_SIZE, num_workers=workers, multiprocessing_context=forked(workers)
    )


def pretraining(size: int) -> data.Transform:
    """Return our transform for pretraining."""
    return data.PretrainTransform((size, size), 196, CROP_SCALE)


def fine_tuning(size: int) -> data.Transform:
    """Return our transform for fine-tuning."""
    config = FinetuneConfig(
        checkpoint="none",
        model=ClassifierConfig(),
        curriculum=SupervisedCurriculumConfig(),
        data=DataConfig(path="imagefolder:photos"),
        augment=AUGMENT,
        optim=FinetuneOptimConfig(),
        probe=ProbeConfig(),
        run=FinetuneRunConfig(),
    )
    augment = Augmentation(config, size, AUGMENT.randaug)
    return lambda image, index, number: {**augment(image)}


def our_samples(folder: Path, transform: data.Transform) -> data.Samples:
    """Return our samples of a folder of photos."""
    images = data.ImageTable(data.load_splits(f"imagefolder:{folder}")["train"], None, 3)
    return data.Samples(images, transform, seed=0)


def ours(transform: data.Transform, decoder: Any = SIMPLEJPEG) -> Pipeline:
    """Return our pipeline.

    Args:
        transform: The transform from images to samples.
        decoder: The module simplejpeg; None for Pillow.
    """

    def load(folder: Path, number: int, workers: int) -> Iterable[dict[str, Any]]:
        batches = data.StepBatches(
            0,
            number // BATCH_SIZE,
            clock=data.SampleClock(BATCH_SIZE),
            chunk_size=BATCH_SIZE,
            rank=0,
            world=1,
        )
        samples = our_samples(folder, transform)
        ENCODED.simplejpeg = decoder
        loader = data.make_loader(samples, batches, workers, pin_memory=False)
        if workers:  # forked as those of the others are: with the decoder, and their time counts
            loader.multiprocessing_context = "fork"
        return loader

    return load


PIPELINES: dict[str, Pipeline] = {
    "torchvision 224": with_torchvision(224),
    "torchvision 96": with_torchvision(96),
    "transformers 224": with_transformers,
    "ours 224": ours(pretraining(224)),
    "ours 224, Pillow": ours(pretraining(224), None),
    "ours 96": ours(pretraining(96)),
    "ours 96, Pillow": ours(pretraining(96), None),
    "timm 224": with_timm,
    "fine-tuning 224": ours(fine_tuning(224)),
    "fine-tuning 96": ours(fine_tuning(96)),
}
