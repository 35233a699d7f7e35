"""Repeat a fine-tuning run with several settings, to compare them or to choose among them.

RUN/layer_decay_0.65/              one run for each combination of the settings
RUN/sweep.json                     the table

RUN_folds/base_lr_0.008/fold_1/    with folds: the runs that choose
RUN_folds/sweep.json               the table
RUN/                               all labels, with the settings that were chosen

Folds leave the images to evaluate on alone, so that these still measure what was chosen.
"""

from __future__ import annotations

import gc
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState

from mae_et.config import Resume
from mae_et.errors import check
from mae_et.runs import Run

from .config import FinetuneConfig
from .train import finetune


@dataclass(frozen=True)
class _Combination:
    """Some settings, and the runs with them."""

    settings: Mapping[str, float]
    folder: Path
    runs: Sequence[FinetuneConfig]

    def row(self) -> dict[str, Any]:
        """Return its row of the table, once its runs are complete."""
        histories = [Run(Path(run.run.output_dir)).top1_history() for run in self.runs]
        best, last = ([score(one) for one in histories] for score in (max, lambda one: one[-1]))
        row = {**self.settings, "best": float(np.mean(best)), "last": float(np.mean(last))}
        return row | ({"deviation": float(np.std(last, ddof=1))} if len(last) > 1 else {})


def sweep(
    config: FinetuneConfig, values: Mapping[str, Sequence[float]], *, resume: Resume = False
) -> None:
    """Fine-tune with each combination of settings, and write and print the accuracies.

    Args:
        config: The configuration of all runs, except for these settings.
        values: The values of each setting of `config.SWEPT` that is swept.
        resume: Whether to resume the runs that were started; a complete one has nothing left to do.

    Raises:
        ValueError: See `finetune`.
        RunStoppedError: See `finetune`.
    """
    _run_all(_combine(config, values, Path(config.run.output_dir)), resume)


def choose_by_folds(
    config: FinetuneConfig,
    values: Mapping[str, Sequence[float]],
    folds: int,
    *,
    resume: Resume = False,
) -> FinetuneConfig:
    """Return a configuration with the combination of settings that is best on parts of the labels.

    Args:
        config: The configuration, except for these settings.
        values: As in `sweep`.
        folds: Parts of each class's training labels, each of which is evaluated on once, by a run
            that learns from the others. The average accuracy after the last step counts.
        resume: As in `sweep`.

    Raises:
        ValueError: See `finetune`.
        RunStoppedError: See `finetune`.
    """
    out = Path(config.run.output_dir)
    if not resume:
        Run(out).check_new()
    combinations = _combine(config, values, out.with_name(f"{out.name}_folds"), folds)
    rows = _run_all(combinations, resume)
    best = max(range(len(rows)), key=lambda number: rows[number]["last"])
    settings = combinations[best].settings
    if PartialState().is_main_process:
        words = ", ".join(f"optim.{name} {value:g}" for name, value in settings.items())
        print(f"chosen by {folds} folds: {words}")
    return _with(config, settings)


def _run_all(combinations: Sequence[_Combination], resume: Resume) -> list[dict[str, Any]]:
    """Train all runs, and return, write and print the table."""
    folder = combinations[0].folder.parent
    places = [run.run.output_dir for one in combinations for run in one.runs]
    used = [place for place in places if Path(place).exists() and not resume]
    check(not used, "run.output_dir", folder, f"new (or --resume), not one with {', '.join(used)}")
    for combination in combinations:
        for run in combination.runs:
            finetune(run, resume="auto" if resume else False)
            gc.collect()  # accelerate and its models refer to each other; free the device's memory
    rows = [combination.row() for combination in combinations]
    if PartialState().is_main_process:
        (folder / "sweep.json").write_text(json.dumps(rows, indent=2) + "\n")
        print(_table(rows))
    return rows


def _combine(
    config: FinetuneConfig,
    values: Mapping[str, Sequence[float]],
    folder: Path,
    folds: int | None = None,
) -> list[_Combination]:
    combinations = []
    for name, numbers in values.items():
        allowed = "distinct numbers"
        check(len(set(numbers)) == len(numbers), f"--sweep.{name}", list(numbers), allowed)
    for numbers in itertools.product(*values.values()):
        settings = dict(zip(values, numbers, strict=True))
        place = folder / "_".join(f"{name}_{number:g}" for name, number in settings.items())
        runs = [_with(config, settings, output_dir=str(place))]
        if folds is not None:
            runs = [
                _with(config, settings, (number, folds), output_dir=f"{place}/fold_{number}")
                for number in range(1, folds + 1)
            ]
        combinations.append(_Combination(settings, place, runs))
    return combinations


def _with(
    config: FinetuneConfig,
    settings: Mapping[str, float],
    fold: tuple[int, int] | None = None,
    **run: Any,
) -> FinetuneConfig:
    changes: dict[str, Any] = dict(settings)
    if "epochs" in changes:  # the warm-up keeps its share of them
        share = config.optim.warmup_epochs / config.optim.epochs
        changes["warmup_epochs"] = share * changes["epochs"]
    return replace(
        config,
        data=replace(config.data, fold=fold),
        optim=replace(config.optim, **changes),
        run=replace(config.run, **run),
    )


def _table(rows: Sequence[Mapping[str, float]]) -> str:
    names = list(rows[0])
    settings = [name for name in names if name not in ("best", "last", "deviation")]
    heads = [name.replace("_", " ") for name in settings] + ["best top-1", "last top-1"]
    heads += ["deviation"] * ("deviation" in names)
    lines = ["   ".join(f"{head:>11}" for head in heads)]
    for row in rows:
        cells = [f"{row[name]:g}" if name in settings else f"{row[name]:.2%}" for name in names]
        lines.append("   ".join(f"{cell:>11}" for cell in cells))
    return "\n".join(lines)
