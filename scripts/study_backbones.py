"""The curriculum for supervised training from scratch: a small member of each family of the paper.

    python scripts/study_backbones.py --out runs/backbones

Each is trained twice on 3,000 of the embedded images, enlarged to 56 pixels, for five epochs: under
EfficientTrain's stages (40, 40, 40, 48, 56 pixels; RandAug from weak to strong) and at 56 pixels
throughout. Accuracy is that of the last step on the 2,000 test images at 56 pixels. Five epochs
show that every family runs through all stages and what a stage costs, not what it can reach.

Stop it at any time: the same command goes on. Ends with a table, and OUT/results.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import timm
import torch
from study_labels import ROOT, resume, run

from mae_et.runfolder import read_metrics

SWIN = "{patch_size: 2, embed_dim: 32, depths: [1, 1, 2], num_heads: [1, 2, 4]}"
DEIT = "{patch_size: 8, embed_dim: 96, depth: 4, num_heads: 4}"
FAMILIES = {
    "ResNet": ("resnet10t", "{channels: [32, 64, 128, 256]}"),
    "ConvNeXt": ("convnext_atto", "{depths: [1, 1, 3, 1], dims: [32, 64, 128, 256]}"),
    "DeiT": ("deit_tiny_patch16_224", DEIT),
    "PVTv2": ("pvt_v2_b0", "{depths: [1, 1, 1, 1]}"),
    "Swin": ("swin_tiny_patch4_window7_224", SWIN),
    "CAFormer": ("backbones:caformer", "{}"),
    "CSWin-like": ("backbones:cross_shaped", "{}"),
}


def train(out: Path, family: str, curriculum: str) -> Path:
    """The run of a family under a curriculum."""
    folder = out / f"{family}_{curriculum}"
    if not (folder / "report.json").exists():
        encoder, arguments = FAMILIES[family]
        fields: dict[str, object] = {
            "checkpoint": "none",
            "model__encoder": encoder,
            "model__encoder_args": arguments,
            "model__image_size": 56,
            "model__patch_size": "null",
            "model__drop_path": 0,
            "curriculum__name": curriculum,
            "data__labels_per_class": 300,
            "augment__randaug": "rand-m9-mstd0.5-inc1",
            "optim__epochs": 5,
            "optim__warmup_epochs": 0.5,
            "optim__batch_size": 60,
            "optim__micro_batch_size": 30,
            "optim__base_lr": 1e-3 * 256 / 60,
            "optim__layer_decay": 1.0,
            "run__eval_every": 10**9,
            "run__checkpoint_every": 100,
            "run__output_dir": folder,
        }
        os.environ["PYTHONPATH"] = str(ROOT / "scripts")
        run("finetune", "--config=demo", *resume(folder), **fields)
    return folder


def summary(folder: Path) -> dict[str, Any]:
    """Milliseconds per image at each input size, seconds of all steps, and the last accuracy."""
    by_size: dict[str, list[float]] = {}
    for line in read_metrics(folder):
        if "loss" in line:
            sums = by_size.setdefault(str(line["size"]), [0.0, 0.0])
            sums[0] += line["seconds"]
            sums[1] += line["images"]
    return {
        "ms_per_image": {size: 1000 * sums[0] / sums[1] for size, sums in by_size.items()},
        "seconds": sum(sums[0] for sums in by_size.values()),
        "top1": [line["top1"] for line in read_metrics(folder) if "top1" in line][-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("runs/backbones"))
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    options = parser.parse_args()
    out = options.out.resolve()
    results: dict[str, Any] = {}
    for family in options.families:
        results[family] = {
            name: summary(train(out, family, name)) for name in ("efficienttrain", "constant")
        }
        print(family, json.dumps(results[family]), flush=True)
    versions = {"torch": torch.__version__, "timm": timm.__version__}
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    facts = {"families": results, "versions": versions, "machine": machine}
    (out / "results.json").write_text(json.dumps(facts, indent=2) + "\n")

    print("family        ms/image at 40    48    56   top-1   constant: at 56   top-1   time saved")
    for family, row in results.items():
        staged, constant = row["efficienttrain"], row["constant"]
        times = "".join(f"{value:>7.1f}" for value in staged["ms_per_image"].values())
        print(
            f"{family:<18}{times} {staged['top1']:>7.2%} {constant['ms_per_image']['56']:>17.1f} "
            f"{constant['top1']:>7.2%} {constant['seconds'] / staged['seconds']:>11.2f}x"
        )


if __name__ == "__main__":
    main()
