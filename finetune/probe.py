"""Probes of a frozen encoder: a linear classifier of its features, or their nearest neighbours.

OUT/features.safetensors    the features, for the next probe of the same encoder and images
OUT/linear.json, knn.json   the scores
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mae_et.config import to_dict
from mae_et.launch import main_process_first, make_accelerator
from mae_et.probe import Features, compute_features, knn_accuracy, linear_probe

from .classifier import build_encoder
from .config import FinetuneConfig
from .data import LabelledSplits, evaluation_stream, load_labelled


def probe(config: FinetuneConfig) -> dict[str, Any]:
    """Probe the encoder of a configuration as its `mode` says; the scores, also as a file.

    Raises:
        ValueError: something about the configuration or the data.
    """
    accelerator = make_accelerator(config.run)
    splits = main_process_first(accelerator, lambda: load_labelled(config.data))
    assert config.checkpoint is not None
    encoder = build_encoder(config.model, config.checkpoint)
    folder = Path(config.run.output_dir)
    train, test = cached_features(config, accelerator, encoder, splits, folder)
    scores: dict[str, Any] = {"mode": config.mode, "checkpoint": config.checkpoint}
    scores |= {"train_images": len(train), "test_images": len(test)}
    started = time.perf_counter()
    if config.mode == "knn":
        k, temperature = config.probe.k, config.probe.temperature
        top1 = knn_accuracy(train, test, k=k, temperature=temperature, device=accelerator.device)
        scores |= {"k": k, "temperature": temperature, "top1": top1}
        line = f"k-nearest neighbours (k {k}): top-1 accuracy {top1:.2%}"
    else:
        by_rate = linear_probe(
            train, test, config.probe, seed=config.run.seed, device=accelerator.device
        )
        best = max(by_rate, key=lambda rate: by_rate[rate])
        scores |= {"learning_rate": best, "top1": by_rate[best]}
        scores["by_learning_rate"] = {str(rate): top1 for rate, top1 in by_rate.items()}
        tried = ", ".join(f"{rate:g}: {top1:.2%}" for rate, top1 in by_rate.items())
        line = f"linear: top-1 accuracy {by_rate[best]:.2%} at learning rate {best:g} ({tried})"
    scores["seconds"] = time.perf_counter() - started
    if accelerator.is_main_process:
        (folder / f"{config.mode}.json").write_text(json.dumps(scores, indent=2) + "\n")
        print(line)
    return scores


def cached_features(
    config: FinetuneConfig,
    accelerator: Accelerator,
    encoder: nn.Module,
    splits: LabelledSplits,
    folder: Path,
) -> tuple[Features, Features]:
    """The features of the training and the held-out images, from the folder or computed."""
    file, key = folder / "features.safetensors", _key(config, encoder)
    saved = main_process_first(accelerator, lambda: _read(file, key))
    if saved is not None:
        return saved
    encoder.to(accelerator.device).eval()

    @torch.no_grad()
    def forward(images: Tensor) -> Tensor:
        with accelerator.autocast():
            features: Tensor = encoder(images)
        return features

    chunk_size = config.optim.micro_batch_size or min(config.optim.batch_size, 256)
    train, test = (
        compute_features(
            accelerator,
            forward,
            evaluation_stream(config, part),
            chunk_size,
            config.data.num_workers,
        )
        for part in (splits.train, splits.held_out)
    )
    if accelerator.is_main_process:
        _write(file, key, train, test)
    return train, test


def _key(config: FinetuneConfig, encoder: nn.Module) -> str:
    """What the features depend on: the encoder's weights, the images and their transform."""
    free = {"num_workers", "max_bad_share"}
    source = {name: value for name, value in to_dict(config.data).items() if name not in free}
    digest = hashlib.sha256(json.dumps([source, to_dict(config.model)]).encode())
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy())
    return digest.hexdigest()


def _read(file: Path, key: str) -> tuple[Features, Features] | None:
    """The features of that key; None if the file has others or there is none."""
    try:
        with safe_open(file, "pt") as saved:
            if (saved.metadata() or {}).get("key") != key:
                return None
            train, test = (
                Features(
                    values=saved.get_tensor(f"{part}.values"),
                    labels=saved.get_tensor(f"{part}.labels"),
                )
                for part in ("train", "test")
            )
    except (OSError, SafetensorError):
        return None
    return train, test


def _write(file: Path, key: str, train: Features, test: Features) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".tmp")
        tensors = {
            f"{part}.{name}": value
            for part, features in (("train", train), ("test", test))
            for name, value in (("values", features.values), ("labels", features.labels))
        }
        save_file(tensors, unfinished, {"key": key})
        unfinished.rename(file)
    except OSError as error:
        raise ValueError(
            f"run.output_dir must be a folder to write in, got {file.parent} ({error})"
        ) from error
