"""Masked pretraining of each family of networks: does the encoder learn, and do few labels profit?

    python scripts/study_methods.py --out runs/methods

For each family and seed, a small member is pretrained on the 10,000 embedded training images,
enlarged to 32 pixels, through EfficientTrain's stages (24 and 32 pixels): by MAE for the plain ViT,
by Hiera's MAE for Hiera, by SimMIM for the others. Reported on the 2,000 test images: the k-NN
accuracy of the encoder with its new weights and after pretraining, and the accuracy of fine-tuning
on a few labels of each class from the encoder and from scratch. Either way has the same settings:
some learning rates, and a head with random weights or one that begins as the linear probe of the
encoder (from scratch: of the encoder with its new weights). The best of them by its mean over seeds
counts. The time per image is the CPU time of a training step at each size, without loading.

Stop it at any time: the same command continues. Two commands with different --families or --seeds
may run side by side in one folder. Each ends with a table of all cells that are there, and
OUT/results.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from support.families import COMMON, FAMILIES, TARGETS, section
from support.runs import facts, write_json
from support.seeds import paired_difference, spread

import finetune
import mae_et
from mae_et.build import build_model
from mae_et.config import PretrainConfig
from mae_et.config.parser import config_parser, parse
from mae_et.curriculum import as_pair
from mae_et.runs import Run
from mae_et.weights import export_encoder

DATA = "parquet:scripts/data/fashion_mnist"

RATES = (1e-3, 4e-3)
"""Peak learning rates of fine-tuning and of training from scratch."""

SUFFIXES = {"random": "", "probe": "_probe"}
"""How the head begins (`optim.new_head`) -> what that adds to the name of a result."""

ARMS = ("k-NN before", "k-NN after", "fine-tuned", "from scratch")


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


def parse_config(config: Path, seed: int) -> PretrainConfig:
    """Read the configuration of a family's pretraining, with a seed."""
    parser = config_parser(PretrainConfig, "mae_et", "")
    options = [f"--config={config}", f"--run.seed={seed}"]
    parsed, _ = parse(parser, PretrainConfig, options, "mae_et")
    return parsed


def new_encoder(config: Path, folder: Path, seed: int) -> Path:
    """Write the encoder with which a run begins."""
    if not (folder / "config.json").exists():
        parsed = parse_config(config, seed)
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
    head: str,
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
                "new_head": head,
            },
            "run.eval_every": 10**9,
        }
        finetune.finetune(DATA, checkpoint=encoder, out=out, resume="auto", **settings)
    return Run(out).top1_history()[-1]


def milliseconds(out: Path, family: str) -> dict[str, float]:
    """CPU time of a training step per image, by size: the median of alternating steps.

    Other programs on the machine disturb it less than they do the time of the clock.
    """
    file = out / f"{family}_ms.json"
    if not file.exists():
        parsed = parse_config(out / f"{family}.yaml", seed=0)
        model, batch_size = build_model(parsed), parsed.optim.batch_size
        optimizer = torch.optim.AdamW(model.parameters())
        curriculum = mae_et.Curriculum.efficienttrain(
            full_size=model.full_size, patch_size=model.size_multiple, num_steps=100
        )
        images = torch.randn(batch_size, model.in_chans, *as_pair(model.full_size))
        times: dict[str, list[float]] = {str(stage.size): [] for stage in curriculum.stages}
        for _ in range(13):
            for size, measured in times.items():
                start = time.process_time()
                loss = model(images, size=int(size), masked_only=True).loss
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                measured.append(1000 * (time.process_time() - start) / batch_size)
        write_json(file, {size: median(measured) for size, measured in times.items()})
    measured_before: dict[str, float] = json.loads(file.read_text())
    return measured_before


def cell(out: Path, options: argparse.Namespace, family: str, seed: int) -> dict[str, Any]:
    """All results of a family and a seed; of training, one for each rate and head."""
    config = configure(out, family, options)
    folder = out / f"{family}_{seed}"
    new = new_encoder(config, folder / "new", seed)
    run = Run(folder / "pretrain")
    if not run.encoder.is_dir():
        settings = {"run.seed": seed}
        mae_et.pretrain(recipe=config, out=run.folder, resume="auto", **settings)
    starts: dict[str, dict[str, Path | str]] = {  # way -> where it starts with either head
        "tuned": {"random": run.encoder, "probe": run.encoder},
        "scratch": {"random": "none", "probe": new},
    }
    accuracies = {
        way: {
            f"{rate:g}{SUFFIXES[head]}": trained(
                folder / f"{way}_{rate:g}{SUFFIXES[head]}", options, family, seed, rate, head, start
            )
            for head, start in encoders.items()
            for rate in RATES
        }
        for way, encoders in starts.items()
    }
    return {
        "k-NN before": knn(folder / "knn_before", family, seed, new),
        "k-NN after": knn(folder / "knn_after", family, seed, run.encoder),
        "fine-tuned": accuracies["tuned"],
        "from scratch": accuracies["scratch"],
    }


def best(values: list[Mapping[str, float]]) -> list[float]:
    """The accuracies of the seeds at the settings that have the best mean."""
    settings = max(values[0], key=lambda one: mean(of_seed[one] for of_seed in values))
    return [of_seed[settings] for of_seed in values]


def collect(out: Path) -> dict[str, dict[str, Any]]:
    """The results of all complete cells: family -> what a row of the table needs."""
    rows: dict[str, dict[str, Any]] = {}
    for family in FAMILIES:
        found = out.glob(f"{family}_*/cell.json")
        files = {int(file.parent.name.split("_")[1]): file for file in found}
        cells = [json.loads(files[seed].read_text()) for seed in sorted(files)]
        if not cells:
            continue
        rows[family] = {"seeds": sorted(files), "ms": milliseconds(out, family)}
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
