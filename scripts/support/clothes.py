"""All of Fashion-MNIST, and how the studies learn from some of its labels."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mae_et.runs import Run, probe_file

from .runs import ROOT, Cell

PEAK_LEARNING_RATE = 1e-3
"""The peak learning rate of fine-tuning, at any batch size."""


def fashion_mnist(folder: Path) -> str:
    """Return `data.path` of the 60,000 training and 10,000 test images, written if missing."""
    if not (folder / "test.parquet").exists():
        script = ROOT / "scripts" / "data" / "make_fashion_mnist.py"
        subprocess.run([sys.executable, script, "--all", "--out", folder], check=True)
    return f"parquet:{folder}"


def labelled(data: str, share: float, seed: int) -> dict[str, object]:
    """Return the fields of a run on a share of the labels, the same for every run of a seed."""
    return {
        "data__path": data,
        "data__label_seed": seed,
        "run__seed": seed,
        "data__labels_per_class": "null",
        "data__label_fraction": share,
    }


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What all ways of scoring an encoder have in common.

    Args:
        record: JSON file of the result.
        encoder: The pretrained encoder; None to train from scratch.
        fields: Fields of the run.
        inputs: What else the result depends on.
    """

    record: Path
    encoder: Path | None
    fields: Mapping[str, object]
    inputs: Mapping[str, object] = field(default_factory=dict)

    def fine_tuned(self, folder: Path, epochs: float, batch_size: int) -> Cell:
        """Return the accuracy after the last step of fine-tuning, or of training from scratch."""
        fields: dict[str, object] = {
            "optim__epochs": epochs,
            "optim__warmup_epochs": epochs / 10,
            "optim__batch_size": batch_size,
            "optim__base_lr": PEAK_LEARNING_RATE * 256 / batch_size,
            "run__eval_every": 10**9,  # at the end only
            "run__checkpoint_every": 500,
            "checkpoint": self.encoder or "none",
        }
        if self.encoder is None:
            fields["optim__layer_decay"] = 1.0
        return Cell(
            record=self.record,
            module="finetune",
            folder=folder,
            fields={**self.fields, **fields},
            inputs=self.inputs,
            read=_last_top1,
        )

    def probed(self, folder: Path, mode: str) -> Cell:
        """Return the accuracy of a probe, linear or knn; both keep their features in the folder."""
        return Cell(
            record=self.record,
            module="finetune",
            folder=folder,
            fields={**self.fields, "checkpoint": self.encoder, "mode": mode},
            inputs=self.inputs,
            read=partial(_probed_top1, mode=mode),
        )


def _last_top1(folder: Path) -> float:
    return Run(folder).top1_history()[-1]


def _probed_top1(folder: Path, mode: str) -> float:
    return float(json.loads(probe_file(folder, mode).read_text())["top1"])
