"""All of Fashion-MNIST, and how the studies learn from some of its labels."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from mae_et.runs.files import top1_history

from .runs import ROOT

PEAK_LEARNING_RATE = 1e-3
"""Of fine-tuning, at any batch size."""


def fashion_mnist(folder: Path) -> str:
    """`data.path` of the 60,000 training and 10,000 test images, which are written if need be."""
    if not (folder / "test.parquet").exists():
        script = ROOT / "scripts" / "data" / "make_fashion_mnist.py"
        subprocess.run([sys.executable, script, "--all", "--out", folder], check=True)
    return f"parquet:{folder}"


def labelled(data: str, share: float, seed: int) -> dict[str, object]:
    """Fields of a run on a share of the labels; runs of one seed have the same ones."""
    return {
        "data__path": data,
        "data__label_seed": seed,
        "run__seed": seed,
        "data__labels_per_class": "null",
        "data__label_fraction": share,
    }


def finetuning(encoder: Path | None, epochs: float, batch_size: int) -> dict[str, object]:
    """Fields of fine-tuning; of training from scratch, without an encoder."""
    fields: dict[str, object] = {
        "optim__epochs": epochs,
        "optim__warmup_epochs": epochs / 10,
        "optim__batch_size": batch_size,
        "optim__base_lr": PEAK_LEARNING_RATE * 256 / batch_size,
        "run__eval_every": 10**9,  # at the end only
        "run__checkpoint_every": 500,
        "checkpoint": encoder or "none",
    }
    return fields if encoder else {**fields, "optim__layer_decay": 1.0}


def last_top1(folder: Path) -> float:
    """The accuracy of a fine-tuning run after its last step."""
    return top1_history(folder)[-1]


def probed_top1(folder: Path, mode: str) -> float:
    """The accuracy of a probe, linear or knn."""
    return float(json.loads((folder / f"{mode}.json").read_text())["top1"])
