"""The curriculum for supervised training from scratch: a small member of each family of the paper.

    python scripts/study_backbones.py --out runs/backbones

Each is trained twice on 3,000 of the embedded images, enlarged to 56 pixels, for five epochs: under
EfficientTrain's stages (40, 40, 40, 48, 56 pixels; RandAug from weak to strong) and at 56 pixels
throughout. Accuracy is that of the last step on the 2,000 test images at 56 pixels. Five epochs
show that every family runs through all stages, not what it can reach. The cost of a stage is
measured separately: training steps at the three sizes, alternated, medians.

Stop it at any time: the same command continues. It ends with a table, and OUT/results.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from support.runs import facts, run, write_json
from support.timing import seconds_of
from torch import Tensor, nn
from torch.nn import functional as F

from finetune.config import ClassifierConfig
from finetune.model import build_classifier
from mae_et.runs import Run

SIZES = (40, 48, 56)
SWIN = "{patch_size: 2, embed_dim: 32, depths: [1, 1, 2], num_heads: [1, 2, 4]}"
PVT = (
    "{patch_size: 2, embed_dims: [32, 64, 128], depths: [1, 1, 2], num_heads: [1, 2, 4], "
    "mlp_ratios: [4, 4, 4], sr_ratios: [4, 2, 1], global_pool: token}"
)
CSWIN = "{embed_dim: 32, depths: [1, 2, 2], num_heads: [2, 4, 8], stripe_widths: [1, 2]}"
DEIT = "{patch_size: 8, embed_dim: 96, depth: 4, num_heads: 4}"
FAMILIES = {
    "ResNet": ("resnet10t", "{channels: [32, 64, 128, 256]}"),
    "ConvNeXt": ("convnext_atto", "{depths: [1, 1, 3, 1], dims: [32, 64, 128, 256]}"),
    "DeiT": ("deit_tiny_patch16_224", DEIT),
    "PVT": ("pvt_v1_tiny", PVT),
    "PVTv2": ("pvt_v2_b0", "{depths: [1, 1, 1, 1]}"),
    "Swin": ("swin_tiny_patch4_window7_224", SWIN),
    "CAFormer": ("backbones:caformer", "{}"),
    "CSWin": ("cswin_tiny_224", CSWIN),
}
"""Family -> encoder, and its arguments as YAML."""


def train(out: Path, family: str, curriculum: str) -> Path:
    """The folder of a family's run under a curriculum, which is run or resumed unless complete."""
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
        }
        run("finetune", folder, "--config=demo", **fields)
    return folder


def step_times(family: str, rounds: int, batch_size: int = 30) -> dict[int, float]:
    """Milliseconds per image of a training step at each size: alternated, medians.

    Args:
        family: One of FAMILIES.
        rounds: Steps at each size, after two to warm up.
        batch_size: Images of a step.
    """
    encoder, arguments = FAMILIES[family]
    config = ClassifierConfig(
        encoder=encoder,
        encoder_args=yaml.safe_load(arguments),
        image_size=56,
        in_chans=1,
        global_pool=None,
        drop_path=0.0,
    )
    model = build_classifier(config, [str(label) for label in range(10)], "none")
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    labels = torch.arange(batch_size) % 10
    seconds: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(rounds + 2):
        for size in SIZES:
            model.set_input_size(size)
            images = torch.randn(batch_size, 1, size, size)
            step = partial(train_step, model, optimizer, images, labels)
            seconds[size].append(seconds_of(step, "cpu") / batch_size)
    return {size: 1000 * statistics.median(values[2:]) for size, values in seconds.items()}


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor
) -> None:
    """Forward, backward and optimizer."""
    loss: Any = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def main() -> None:
    """Train and time each family, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/backbones"))
    parser.add_argument("--rounds", type=int, default=15, help="of the measured steps")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    options = parser.parse_args()
    out = options.out.resolve()
    results: dict[str, Any] = {}
    for family in options.families:
        names = ("efficienttrain", "constant")
        top1 = {name: Run(train(out, family, name)).top1_history()[-1] for name in names}
        results[family] = {"ms_per_image": step_times(family, options.rounds), "top1": top1}
        print(family, json.dumps(results[family]), flush=True)
    write_json(out / "results.json", {"families": results, **facts()})

    print(
        f"{'ms/image at':<14}" + "".join(f"{size:>7}" for size in SIZES) + "   curriculum  constant"
    )
    for family, row in results.items():
        times = "".join(f"{value:>7.2f}" for value in row["ms_per_image"].values())
        staged, constant = row["top1"].values()
        print(f"{family:<14}{times} {staged:>12.2%} {constant:>9.2%}")


if __name__ == "__main__":
    main()
