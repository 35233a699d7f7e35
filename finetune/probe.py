"""Probe a frozen encoder: with a linear classifier of its features, or their nearest neighbours.

OUT/features.safetensors    the features, for the next probe of the same encoder and images
OUT/linear.json, knn.json   the scores, and what they depend on
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mae_et.config import FREE_ON_RESUME, to_dict
from mae_et.data import (
    channel_statistics,
    digest_images,
    file_states,
    image_column,
    normalize,
)
from mae_et.evaluation import Features, knn_accuracy, linear_probe
from mae_et.runs import probe_file
from mae_et.training import check_apart, main_process_first, make_accelerator, writing_to
from mae_et.weights import Named, find_weights, warn_of_other_normalisation

from .build import build_probe_images
from .config import FinetuneConfig
from .data import LabelledSplits, evaluation_samples, load_labelled
from .model import build_encoder

log = logging.getLogger(__name__)


def probe(config: FinetuneConfig) -> None:
    """Probe the encoder of a configuration as its `mode` says; print the score and save it.

    Args:
        config: The probe.

    Raises:
        ValueError: Something is wrong with the configuration or the data.
        RunStoppedError: Too many images are unreadable.
    """
    accelerator = make_accelerator(config.run)
    checkpoint = config.checkpoint
    assert checkpoint is not None
    if Named.of(checkpoint):  # fetched before the data are read
        main_process_first(accelerator, lambda: find_weights(checkpoint))
    splits = main_process_first(accelerator, lambda: load_labelled(config.data))
    if accelerator.is_main_process:
        warn_of_other_normalisation(checkpoint, config.data)
    encoder = build_encoder(config.model, checkpoint)
    main_process_first(accelerator, lambda: _make_folder(config))
    features = cached_features(config, accelerator, encoder, splits)
    if features is None:
        return  # the main process does the rest
    train, test = features
    scores: dict[str, Any] = {"mode": config.mode, "checkpoint": checkpoint}
    scores |= {"train_images": len(train), "test_images": len(test)}
    scores |= _settings(config, splits)
    device, options = accelerator.device, config.probe
    started = time.perf_counter()
    if config.mode == "knn":
        scores |= {"k": options.k, "temperature": options.temperature}
        scores["top1"] = knn_accuracy(
            train, test, k=options.k, temperature=options.temperature, device=device
        )
        setting = f"k {options.k}"
    else:
        scores["top1"], scores["rate"] = linear_probe(
            train, test, options, seed=config.run.seed, device=device
        )
        setting = (
            f"rate {scores['rate']:g} of {', '.join(map('{:g}'.format, options.linear_rates))}"
        )
    scores["seconds"] = time.perf_counter() - started
    print(f"{config.mode} ({setting}): top-1 accuracy {scores['top1']:.2%}")
    file = probe_file(Path(config.run.output_dir), config.mode)
    file.write_text(json.dumps(scores, indent=2) + "\n")


def _settings(config: FinetuneConfig, splits: LabelledSplits) -> dict[str, Any]:
    """Return what a score depends on beside the encoder: reports compare scores of the same."""
    sections = ("data", "model") if config.mode == "knn" else ("data", "model", "probe")
    settings: dict[str, Any] = {
        section: {
            name: value
            for name, value in to_dict(getattr(config, section)).items()
            if f"{section}.{name}" not in FREE_ON_RESUME
        }
        for section in sections
    }
    settings["data"]["label_column"] = splits.train.column
    settings["data"]["eval_split"] = str(splits.held_out.dataset.split)
    images = [evaluation_samples(config, part).images for part in (splits.train, splits.held_out)]
    return settings | {"images": {"digest": "-".join(map(digest_images, images))}}


def cached_features(
    config: FinetuneConfig, accelerator: Accelerator, encoder: nn.Module, splits: LabelledSplits
) -> tuple[Features, Features] | None:
    """Return the features of the training images and of the held-out images.

    Args:
        config: The probe.
        accelerator: The accelerator of this process.
        encoder: Maps normalised images (N, C, H, W) to features (N, D).
        splits: The images.

    Returns:
        Both in the main process, from the file if it has them; None in the other processes.

    Raises:
        RunStoppedError: Too many images are unreadable.
    """
    file = Path(config.run.output_dir) / "features.safetensors"
    key = _key(config, accelerator.mixed_precision, encoder, splits)
    saved = _read(file, key) if accelerator.is_main_process else None
    is_saved = [saved is not None]
    broadcast_object_list(is_saved)
    if is_saved[0]:
        return saved
    encoder.to(accelerator.device).eval()
    mean = channel_statistics(config.data.mean, accelerator.device)
    std = channel_statistics(config.data.std, accelerator.device)

    @torch.no_grad()
    def forward(images: Tensor) -> Tensor:
        with accelerator.autocast():
            features: Tensor = encoder(normalize(images, mean, std))
        return features

    computed = build_probe_images(config, splits).features(accelerator, forward)
    missing = len(splits.train) + len(splits.held_out) - sum(map(len, computed or ()))
    if computed is not None and missing:  # a disk may have hung, or a decoder may be missing
        log.warning(
            "%d images could not be read, so that their features are not kept in %s; the next "
            "probe computes all of them again",
            missing,
            file,
        )
    elif computed is not None:
        _write(file, key, *computed)
    return computed


def _key(config: FinetuneConfig, precision: str, encoder: nn.Module, splits: LabelledSplits) -> str:
    """Return a digest of what the features depend on: weights, images and their transform."""
    data = config.data
    digest = hashlib.sha256(json.dumps([to_dict(config.model), data.eval_crop]).encode())
    digest.update(json.dumps([precision, data.mean, data.std, data.max_pixels]).encode())
    for part in (splits.train, splits.held_out):
        column = image_column(part.dataset, config.data.image_column)
        digest.update(json.dumps([part.dataset._fingerprint, column]).encode())
        digest.update(part.labels.tobytes())
        for file in file_states(part.dataset, column):  # of which the fingerprint knows nothing
            digest.update(repr(file).encode())
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy())
    return digest.hexdigest()


def _read(file: Path, key: str) -> tuple[Features, Features] | None:
    """Read the features saved under a key; None if the file is missing or has another key."""
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


def _make_folder(config: FinetuneConfig) -> None:
    """Make the folder to write in.

    Raises:
        ValueError: Nothing can be written there, or the data are there.
    """
    folder = Path(config.run.output_dir)
    check_apart(folder, to_dict(config))
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()


def _write(file: Path, key: str, train: Features, test: Features) -> None:
    unfinished = file.with_suffix(".tmp")
    tensors = {
        f"{part}.{name}": value
        for part, features in (("train", train), ("test", test))
        for name, value in (("values", features.values), ("labels", features.labels))
    }
    try:
        save_file(tensors, unfinished, {"key": key})
        unfinished.rename(file)
    except (OSError, SafetensorError) as error:
        log.warning("%s can't be written (%s); the next probe computes them again", file, error)
        unfinished.unlink(missing_ok=True)
