"""Linear probing with features computed once, against computing them again in every epoch.

    python scripts/bench_probe.py --checkpoint runs/demo/pretrain/encoder

Uses the embedded images and the demo's encoder; both ways are alternated, medians of the rounds.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from accelerate import Accelerator
from support.runs import ROOT
from support.timing import seconds_of
from torch import Tensor

from finetune.config import ClassifierConfig, DataConfig
from finetune.data import EvalTransform
from finetune.model import build_encoder
from mae_et.config import ProbeConfig
from mae_et.data import (
    ImageTable,
    LabelledImages,
    Samples,
    channel_statistics,
    load_splits,
    normalize,
)
from mae_et.evaluation import Features, compute_features
from mae_et.evaluation.probe import linear_accuracies

MODEL = ClassifierConfig(
    encoder="vit_tiny_patch16_224",
    encoder_args={"embed_dim": 96, "depth": 4, "num_heads": 4},
    image_size=28,
    patch_size=4,
    in_chans=1,
)
"""The demo's encoder."""

SOURCE = DataConfig(
    path=f"parquet:{ROOT / 'scripts' / 'data' / 'fashion_mnist'}",
    mean=(0.286,),
    std=(0.353,),
    eval_crop=1.0,
)


def embedded_samples() -> Samples:
    """The embedded training images, as a probe sees them."""
    images = LabelledImages(load_splits(str(SOURCE.path))["train"], None)
    table = ImageTable(images.dataset, None, 1)
    return Samples(table, EvalTransform(MODEL, SOURCE, images.labels), seed=0, shuffle=False)


class Bench:
    """The parts of a probe that are timed.

    Args:
        checkpoint: The encoder.
        probe: The linear probe.
    """

    def __init__(self, checkpoint: str, probe: ProbeConfig) -> None:
        self.accelerator = Accelerator(cpu=True)
        self.encoder = build_encoder(MODEL, checkpoint).eval()
        self.samples, self.probe = embedded_samples(), probe
        self.mean, self.std = channel_statistics(SOURCE.mean), channel_statistics(SOURCE.std)

    def encode(self, images: Tensor) -> Tensor:
        """Features (N, D) of images (N, C, H, W) as loaded."""
        features: Tensor = self.encoder(normalize(images, self.mean, self.std))
        return features

    def extract(self) -> Features:
        """The features of all images."""
        features = compute_features(self.accelerator, self.encode, self.samples, 256, 0, 0.0)
        assert features is not None  # one process, the main one
        return features

    def train(self, features: Features) -> dict[float, float]:
        """The accuracy by learning rate, on the images trained on: only the time matters."""
        cpu = torch.device("cpu")
        return linear_accuracies(features, features, self.probe, seed=0, device=cpu)


def main() -> None:
    """Time both ways in turns, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="runs/demo/pretrain/encoder")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    probe = ProbeConfig(linear_epochs=options.epochs, linear_warmup_epochs=1)
    bench = Bench(options.checkpoint, probe)
    features = bench.extract()

    def seconds(extractions: int) -> float:
        extracting = (seconds_of(bench.extract, "cpu") for _ in range(extractions))
        return sum(extracting) + seconds_of(lambda: bench.train(features), "cpu")

    rounds = [(seconds(1), seconds(options.epochs)) for _ in range(options.rounds)]
    once, always = (statistics.median(times) for times in zip(*rounds, strict=True))
    print(
        f"{len(bench.samples)} images, {options.epochs} epochs, {len(probe.linear_rates)} learning "
        f"rates: {once:.1f} s with features computed once, {always:.1f} s with features computed "
        f"in every epoch: {always / once:.1f}x"
    )


if __name__ == "__main__":
    main()
