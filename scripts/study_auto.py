"""Automatic settings against settings by hand and training from scratch, on three sets.

    python scripts/data/make_three_sets.py --out DIR …     # letters, emoji and tiles
    python scripts/study_auto.py --data DIR --out runs/auto --hours 0.05

For each set, two commands with no other option but data, hours and labels: `pretrain`, and
`finetune` on a few labels of each class. The second and the third seed repeat the first one's
pretraining with the settings that it chose, and have other labels.

Two other ways stand beside it. By hand: fine-tuning of the same encoder with each of some settings.
From scratch: the same network on the same labels, at each of some rates, for 60 epochs. Of the
settings of either, those of the highest accuracy on the *test* images of the first seed are taken
for all seeds, which favours them. Top-1 accuracy on the test images, of the best evaluation.

Stop it at any time: the same command continues. It ends with a table, and OUT/results.json.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

from support.runs import dotted, facts, run, write_json
from support.seeds import paired_difference, spread

from mae_et.runs import Run

SETS = ("letters", "emoji", "tiles")
BATCH_SIZE = 16
"""Images per step of the ways beside the automatic one, which has 16, too, for so few labels."""

BY_HAND: dict[str, dict[str, object]] = {
    "rate_0.064": {"optim__base_lr": 0.064},
    "rate_0.032_decay_0.9": {"optim__base_lr": 0.032, "optim__layer_decay": 0.9},
}
"""Settings of fine-tuning that somebody would try: name -> what differs from small_data."""

FROM_SCRATCH: dict[str, dict[str, object]] = {
    f"rate_{rate:g}": {"optim__base_lr": rate, "optim__epochs": 60, "optim__layer_decay": 1.0}
    for rate in (0.016, 0.032)
}
"""Settings of training from scratch, likewise."""

WAYS = {"by hand": BY_HAND, "from scratch": FROM_SCRATCH}
"""What stands beside automatic fine-tuning: way -> its settings."""

COLUMNS = ("automatic", "probe", "by hand", "from scratch")


def pretrained(data: Path, out: Path, seed: int, hours: float) -> Path:
    """The pretraining of a set and a seed."""
    folder, first = out / f"pretrain_{seed}", out / "pretrain_0"
    if not Run(folder).encoder.is_dir():
        again = [f"--config={first}/config.yaml", "--run.hours=null"]
        chosen = again if seed else [str(data), f"--hours={hours}"]
        run("mae_et", folder, "pretrain", *chosen, run__seed=seed)
    return folder


def automatic(labels: Path, out: Path, seed: int, pretraining: Path) -> dict[str, Any]:
    """The accuracies of automatic fine-tuning, and of the probe that it began with."""
    folder = out / f"automatic_{seed}"
    if not (folder / "report.json").exists():
        chosen = [str(labels), f"--checkpoint={pretraining}", "--resume=auto"]  # of its folds, too
        run("finetune", folder, *chosen, run__seed=seed)
    history, rate = Run(folder).top1_history(), Run(folder).section("optim")["base_lr"]
    return {"automatic": max(history), "probe": history[0], "base_lr": rate}


def trained(labels: Path, folder: Path, seed: int, pretraining: Path, **fields: object) -> float:
    """The accuracy of a run with the network and the images of a pretraining."""
    if not (folder / "report.json").exists():
        config = Run(pretraining).read_config()
        model, data = config["model"], config["data"]
        network = ("encoder", "image_size", "patch_size", "in_chans")
        given: dict[str, object] = {
            **{f"model__{name}": model[name] for name in network},
            "model__encoder_args": json.dumps(model["encoder_args"]),
            "data__path": labels,
            "data__mean": data["mean"],
            "data__std": data["std"],
            "data__num_workers": 1,
            "optim__batch_size": BATCH_SIZE,
            "optim__micro_batch_size": BATCH_SIZE,
            "run__mixed_precision": "no",
            "run__eval_every": 100,
            "run__seed": seed,
        }
        run("finetune", folder, "--config=small_data", **given | fields)
    return max(Run(folder).top1_history())


def beside(way: str, name: str, labels: Path, out: Path, seed: int, pretraining: Path) -> float:
    """The accuracy of one of the other ways with some of its settings."""
    fields: dict[str, object] = {"checkpoint": pretraining}
    if way == "from scratch":
        fields = {"checkpoint": "none", "optim__new_head": "random"}
    folder = out / f"{way.replace(' ', '_')}_{seed}_{name}"
    return trained(labels, folder, seed, pretraining, **fields, **WAYS[way][name])


def study(name: str, data: Path, out: Path, seeds: list[int], hours: float) -> dict[str, Any]:
    """All accuracies of a set, by seed and way, and the settings that were taken."""
    rows: dict[int, dict[str, Any]] = {}
    tried: dict[str, dict[str, float]] = {}
    taken: dict[str, str] = {}
    for seed in seeds:
        labels = data / f"{name}_few_{seed}"
        start = pretrained(data / name / "train", out, seed, hours)
        rows[seed] = automatic(labels, out, seed, start)
        print(name, seed, json.dumps(rows[seed]), flush=True)
        for way, settings in WAYS.items():
            accuracy = partial(beside, way, labels=labels, out=out, seed=seed, pretraining=start)
            if way not in taken:
                tried[way] = {setting: accuracy(setting) for setting in settings}
                taken[way] = max(tried[way], key=tried[way].__getitem__)
            rows[seed][way] = accuracy(taken[way])
        print(name, seed, json.dumps(rows[seed]), flush=True)
    return {"seeds": rows, "taken": taken, "tried on the first seed": tried}


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
    results = {
        name: study(name, data, out / name, options.seeds, options.hours) for name in options.sets
    }
    write_json(out / "results.json", {"sets": results, "hours": options.hours, **facts()})
    print(f"{'':<10}" + "".join(f"{column:>16}" for column in COLUMNS))
    for name, result in results.items():
        scores = {way: {s: row[way] for s, row in result["seeds"].items()} for way in COLUMNS}
        print(f"{name:<10}" + "".join(f"{spread([*scores[way].values()]):>16}" for way in COLUMNS))
        for way, settings in WAYS.items():
            gain = paired_difference(scores["automatic"], scores[way])
            if gain is not None:
                interval = f"{gain.mean:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}] points"
                fields = dotted(settings[result["taken"][way]])
                print(f"{'':<10}automatic less {way}: {interval}; {way}: {json.dumps(fields)}")


if __name__ == "__main__":
    main()
