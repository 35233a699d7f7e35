"""Folders of runs as `report` finds them, written without a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from mae_et.report.arms import Arm, group_into_arms
from mae_et.runs import find_runs

MODEL = {
    "encoder": "vit_tiny_patch16_224",
    "encoder_args": {"embed_dim": 16, "depth": 1, "num_heads": 2},
    "image_size": 16,
    "patch_size": 4,
    "in_chans": 1,
    "decoder_dim": 16,
    "decoder_depth": 1,
    "decoder_num_heads": 2,
    "target": "pixel",
}


def lines(*windows: tuple[int, int, int, float], eval_loss: float = 0.5) -> list[dict[str, Any]]:
    """Of metrics.jsonl: (step, size, images, seconds) each, and a last evaluation."""
    names = ("step", "size", "images", "seconds")
    logged = [
        {**dict(zip(names, window, strict=True)), "loss": 1.0, "data_wait": 0.25, "time": 1e9}
        for window in windows
    ]
    return [*logged, {"step": windows[-1][0], "eval_loss": eval_loss}]


def write(folder: Path, config: dict[str, Any], metrics: list[dict[str, Any]], result: str) -> Path:
    """A run's folder; of an unfinished run, without a result."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, metrics)))
    if result:
        (folder / result).mkdir()
    return folder


def pretraining(
    folder: Path, seed: int, metrics: list[dict[str, Any]], *, result: str = "encoder", **optim: Any
) -> Path:
    config = {
        "model": MODEL,
        "data": {"path": "parquet:x"},
        "optim": {"batch_size": 16, "epochs": 1, **optim},
        "run": {"seed": seed, "output_dir": str(folder)},
        "images": {"train": 80, "eval": 20},
    }
    return write(folder, config, metrics, result)


def finetuning(folder: Path, seed: int, checkpoint: Path | str, top1: float, **optim: Any) -> Path:
    config = {
        "checkpoint": str(checkpoint),
        "model": {name: MODEL[name] for name in ("encoder", "image_size", "in_chans")},
        "data": {"path": "parquet:x", "label_seed": seed},
        "optim": {"batch_size": 16, "epochs": 2, **optim},
        "run": {"seed": seed, "output_dir": str(folder)},
        "images": {"train": 80, "eval": 30},
    }
    metrics = lines((10, 16, 160, 2.0))
    metrics.insert(1, {"step": 5, "top1": 0.99, "eval_loss": 1.0})  # better, but not the last
    metrics[-1]["top1"] = top1
    return write(folder, config, metrics, "last")


def arms_of(*folders: Path) -> dict[str, Arm]:
    runs, _ = find_runs([str(folder) for folder in folders])
    return {arm.name: arm for arm in group_into_arms(runs)}
