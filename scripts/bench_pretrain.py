"""Whole runs: constant size, EfficientTrain and EfficientTrain++ of the same optim.epochs.

    python scripts/data/make_fashion_mnist.py --all --out runs/study/fashion_mnist
    python scripts/bench_pretrain.py --out runs/bench_pretrain --minutes 10
    python scripts/bench_pretrain.py --out DIR --config et_vit_b_16 -- --data.path PATH ...

Each run is the real command in a process of its own, with its loader, checkpoints and evaluation. A
round plans each curriculum (`mae_et plan`, with measured steps) and then runs all three (or those
of `--curricula`); each round begins with another run. The speedup over the constant size that a
round realised is divided by the one planned from FLOPs, and by the one planned from the steps just
measured: the first is what a user gets who plans without a machine, the second what a run loses
outside its steps.

Seconds are of the whole process ("wall"), of training steps, and within these of waiting for
images. The rest of the wall time is start-up, evaluation, checkpoints and the export. The cost of a
stage change is what the first log window of a stage took beyond the median rate of its other
windows; the start of the run counts as a change. It includes compilation, with an empty cache of
compiled code as in a first run; graphs compiled in other windows count as recompiled.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import time
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from support.markdown import markdown
from support.runs import facts, run, write_json
from support.timing import rotated

from mae_et.runs import Run

DEFAULTS = (
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
"""A model with the grids of ViT/16 at 224, and wide enough for the device to be the limit."""

CONSTANT, CURRICULA = "constant", ("efficienttrain", "efficienttrain_plus")
NAMES = (CONSTANT, *CURRICULA)


def plan(arguments: list[str], folder: Path, name: str) -> dict[str, Any]:
    """The plan of a run, with measured steps.

    Args:
        arguments: Options of every run.
        folder: The work folder.
        name: One of NAMES.
    """
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
    """Run a curriculum, and account for its time.

    Args:
        arguments: Options of every run.
        folder: The work folder.
        name: One of NAMES.
    """
    target, compiled = folder / name, folder / "compiled"
    for left in (target, compiled):
        shutil.rmtree(left, ignore_errors=True)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(compiled)  # else the plan's graphs would be found
    start = time.perf_counter()
    run("mae_et", target, "pretrain", *arguments, f"--curriculum.name={name}")
    return accounts(Run(target).read_metrics(), time.perf_counter() - start)


def accounts(lines: list[dict[str, Any]], wall: float) -> dict[str, Any]:
    """Where the seconds of a process went.

    Args:
        lines: The lines of its metrics.jsonl.
        wall: Seconds from its start to its end.
    """
    windows = [line for line in lines if "loss" in line]
    stages, done, graphs = [], 0, 0
    for size, group in groupby(windows, key=lambda line: line["size"]):
        part = list(group)
        stages.append({"size": size, **stage_accounts(part, done, graphs)})
        done, graphs = part[-1]["step"], part[-1].get("graphs", 0)
    training = sum(stage["seconds"] for stage in stages)
    return {"wall": wall, "training": training, "rest": wall - training, "stages": stages}


def stage_accounts(windows: list[dict[str, Any]], done: int, graphs: int) -> dict[str, Any]:
    """Where the seconds of a stage went.

    Args:
        windows: The log lines of its steps.
        done: Steps before the stage.
        graphs: Graphs compiled before the stage.
    """
    steps = [after - before for before, after in pairwise([done, *(w["step"] for w in windows)])]
    counts = [graphs, *(window.get("graphs", 0) for window in windows)]
    compiled = [after - before for before, after in pairwise(counts)]
    rates = [window["seconds"] / number for window, number in zip(windows, steps, strict=True)]
    steady = statistics.median(rates[1:]) if len(rates) > 1 else None
    return {
        "images": sum(window["images"] for window in windows),
        "seconds": sum(window["seconds"] for window in windows),
        "waiting": sum(window["seconds"] * window["data_wait"] for window in windows),
        "step": steady,
        "change": None if steady is None else steps[0] * (rates[0] - steady),
        "graphs": compiled[0],
        "recompiled": sum(compiled[1:]),
    }


def rows(rounds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per run: medians over the rounds, and of the ratios within a round."""
    return [row_of(name, rounds) for name in NAMES if name in rounds[0]["runs"]]


def row_of(name: str, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of a run."""
    runs = [part["runs"][name] for part in rounds]

    def total(key: str) -> float:
        return statistics.median(sum(stage[key] or 0 for stage in run["stages"]) for run in runs)

    row: dict[str, Any] = {"run": name}
    for key in ("wall", "training", "rest"):
        row[f"{key} s"] = statistics.median(run[key] for run in runs)
    row |= {"waiting s": total("waiting"), "stage changes s": total("change")}
    row["recompiled"] = total("recompiled")
    if name == CONSTANT:
        return row
    for planned, label in (("speedup", "FLOPs"), ("time_speedup", "measured steps")):
        row[f"planned, {label}"] = statistics.median(p["plans"][name][planned] for p in rounds)
        for key in ("wall", "training"):
            row[f"{key}: realised ÷ planned, {label}"] = statistics.median(
                p["runs"][CONSTANT][key] / p["runs"][name][key] / p["plans"][name][planned]
                for p in rounds
            )
    return row


def table(found: list[dict[str, Any]]) -> str:
    """Markdown, a column per run."""
    keys = [key for key in found[-1] if key != "run"]
    cells = ([f"{row[key]:.3f}" if key in row else "" for row in found] for key in keys)
    body = [[key, *line] for key, line in zip(keys, cells, strict=True)]
    return markdown(["", *(row["run"] for row in found)], body)


def parse_arguments() -> argparse.Namespace:
    """The options, with the folder made."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and results.json")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--config", help="recipe in place of the small model on Fashion-MNIST")
    parser.add_argument(
        "--minutes", type=float, help="of EfficientTrain's steps: sets optim.epochs"
    )
    parser.add_argument(
        "--curricula", nargs="+", choices=CURRICULA, default=CURRICULA, help="beside constant size"
    )
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", choices=["cpu"], help="else the one that accelerate chooses")
    parser.add_argument("overrides", nargs="*", help="fields of the run, after --")
    options = parser.parse_args()
    if options.minutes is not None and options.minutes <= 0:
        parser.error(f"--minutes must be above 0, got {options.minutes}")
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    options.out = options.out.resolve()  # runs start in the root of the repository
    options.out.mkdir(parents=True, exist_ok=True)
    return options


def run_arguments(options: argparse.Namespace) -> list[str]:
    """Options of every run; with `--minutes`, EfficientTrain is planned to find its epochs."""
    arguments = [f"--config={options.config}"] if options.config else [*DEFAULTS]
    arguments += ["--run.tracker=none", f"--run.compile={str(options.compile).lower()}"]
    arguments += options.overrides
    if options.minutes:
        first = plan(arguments, options.out, "efficienttrain")
        epochs = first["budget"] * options.minutes / 60 / first["hours"]
        arguments.append(f"--optim.epochs={epochs:.4g}")
    return arguments


def main() -> None:
    """Plan and run each curriculum in rounds, and print the table after each."""
    options = parse_arguments()
    if options.device:
        os.environ["ACCELERATE_USE_CPU"] = "true"
    arguments = run_arguments(options)
    rounds: list[dict[str, Any]] = []
    for number in range(options.rounds):
        plans = {name: plan(arguments, options.out, name) for name in options.curricula}
        names = rotated([CONSTANT, *options.curricula], number)
        runs = {name: pretrain(arguments, options.out, name) for name in names}
        rounds.append({"plans": plans, "runs": runs})
        found = rows(rounds)
        results = {**facts(), "arguments": arguments, "rows": found, "rounds": rounds}
        write_json(options.out / "results.json", results)
        print(table(found), flush=True)


if __name__ == "__main__":
    main()
