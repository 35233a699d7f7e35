"""Automatic settings against training from scratch, on data sets that nobody tuned for.

    python scripts/data/make_three_sets.py --out DIR …     # letters, emoji and tiles
    python scripts/study_auto.py --data DIR --out runs/auto --hours 0.05

For each set, two commands with no other option but data, hours and labels: `pretrain`, and
`finetune` on a few labels of each class. The second and the third seed repeat the first one's
pretraining with the settings that it chose, and have other labels. Beside it, the same network is
trained from scratch on the same labels, at the rate of the highest accuracy on the test images
among three, which favours it. Top-1 accuracy on the test images, of the best evaluation in both
cases.

Stop it at any time: the same command continues. It ends with a table, and OUT/results.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from support.runs import facts, run, write_json
from support.seeds import spread

from mae_et.runs import Run

SETS = ("letters", "emoji", "tiles")
RATES = (0.008, 0.016, 0.032)
"""Values of optim.base_lr for training from scratch."""


def pretrained(data: Path, out: Path, seed: int, hours: float) -> Path:
    """The pretraining of a set and a seed."""
    folder, first = out / f"pretrain_{seed}", out / "pretrain_0"
    if not Run(folder).encoder.is_dir():
        again = [f"--config={first}/config.yaml", "--run.hours=null"]
        chosen = again if seed else [str(data), f"--hours={hours}"]
        run("mae_et", folder, "pretrain", *chosen, run__seed=seed)
    return folder


def finetuned(labels: Path, out: Path, seed: int, pretraining: Path) -> dict[str, Any]:
    """The accuracies of automatic fine-tuning, and of the probe that it began with."""
    folder = out / f"automatic_{seed}"
    if not (folder / "report.json").exists():
        chosen = [str(labels), f"--checkpoint={pretraining}", "--resume=auto"]  # of its folds, too
        run("finetune", folder, *chosen, run__seed=seed)
    history, rate = Run(folder).top1_history(), Run(folder).section("optim")["base_lr"]
    return {"automatic": max(history), "probe": history[0], "base_lr": rate}


def from_scratch(labels: Path, out: Path, seed: int, pretraining: Path) -> float:
    """The accuracy of the same network from scratch, at the best of the rates."""
    config = Run(pretraining).read_config()
    model, data = config["model"], config["data"]
    network = {f"model__{n}": model[n] for n in ("encoder", "image_size", "patch_size", "in_chans")}
    network["model__encoder_args"] = json.dumps(model["encoder_args"])
    scores = []
    for rate in RATES:
        folder = out / f"scratch_{seed}_{rate:g}"
        if not (folder / "report.json").exists():
            fields: dict[str, object] = {
                **network,
                "checkpoint": "none",
                "data__path": labels,
                "data__mean": data["mean"],
                "data__std": data["std"],
                "data__num_workers": 1,
                "optim__epochs": 60,
                "optim__batch_size": 16,
                "optim__micro_batch_size": 16,
                "optim__base_lr": rate,
                "optim__layer_decay": 1.0,
                "optim__new_head": "random",
                "run__mixed_precision": "no",
                "run__eval_every": 195,
                "run__seed": seed,
            }
            run("finetune", folder, "--config=small_data", **fields)
        scores.append(max(Run(folder).top1_history()))
    return max(scores)


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/auto"))
    parser.add_argument("--hours", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    options = parser.parse_args()
    out, data = options.out.resolve(), options.data.resolve()
    results: dict[str, list[dict[str, Any]]] = {}
    for name in options.sets:
        results[name] = []
        for seed in options.seeds:
            folder, labels = out / name, data / f"{name}_few_{seed}"
            start = pretrained(data / name / "train", folder, seed, options.hours)
            row = finetuned(labels, folder, seed, start)
            row["from scratch"] = from_scratch(labels, folder, seed, start)
            results[name].append({"seed": seed, **row})
            print(name, json.dumps(results[name][-1]), flush=True)
    write_json(out / "results.json", {"sets": results, "hours": options.hours, **facts()})
    columns = ("automatic", "probe", "from scratch")
    print(f"{'':<10}" + "".join(f"{column:>16}" for column in columns))
    for name, rows in results.items():
        cells = (spread([row[column] for row in rows]) for column in columns)
        print(f"{name:<10}" + "".join(f"{cell:>16}" for cell in cells))


if __name__ == "__main__":
    main()
