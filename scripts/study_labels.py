"""How much pretraining is worth with few labels and with many, on all of Fashion-MNIST.

    apt-get install dataset-fashion-mnist
    python scripts/study_labels.py --out runs/study

A small ViT is pretrained on the 60,000 training images without labels. Its encoder is fine-tuned on
1 %, 10 % and all of the labels, beside the same network from scratch, a linear and a
k-nearest-neighbour probe; everything with three seeds, which choose the initial weights, the order
of the images and the labels. The accuracy is that of the last step on the 10,000 test images;
nothing is chosen by looking at them.

Stop it at any time: the same command goes on, with the cells that are complete left alone. Ends
with a table, and OUT/results.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from _runs import ROOT, facts, run

from mae_et.runfolder import top1_history

# Share of the labels -> epochs and batch size of fine-tuning; the peak rate is 1e-3 throughout.
LABELS = {0.01: (30, 32), 0.1: (6, 64), 1.0: (1, 128)}
PEAK_LEARNING_RATE = 1e-3
COLUMNS = ("fine-tuned", "from scratch", "linear", "knn")


def pretrained(out: Path, data: str, seed: int, epochs: int) -> Path:
    """The encoder of a seed."""
    folder = out / f"pretrain_{seed}"
    if not (folder / "encoder").exists():
        fields: dict[str, object] = {"data__path": data, "optim__epochs": epochs}
        fields |= {"optim__warmup_epochs": 1, "run__eval_every": 500, "run__seed": seed}
        run("mae_et", folder, "pretrain", "--config=demo", **fields)
    return folder / "encoder"


def accuracy(out: Path, data: str, column: str, share: float, seed: int, encoder: Path) -> float:
    """Top-1 accuracy of a cell of the table on the test images."""
    kind = "probe" if column in ("linear", "knn") else column.replace(" ", "_")
    folder = out / f"{kind}_{share:g}_{seed}"  # both probes use the same features
    fields: dict[str, object] = {"data__path": data, "data__label_seed": seed, "run__seed": seed}
    fields |= {"data__labels_per_class": "null", "data__label_fraction": share}
    if kind == "probe":
        if not (folder / f"{column}.json").exists():
            run("finetune", folder, "--config=demo", checkpoint=encoder, mode=column, **fields)
        return float(json.loads((folder / f"{column}.json").read_text())["top1"])
    epochs, batch_size = LABELS[share]
    fields |= {"optim__epochs": epochs, "optim__warmup_epochs": epochs / 10}
    fields |= {"optim__batch_size": batch_size, "run__eval_every": 10**9}
    fields |= {"optim__base_lr": PEAK_LEARNING_RATE * 256 / batch_size}
    fields |= {"run__checkpoint_every": 500}
    if column == "from scratch":
        fields |= {"checkpoint": "none", "optim__layer_decay": 1.0}
    else:
        fields |= {"checkpoint": encoder}
    if not (folder / "report.json").exists():
        run("finetune", folder, "--config=demo", **fields)
    return top1_history(folder)[-1]


def table(scores: dict[str, dict[str, list[float]]]) -> str:
    """Mean ± standard deviation over the seeds, in per cent."""
    lines = ["labels   " + "".join(f"{column:>16}" for column in COLUMNS)]
    for share, by_column in scores.items():
        cells = []
        for column in COLUMNS:
            values = [100 * value for value in by_column[column]]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{f'{statistics.mean(values):.2f}{spread}':>16}")
        lines.append(f"{float(share):<9.0%}" + "".join(cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pretrain_epochs", type=int, default=8)
    options = parser.parse_args()
    out = options.out.resolve()
    if not (out / "fashion_mnist" / "test.parquet").exists():
        script = ROOT / "scripts" / "data" / "make_fashion_mnist.py"
        subprocess.run(
            [sys.executable, script, "--all", "--out", out / "fashion_mnist"], check=True
        )
    data = f"parquet:{out / 'fashion_mnist'}"

    scores: dict[str, dict[str, list[float]]] = {
        str(share): {column: [] for column in COLUMNS} for share in LABELS
    }
    for seed in options.seeds:  # a whole seed at a time: a table is there after the first
        encoder = pretrained(out, data, seed, options.pretrain_epochs)
        for share in LABELS:
            for column in COLUMNS:
                score = accuracy(out, data, column, share, seed, encoder)
                scores[str(share)][column].append(score)
                print(f"seed {seed}, {share:.0%} of the labels, {column}: {score:.2%}", flush=True)
    results: dict[str, Any] = {
        "top1": scores,
        "seeds": options.seeds,
        "pretrain_epochs": options.pretrain_epochs,
        "finetune_epochs_and_batch": {str(share): list(pair) for share, pair in LABELS.items()},
        **facts(),
    }
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(table(scores))


if __name__ == "__main__":
    main()
