"""Whole runs: constant size, EfficientTrain and EfficientTrain++ of the same optim.epochs.

    python scripts/data/make_fashion_mnist.py --all --out runs/study/fashion_mnist
    python scripts/bench_pretrain.py --out runs/bench_pretrain --minutes 10
    python scripts/bench_pretrain.py --out DIR --config et_vit_b_16 -- --data.path PATH ...

Each run is the real command in a process of its own, with its loader, checkpoints and evaluation. A
round plans each curriculum (`mae_et plan`, with measured steps) and then runs all three (or those
of `--curricula`); rounds begin with another run each. The speedup over the constant size that a
round realised is divided by the one that was planned from FLOPs, and by the one planned from the
steps just measured: the first says what a user gets who planned without a machine, the second what
the run lost beside its steps.

Seconds are of the whole process ("wall"), of training steps, and in these of waiting for images.
The rest of the wall time is start-up, evaluation, checkpoints and the export. A stage change costs
what the first log window of a stage took beyond the median rate of its other windows. The start of
the run counts as one. Compilation is part of it, with an empty cache of compiled code as in a first
run; graphs compiled in other windows are counted as recompiled.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import time
from itertools import groupby
from pathlib import Path
from typing import Any

from support.runs import facts, run

from mae_et.runs.files import read_metrics

DEFAULTS = (  # the grids of ViT/16 at 224, and wide enough for the device to be the limit
    "--config=demo",
    "--data.path=parquet:runs/study/fashion_mnist",
    "--model.patch_size=2",
    '--model.encoder_args={"embed_dim": 192, "depth": 4, "num_heads": 3}',
    "--model.decoder_dim=128",
    "--model.decoder_depth=1",
    "--optim.batch_size=128",
    "--optim.micro_batch_size=64",
    "--optim.epochs=0.5",
    "--optim.base_lr=1e-3",
    "--optim.warmup_epochs=0",
    "--run.eval_every=null",
    "--run.log_every=5",
)
NAMES = ("constant", "efficienttrain", "efficienttrain_plus")


def plan(arguments: list[str], folder: Path, name: str) -> dict[str, Any]:
    """The plan of a run, with measured steps."""
    file = folder / f"{name}.json"
    run(
        "mae_et",
        folder / f"{name}_plan",
        "plan",
        *arguments,
        "--measure",
        f"--json={file}",
        f"--curriculum.name={name}",
    )
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def pretrain(arguments: list[str], folder: Path, name: str) -> dict[str, Any]:
    """Where the time of a run goes."""
    target, compiled = folder / name, folder / "compiled"
    for left in (target, compiled):
        shutil.rmtree(left, ignore_errors=True)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(compiled)  # else the plan's graphs would be found
    start = time.perf_counter()
    run("mae_et", target, "pretrain", *arguments, f"--curriculum.name={name}")
    return accounts(read_metrics(target), time.perf_counter() - start)


def accounts(lines: list[dict[str, Any]], wall: float) -> dict[str, Any]:
    """Where the seconds of a process went, by the lines of its metrics.jsonl."""
    windows = [line for line in lines if "loss" in line]
    stages, done, graphs = [], 0, 0
    for size, group in groupby(windows, key=lambda line: line["size"]):
        rates, compiled = [], []
        part = list(group)
        for line in part:
            steps, done = line["step"] - done, line["step"]
            rates.append(line["seconds"] / steps)
            compiled.append(line.get("graphs", 0) - graphs)
            graphs = line.get("graphs", 0)
            if len(rates) == 1:
                first_steps = steps
        steady = statistics.median(rates[1:]) if len(rates) > 1 else None
        seconds = sum(line["seconds"] for line in part)
        stages.append(
            {
                "size": size,
                "images": sum(line["images"] for line in part),
                "seconds": seconds,
                "waiting": sum(line["seconds"] * line["data_wait"] for line in part),
                "step": steady,
                "change": None if steady is None else first_steps * (rates[0] - steady),
                "graphs": compiled[0],
                "recompiled": sum(compiled[1:]),
            }
        )
    training = sum(stage["seconds"] for stage in stages)
    return {"wall": wall, "training": training, "rest": wall - training, "stages": stages}


def rows(rounds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per run: medians over the rounds, and of the ratios within a round."""

    def median_of(name: str, key: str) -> float:
        return statistics.median(part["runs"][name][key] for part in rounds)

    def total(name: str, key: str) -> float:
        return statistics.median(
            sum(stage[key] or 0 for stage in part["runs"][name]["stages"]) for part in rounds
        )

    found = []
    for name in [name for name in NAMES if name in rounds[0]["runs"]]:
        row: dict[str, Any] = {"run": name}
        row |= {f"{key} s": median_of(name, key) for key in ("wall", "training", "rest")}
        row |= {"waiting s": total(name, "waiting"), "stage changes s": total(name, "change")}
        row["recompiled"] = total(name, "recompiled")
        for planned, label in (("speedup", "FLOPs"), ("time_speedup", "measured steps")):
            if name == NAMES[0]:
                continue
            row[f"planned, {label}"] = statistics.median(p["plans"][name][planned] for p in rounds)
            for key in ("wall", "training"):
                row[f"{key}: realised ÷ planned, {label}"] = statistics.median(
                    p["runs"][NAMES[0]][key] / p["runs"][name][key] / p["plans"][name][planned]
                    for p in rounds
                )
        found.append(row)
    return found


def table(found: list[dict[str, Any]]) -> str:
    """Markdown, a column per run."""
    lines = [
        "| | " + " | ".join(row["run"] for row in found) + " |",
        "|---" * (len(found) + 1) + "|",
    ]
    for key in [key for key in found[-1] if key != "run"]:
        cells = (f"{row[key]:.3f}" if key in row else "" for row in found)
        lines.append(f"| {key} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and results.json")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--config", help="recipe in place of the small model on Fashion-MNIST")
    parser.add_argument(
        "--minutes", type=float, help="of EfficientTrain's steps: sets optim.epochs"
    )
    parser.add_argument(
        "--curricula", nargs="+", choices=NAMES[1:], default=NAMES[1:], help="beside constant size"
    )
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", choices=["cpu"], help="else the one that accelerate chooses")
    parser.add_argument("overrides", nargs="*", help="fields of the run, after --")
    options = parser.parse_args()
    if options.minutes is not None and options.minutes <= 0:
        parser.error(f"--minutes must be above 0, got {options.minutes}")
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    if options.device:
        os.environ["ACCELERATE_USE_CPU"] = "true"
    options.out = options.out.resolve()  # runs start in the root of the repository
    options.out.mkdir(parents=True, exist_ok=True)
    arguments = [f"--config={options.config}"] if options.config else [*DEFAULTS]
    arguments += ["--run.tracker=none", f"--run.compile={str(options.compile).lower()}"]
    arguments += options.overrides
    if options.minutes:
        first = plan(arguments, options.out, "efficienttrain")
        epochs = first["budget"] * options.minutes / 60 / first["hours"]
        arguments.append(f"--optim.epochs={epochs:.4g}")

    rounds: list[dict[str, Any]] = []
    names = [NAMES[0], *options.curricula]
    for number in range(options.rounds):
        turn = number % len(names)
        plans = {name: plan(arguments, options.out, name) for name in options.curricula}
        runs = {
            name: pretrain(arguments, options.out, name) for name in names[turn:] + names[:turn]
        }
        rounds.append({"plans": plans, "runs": runs})
        found = rows(rounds)
        results = {**facts(), "arguments": arguments, "rows": found, "rounds": rounds}
        (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        print(table(found), flush=True)


if __name__ == "__main__":
    main()
