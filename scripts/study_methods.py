"""Masked pretraining of each family of networks: does the encoder learn, and do few labels profit?

    python scripts/study_methods.py --out runs/methods

For each family and seed, a small member is pretrained on the 10,000 embedded training images,
enlarged to 32 pixels, through EfficientTrain's stages (24 and 32 pixels): by MAE for the plain ViT,
by Hiera's MAE for Hiera, by SimMIM for the others. Reported on the 2,000 test images: the k-NN
accuracy of the encoder with its new weights and after pretraining, and the accuracy of fine-tuning
on a few labels of each class from the encoder and from scratch, with the same settings at each of
some learning rates; the best rate of either way by its mean over seeds counts. The time per image
is that of the training steps of either size, without loading.

Stop it at any time: the same command continues. Two commands with different --families or --seeds
may run side by side in one folder. Each ends with a table of all cells that are there, and
OUT/results.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, median
from typing import Any

from support.runs import facts, write_json
from support.seeds import paired_difference, spread

import finetune
import mae_et
from mae_et.build import build_model
from mae_et.config import PretrainConfig
from mae_et.config.parser import config_parser, parse
from mae_et.runs import Run
from mae_et.weights import export_encoder

DATA = "parquet:scripts/data/fashion_mnist"

FAMILIES: dict[str, dict[str, Any]] = {
    "ViT": {
        "method": "mae",
        "encoder": "vit_tiny_patch16_224",
        "encoder_args": {"embed_dim": 96, "depth": 4, "num_heads": 4},
        "patch_size": 4,
        "mask_ratio": 0.75,
    },
    "Hiera": {
        "method": "hiera",
        "encoder": "hiera_tiny_224",
        "encoder_args": {
            "embed_dim": 32,
            "num_heads": 1,
            "stages": [1, 1, 2],
            "q_pool": 2,
            "mask_unit_size": [4, 4],
            "mask_unit_attn": [True, False, False],
            "patch_stride": [2, 2],
            "patch_kernel": [3, 3],
            "patch_padding": [1, 1],
        },
        "positions": "learned",
    },
    "ResNet": {
        "encoder": "resnet10t",
        "encoder_args": {"channels": [24, 48, 96, 128], "output_stride": 8},
    },
    "ConvNeXt": {
        "encoder": "convnext_atto",
        "encoder_args": {
            "patch_size": 1,
            "depths": [1, 1, 2, 1],
            "dims": [16, 32, 64, 128],
        },
    },
    "Swin": {
        "encoder": "swin_tiny_patch4_window7_224",
        "encoder_args": {
            "patch_size": 4,
            "window_size": 4,
            "embed_dim": 64,
            "depths": [2, 2],
            "num_heads": [2, 4],
        },
    },
    "PVT": {
        "encoder": "pvt_v1_tiny",
        "encoder_args": {
            "patch_size": 4,
            "embed_dims": [64, 128],
            "depths": [2, 2],
            "num_heads": [2, 4],
            "mlp_ratios": [4, 4],
            "sr_ratios": [2, 1],
        },
    },
    "CSWin": {
        "encoder": "cswin_tiny_224",
        "encoder_args": {
            "embed_dim": 48,
            "depths": [1, 3],
            "num_heads": [2, 4],
            "stripe_widths": [1],
        },
    },
}
"""Family -> what differs from COMMON in the section `model`."""

COMMON: dict[str, Any] = {"method": "simmim", "image_size": 32, "in_chans": 1, "mask_ratio": 0.6}

OF_METHOD: dict[str, dict[str, Any]] = {
    "simmim": {"mask_unit": 4},
    "mae": {"decoder_dim": 64, "decoder_depth": 1, "decoder_num_heads": 4},
}
OF_METHOD["hiera"] = OF_METHOD["mae"]

TARGETS: dict[str, dict[str, Any]] = {
    "hog": {"target": "hog", "hog": {"cell": 4}},
    "pixel": {"target": "pixel"},
}

RATES = (1e-3, 4e-3)
"""Peak learning rates of fine-tuning and of training from scratch."""

ARMS = ("k-NN before", "k-NN after", "fine-tuned", "from scratch")


def section(family: str, target: str) -> dict[str, Any]:
    """The section `model` of a family's pretraining."""
    model = COMMON | FAMILIES[family]
    return {**model, **OF_METHOD[model["method"]], **TARGETS[target]}


def configure(out: Path, family: str, options: argparse.Namespace) -> Path:
    """Write the configuration of a family's pretraining."""
    batch_size = 64  # larger batches are too few steps
    config = {
        "model": section(family, options.target),
        "curriculum": {"name": "efficienttrain"},
        "data": {
            "path": DATA,
            "mean": [0.286],
            "std": [0.353],
            "crop_scale": [0.5, 1.0],
            "num_workers": 0,
        },
        "optim": {
            "epochs": options.epochs,
            "warmup_epochs": options.epochs / 10,
            "batch_size": batch_size,
            "base_lr": 1e-3 * 256 / batch_size,
        },
        "run": {"tracker": "none", "progress": False, "log_every": 20, "checkpoint_every": 200},
    }
    file = out / f"{family}.yaml"
    write_json(file, config)  # JSON is YAML
    return file


def new_encoder(config: Path, folder: Path, seed: int) -> Path:
    """Write the encoder with which a run begins."""
    if not (folder / "config.json").exists():
        parser = config_parser(PretrainConfig, "mae_et", "")
        options = [f"--config={config}", f"--run.seed={seed}"]
        parsed, _ = parse(parser, PretrainConfig, options, "mae_et")
        source = parsed.data
        export_encoder(build_model(parsed), folder, mean=source.mean, std=source.std)
    return folder


def supervised(family: str, seed: int, labels: int) -> dict[str, Any]:
    """Settings of fine-tuning, a probe, or training from scratch on some labels of each class."""
    model = COMMON | FAMILIES[family]
    return {
        "recipe": "demo",
        "model": {
            "encoder": model["encoder"],
            "encoder_args": model["encoder_args"],
            "image_size": model["image_size"],
            "patch_size": model.get("patch_size"),
        },
        "data": {"labels_per_class": labels, "label_seed": seed, "num_workers": 0},
        "run.seed": seed,
        "run.progress": False,
    }


def knn(out: Path, family: str, seed: int, encoder: Path) -> float:
    """The k-NN accuracy of an encoder, which learns from 100 labels of each class."""
    settings = supervised(family, seed, 100)
    scores = finetune.probe_encoder(DATA, checkpoint=encoder, kind="knn", out=out, **settings)
    return float(scores["top1"])


def trained(
    out: Path,
    options: argparse.Namespace,
    family: str,
    seed: int,
    rate: float,
    encoder: Path | str,
) -> float:
    """The accuracy after the last step of fine-tuning an encoder, or of training from scratch."""
    if not (out / "report.json").exists():
        epochs, batch_size = options.tuning_epochs, 25
        settings = supervised(family, seed, options.labels) | {
            "optim": {
                "epochs": epochs,
                "warmup_epochs": epochs / 10,
                "batch_size": batch_size,
                "base_lr": rate * 256 / batch_size,
                "layer_decay": 1.0,
            },
            "run.eval_every": 10**9,
        }
        finetune.finetune(DATA, checkpoint=encoder, out=out, resume="auto", **settings)
    return Run(out).top1_history()[-1]


def milliseconds(run: Run) -> dict[str, float]:
    """The time of a training step per image at each size, without loading: the median window."""
    windows: dict[str, list[float]] = {}
    for line in run.read_metrics():
        if "images_per_s" in line:
            computed = 1000 * (1 - line["data_wait"]) / line["images_per_s"]
            windows.setdefault(str(line["size"]), []).append(computed)
    return {size: median(times) for size, times in windows.items()}


def cell(out: Path, options: argparse.Namespace, family: str, seed: int) -> dict[str, Any]:
    """All results of a family and a seed; of training, one for each rate."""
    config = configure(out, family, options)
    folder = out / f"{family}_{seed}"
    new = new_encoder(config, folder / "new", seed)
    run = Run(folder / "pretrain")
    if not run.encoder.is_dir():
        settings = {"run.seed": seed}
        mae_et.pretrain(recipe=config, out=run.folder, resume="auto", **settings)
    ways: dict[str, tuple[str, Path | str]] = {
        "fine-tuned": ("tuned", run.encoder),
        "from scratch": ("scratch", "none"),
    }
    return {
        "ms": milliseconds(run),
        "k-NN before": knn(folder / "knn_before", family, seed, new),
        "k-NN after": knn(folder / "knn_after", family, seed, run.encoder),
        **{
            arm: {
                f"{rate:g}": trained(
                    folder / f"{name}_{rate:g}", options, family, seed, rate, encoder
                )
                for rate in RATES
            }
            for arm, (name, encoder) in ways.items()
        },
    }


def best(values: list[Mapping[str, float]]) -> list[float]:
    """The accuracies of the seeds at the rate that has the best mean."""
    rate = max(values[0], key=lambda one: mean(of_seed[one] for of_seed in values))
    return [of_seed[rate] for of_seed in values]


def collect(out: Path) -> dict[str, dict[str, Any]]:
    """The results of all complete cells: family -> what a row of the table needs."""
    rows: dict[str, dict[str, Any]] = {}
    for family in FAMILIES:
        found = out.glob(f"{family}_*/cell.json")
        files = {int(file.parent.name.split("_")[1]): file for file in found}
        cells = [json.loads(files[seed].read_text()) for seed in sorted(files)]
        if not cells:
            continue
        sizes = cells[0]["ms"]
        rows[family] = {"seeds": sorted(files)}
        rows[family]["ms"] = {size: median(one["ms"][size] for one in cells) for size in sizes}
        for arm in ARMS:
            values = [one[arm] for one in cells]
            rows[family][arm] = best(values) if isinstance(values[0], dict) else values
    return rows


def gain(row: Mapping[str, Any], arm: str, other: str) -> str:
    """One arm minus another, in points, with the interval over seeds."""
    difference = paired_difference(*(dict(enumerate(row[name])) for name in (arm, other)))
    if difference is None:
        return f"{100 * (row[arm][0] - row[other][0]):+.1f}"
    return f"{difference.mean:+.1f} [{difference.low:+.1f}, {difference.high:+.1f}]"


def show(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the table, as Markdown."""
    heads = ["", "ms/image", "seeds", *ARMS, "k-NN gains", "fine-tuning gains"]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for family, row in rows.items():
        times = ", ".join(f"{size}: {time:.2f}" for size, time in row["ms"].items())
        gains = [gain(row, *ARMS[1::-1]), gain(row, *ARMS[2:])]
        scores = [spread(row[arm]) for arm in ARMS]
        print("| " + " | ".join([family, times, str(len(row["seeds"])), *scores, *gains]) + " |")


def main() -> None:
    """Run every cell, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--target", choices=TARGETS, default="hog")
    parser.add_argument("--epochs", type=float, default=6, help="of pretraining")
    parser.add_argument("--labels", type=int, default=10, help="of each class, for fine-tuning")
    parser.add_argument("--tuning_epochs", type=float, default=40, help="of fine-tuning")
    options = parser.parse_args()
    out = options.out.resolve()
    for seed in options.seeds:
        for family in options.families:
            file = out / f"{family}_{seed}" / "cell.json"
            if not file.exists():
                write_json(file, cell(out, options, family, seed))
    rows = collect(out)
    shown = {name: str(value) for name, value in vars(options).items()}
    write_json(out / "results.json", {"families": rows, "options": shown, **facts()})
    show(rows)


if __name__ == "__main__":
    main()
