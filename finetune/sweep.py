"""Repeat one fine-tuning run with several layer decays, with one table at the end.

RUN/layer_decay_0.65/    one folder per run
RUN/sweep.json           the table
"""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from accelerate import PartialState

from mae_et.config import Resume
from mae_et.errors import check
from mae_et.runs import Run

from .config import FinetuneConfig
from .train import finetune


def sweep_layer_decay(config: FinetuneConfig, values: Sequence[float], *, resume: Resume) -> None:
    """Fine-tune with each layer decay, and write and print the accuracies.

    Args:
        config: The configuration of all runs, except for the layer decay.
        values: Layer decays in (0, 1].
        resume: Whether to resume the runs that were started; a complete one has nothing left to do.

    Raises:
        ValueError: See `finetune`.
        RunStoppedError: See `finetune`.
    """
    folder = Path(config.run.output_dir)
    configs = {
        value: replace(
            config,
            optim=replace(config.optim, layer_decay=value),
            run=replace(config.run, output_dir=str(folder / f"layer_decay_{value:g}")),
        )
        for value in values
    }
    runs = [Path(one.run.output_dir) for one in configs.values()]
    check(len(set(runs)) == len(values), "--sweep.layer_decay", list(values), "distinct numbers")
    used = [str(run) for run in runs if run.exists() and not resume]
    check(not used, "run.output_dir", folder, f"new (or --resume), not one with {', '.join(used)}")
    rows = []
    for value, one in configs.items():
        run = Path(one.run.output_dir)
        finetune(one, resume="auto" if resume else False)
        gc.collect()  # accelerate and its models refer to each other; free the device's memory
        top1 = Run(run).top1_history()
        rows.append({"layer_decay": value, "best": max(top1), "last": top1[-1]})
    if PartialState().is_main_process:
        (folder / "sweep.json").write_text(json.dumps(rows, indent=2) + "\n")
        print("layer decay   best top-1   last top-1")
        for row in rows:
            print(f"{row['layer_decay']:<11g} {row['best']:>12.2%} {row['last']:>12.2%}")
