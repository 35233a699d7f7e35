"""How much pretraining is worth with few labels and with many, on all of Fashion-MNIST.

    apt-get install dataset-fashion-mnist
    pip install -e '.[test]'                # SciPy
    python scripts/study_labels.py --out runs/study

A small ViT is pretrained on the 60,000 training images without labels. Its encoder is fine-tuned on
1 %, 10 % and all of the labels, and compared with the same network from scratch, a linear and a
k-nearest-neighbour probe. Each of three seeds chooses the initial weights, the order of the images
and the labels. The accuracy is that of the last step on the 10,000 test images; nothing is chosen
by looking at them.

Stop it at any time: the same command continues, and leaves complete cells alone. It ends with a
table, and OUT/results.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from support.clothes import Scoring, fashion_mnist, labelled
from support.runs import Cell, facts, write_json
from support.seeds import spread

from mae_et.runs import Run

LABELS = {0.01: (30, 32), 0.1: (6, 64), 1.0: (1, 128)}
"""Share of the labels -> epochs and batch size of fine-tuning."""

COLUMNS = ("fine-tuned", "from scratch", "linear", "knn")


def pretrained(out: Path, data: str, seed: int, epochs: int) -> Path:
    """The encoder of a seed."""
    fields: dict[str, object] = {"data__path": data, "optim__epochs": epochs}
    fields |= {"optim__warmup_epochs": 1, "run__eval_every": 500, "run__seed": seed}
    cell = Cell(
        record=out / f"pretrain_{seed}.json",
        module="mae_et",
        folder=out / f"pretrain_{seed}",
        arguments=("pretrain",),
        fields=fields,
        read=lambda folder: str(Run(folder).encoder),
    )
    return Path(cell.result())


def accuracy(out: Path, data: str, column: str, share: float, seed: int, encoder: Path) -> float:
    """Top-1 accuracy of a cell of the table on the test images."""
    name, run = column.replace(" ", "_"), f"{share:g}_{seed}"
    scoring = Scoring(
        record=out / f"{name}_{run}.json",
        encoder=None if column == "from scratch" else encoder,
        fields=labelled(data, share, seed),
    )
    if column in ("linear", "knn"):
        cell = scoring.probed(out / f"probe_{run}", column)
    else:
        cell = scoring.fine_tuned(out / f"{name}_{run}", *LABELS[share])
    return float(cell.result())


def table(scores: dict[str, dict[str, list[float]]]) -> str:
    """Mean ± standard deviation over the seeds, in per cent."""
    lines = ["labels   " + "".join(f"{column:>16}" for column in COLUMNS)]
    for share, by_column in scores.items():
        cells = (f"{spread(by_column[column]):>16}" for column in COLUMNS)
        lines.append(f"{float(share):<9.0%}" + "".join(cells))
    return "\n".join(lines)


def main() -> None:
    """Run the cells that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pretrain_epochs", type=int, default=8)
    options = parser.parse_args()
    out = options.out.resolve()
    data = fashion_mnist(out / "fashion_mnist")

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
    write_json(out / "results.json", results)
    print(table(scores))


if __name__ == "__main__":
    main()
