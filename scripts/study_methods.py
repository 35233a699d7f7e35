"""Masked pretraining of each family of networks: does the encoder learn, and do few labels profit?

    python scripts/study_methods.py --out runs/methods

For each family and seed, a small member is pretrained on the 10,000 embedded training images,
enlarged to 32 pixels, through EfficientTrain's stages (24 and 32 pixels): by MAE for the plain ViT,
by SimMIM for the others. Reported on the 2,000 test images: the k-NN accuracy of the encoder with
its new weights and after pretraining, and the accuracy of fine-tuning on a few labels of each class
from the encoder and from scratch, with the same settings at each of some learning rates; the best
rate of either way by its mean over seeds counts.

Stop it at any time: the same command continues. It ends with a table, and OUT/results.json.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import yaml
from support.runs import facts, run, write_json
from support.seeds import paired_difference, spread

from mae_et.build import build_model
from mae_et.config import PretrainConfig
from mae_et.config.parser import config_parser, parse
from mae_et.runs import Run, probe_file
from mae_et.weights import export_encoder

FAMILIES: dict[str, dict[str, Any]] = {
    "ViT": {
        "method": "mae",
        "encoder": "vit_tiny_patch16_224",
        "encoder_args": {"embed_dim": 96, "depth": 4, "num_heads": 4},
        "patch_size": 4,
        "mask_ratio": 0.75,
        "decoder_dim": 64,
        "decoder_depth": 2,
        "decoder_num_heads": 4,
    },
    "ResNet": {
        "encoder": "resnet10t",
        "encoder_args": {"channels": [32, 64, 96, 128], "output_stride": 8},
    },
    "ConvNeXt": {
        "encoder": "convnext_atto",
        "encoder_args": {"patch_size": 1, "depths": [1, 1, 2, 1], "dims": [16, 32, 64, 128]},
    },
    "Swin": {
        "encoder": "swin_tiny_patch4_window7_224",
        "encoder_args": {
            "patch_size": 2,
            "window_size": 4,
            "embed_dim": 48,
            "depths": [2, 2],
            "num_heads": [2, 4],
        },
    },
    "PVT": {
        "encoder": "pvt_v1_tiny",
        "encoder_args": {
            "patch_size": 2,
            "embed_dims": [32, 64, 128],
            "depths": [1, 1, 2],
            "num_heads": [1, 2, 4],
            "mlp_ratios": [4, 4, 4],
            "sr_ratios": [4, 2, 1],
        },
    },
    "CSWin": {
        "encoder": "cswin_tiny_224",
        "encoder_args": {
            "embed_dim": 48,
            "depths": [2, 4],
            "num_heads": [2, 4],
            "stripe_widths": [1],
        },
    },
}
"""Family -> what differs from COMMON in the section `model`."""

COMMON: dict[str, Any] = {
    "method": "simmim",
    "image_size": 32,
    "in_chans": 1,
    "mask_ratio": 0.6,
    "mask_unit": 4,
    "target": "pixel",
}

RATES = (1e-3, 4e-3)
"""Peak learning rates of fine-tuning and of training from scratch."""

ARMS = ("k-NN before", "k-NN after", "fine-tuned", "from scratch")


def configure(out: Path, family: str, epochs: float) -> Path:
    """Write the configuration of a family's pretraining."""
    model = COMMON | FAMILIES[family]
    if model["method"] == "mae":
        del model["mask_unit"]
    config = {
        "model": model,
        "curriculum": {"name": "efficienttrain"},
        "data": {
            "path": "parquet:scripts/data/fashion_mnist",
            "mean": [0.286],
            "std": [0.353],
            "crop_scale": [0.5, 1.0],
            "num_workers": 0,
        },
        "optim": {
            "epochs": epochs,
            "warmup_epochs": epochs / 10,
            "batch_size": 128,
            "base_lr": 2e-3,
        },
        "run": {"tracker": "none", "checkpoint_every": 50},
    }
    file = out / f"{family}.yaml"
    write_json(file, config)  # JSON is YAML
    return file


def new_encoder(config: Path, folder: Path, seed: int) -> None:
    """Write the encoder with which a run begins."""
    if (folder / "config.json").exists():
        return
    parser = config_parser(PretrainConfig, "mae_et", "")
    options = [f"--config={config}", f"--run.seed={seed}"]
    parsed, _ = parse(parser, PretrainConfig, options, "mae_et")
    source = parsed.data
    export_encoder(build_model(parsed), folder, mean=source.mean, std=source.std)


def supervised(out: Path, family: str, seed: int, labels: int, **fields: object) -> None:
    """Run fine-tuning, a probe, or training from scratch on some labels of each class."""
    model = COMMON | FAMILIES[family]
    chosen = {
        "model__encoder": model["encoder"],
        "model__encoder_args": yaml.safe_dump(model["encoder_args"], default_flow_style=True),
        "model__image_size": model["image_size"],
        "model__patch_size": model.get("patch_size", "null"),
        "data__labels_per_class": labels,
        "data__label_seed": seed,
        "run__seed": seed,
    }
    run("finetune", out, "--config=demo", **{**chosen, **fields})


def knn(out: Path, family: str, seed: int, encoder: Path) -> float:
    """The k-NN accuracy of an encoder, which learns from 100 labels of each class."""
    file = probe_file(out, "knn")
    if not file.exists():
        supervised(out, family, seed, 100, mode="knn", checkpoint=encoder)
    return float(json.loads(file.read_text())["top1"])


def trained(out: Path, options: Any, family: str, seed: int, rate: float, encoder: object) -> float:
    """The accuracy after the last step of fine-tuning an encoder, or of training from scratch."""
    if not (out / "report.json").exists():
        fields: dict[str, object] = {
            "checkpoint": encoder,
            "optim__epochs": options.tuning_epochs,
            "optim__warmup_epochs": options.tuning_epochs / 10,
            "optim__batch_size": 50,
            "optim__base_lr": rate * 256 / 50,
            "run__eval_every": 10**9,
        }
        fields |= {"optim__layer_decay": 1.0} if encoder == "none" else {}
        supervised(out, family, seed, options.labels, **fields)
    return Run(out).top1_history()[-1]


def cell(out: Path, options: Any, family: str, seed: int) -> dict[str, Any]:
    """All results of a family and a seed; of training, one for each rate."""
    config = configure(out, family, options.epochs)
    folder = out / f"{family}_{seed}"
    new, pretraining = folder / "new", folder / "pretrain"
    new_encoder(config, new, seed)
    encoder = Run(pretraining).encoder
    if not encoder.is_dir():
        run("mae_et", pretraining, "pretrain", f"--config={config}", run__seed=seed)
    train = partial(trained, options=options, family=family, seed=seed)
    losses = [line["eval_loss"] for line in Run(pretraining).read_metrics() if "eval_loss" in line]
    return {
        "loss": losses[-1],
        "k-NN before": knn(folder / "knn_before", family, seed, new),
        "k-NN after": knn(folder / "knn_after", family, seed, encoder),
        "fine-tuned": {
            rate: train(folder / f"tuned_{rate:g}", rate=rate, encoder=encoder) for rate in RATES
        },
        "from scratch": {
            rate: train(folder / f"scratch_{rate:g}", rate=rate, encoder="none") for rate in RATES
        },
    }


def best(values: list[dict[float, float]]) -> list[float]:
    """The accuracies of the seeds at the rate that has the best mean."""
    rate = max(RATES, key=lambda one: mean(of_seed[one] for of_seed in values))
    return [of_seed[rate] for of_seed in values]


def main() -> None:
    """Run every cell, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=20, help="of pretraining")
    parser.add_argument("--labels", type=int, default=20, help="of each class, for fine-tuning")
    parser.add_argument("--tuning_epochs", type=float, default=40, help="of fine-tuning")
    options = parser.parse_args()
    out, seeds = options.out.resolve(), range(options.seeds)
    rows: dict[str, Any] = {}
    for family in options.families:
        cells = [cell(out, options, family, seed) for seed in seeds]
        rows[family] = {"loss": [one["loss"] for one in cells]}
        for arm in ARMS:
            values = [one[arm] for one in cells]
            rows[family][arm] = best(values) if isinstance(values[0], dict) else values
        print(family, json.dumps(rows[family]), flush=True)
    write_json(
        out / "results.json",
        {"families": rows, "options": {k: str(v) for k, v in vars(options).items()}, **facts()},
    )

    print(f"{'':<10}" + "".join(f"{arm:>16}" for arm in ARMS) + "   gain of pretraining")
    for family, row in rows.items():
        tuned, scratch = (dict(enumerate(row[arm])) for arm in ARMS[2:])
        gain = paired_difference(tuned, scratch)
        shown = f"{gain.mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]" if gain else "-"
        print(f"{family:<10}" + "".join(f"{spread(row[arm]):>16}" for arm in ARMS) + f"   {shown}")


if __name__ == "__main__":
    main()
