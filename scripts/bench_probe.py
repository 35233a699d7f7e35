"""Linear probing with features computed once, against computing them again in every epoch.

    python scripts/bench_probe.py --checkpoint runs/demo/pretrain/encoder

The embedded images and the demo's encoder; both ways are alternated, medians of several rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator

from finetune.config import ClassifierConfig, DataConfig
from finetune.data import EvalTransform
from finetune.model.classifier import build_encoder
from mae_et.config.training import ProbeConfig
from mae_et.data.images.table import ImageTable
from mae_et.data.labels import LabelledImages
from mae_et.data.samples import Samples
from mae_et.data.sources import load_splits
from mae_et.data.transforms import channel_statistics, normalize
from mae_et.evaluation.features import Features, compute_features
from mae_et.evaluation.probe import linear_accuracies

ROOT = Path(__file__).parent.parent


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", default="runs/demo/pretrain/encoder")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    source = DataConfig(
        path=f"parquet:{ROOT / 'scripts' / 'data' / 'fashion_mnist'}",
        mean=(0.286,),
        std=(0.353,),
        eval_crop=1.0,
    )
    model = ClassifierConfig(
        encoder="vit_tiny_patch16_224",
        encoder_args={"embed_dim": 96, "depth": 4, "num_heads": 4},
        image_size=28,
        patch_size=4,
        in_chans=1,
    )
    accelerator = Accelerator(cpu=True)
    encoder = build_encoder(model, options.checkpoint).eval()
    images = LabelledImages(load_splits(str(source.path))["train"], None)
    stream = Samples(
        ImageTable(images.dataset, None, 1),
        EvalTransform(model, source, images.labels),
        seed=0,
        shuffle=False,
    )
    probe = ProbeConfig(linear_epochs=options.epochs, linear_warmup_epochs=1)

    mean, std = channel_statistics(source.mean), channel_statistics(source.std)

    def extract() -> Features | None:
        forward = lambda images: encoder(normalize(images, mean, std))  # noqa: E731
        return compute_features(accelerator, forward, stream, 256, 0, 0.0)

    features = extract()
    assert features is not None  # one process, the main one

    def train() -> object:
        return linear_accuracies(features, features, probe, seed=0, device=torch.device("cpu"))

    once, always = [], []
    for _ in range(options.rounds):
        once.append(timed(extract) + timed(train))
        always.append(sum(timed(extract) for _ in range(options.epochs)) + timed(train))
    first, second = statistics.median(once), statistics.median(always)
    print(
        f"{len(stream)} images, {options.epochs} epochs, {len(probe.linear_rates)} learning rates: "
        f"{first:.1f} s with features computed once, {second:.1f} s with features computed in "
        f"every epoch: {second / first:.1f}x"
    )


if __name__ == "__main__":
    main()
