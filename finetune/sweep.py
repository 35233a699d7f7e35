"""Repeat a fine-tuning run with several settings; with folds, choose by them and train once more.

RUN/layer_decay_0.65/                     one folder for each combination of the settings
RUN/layer_decay_0.65/fold_1/, …           its folds, with --sweep.folds
RUN/chosen/                               all labels with the settings that the folds chose
RUN/sweep.json                            the table

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
    runs: Sequence[FinetuneConfig]

    def row(self, *, folds: bool) -> dict[str, Any]:
        """Return its row of the table, once its runs are complete."""
        histories = [Run(Path(run.run.output_dir)).top1_history() for run in self.runs]
        best, last = ([score(one) for one in histories] for score in (max, lambda one: one[-1]))
        row = {**self.settings, "best": float(np.mean(best)), "last": float(np.mean(last))}
        return row | ({"deviation": float(np.std(last, ddof=1))} if folds else {})


def sweep(
    config: FinetuneConfig,
    values: Mapping[str, Sequence[float]],
    *,
    folds: int | None = None,
    resume: Resume = False,
) -> Path:
    """Fine-tune with each combination of settings, and write and print the accuracies.

    Args:
        config: The configuration of all runs, except for these settings.
        values: The values of each setting of `config.SWEPT` that is swept.
        folds: Parts of each class's training labels, each of which is evaluated on once by a run
            that learns from the others; the combination with the best average after the last epoch
            is then trained on all. None evaluates on the evaluation images, and chooses nothing.
        resume: Whether to resume the runs that were started; a complete one has nothing left to do.

    Returns:
        The folder of the run that was chosen, or of all runs.

    Raises:
        ValueError: See `finetune`.
        RunStoppedError: See `finetune`.
    """
    folder = Path(config.run.output_dir)
    combinations = _combine(config, values, folds)
    runs = [run for combination in combinations for run in combination.runs]
    places = [run.run.output_dir for run in runs]
    used = [place for place in places if Path(place).exists() and not resume]
    check(not used, "run.output_dir", folder, f"new (or --resume), not one with {', '.join(used)}")
    for run in runs:
        _train(run, resume)
    rows = [combination.row(folds=folds is not None) for combination in combinations]
    if PartialState().is_main_process:
        (folder / "sweep.json").write_text(json.dumps(rows, indent=2) + "\n")
        print(_table(rows))
    if folds is None:
        return folder
    best = max(range(len(rows)), key=lambda number: rows[number]["last"])
    chosen = _with(config, combinations[best].settings, folder / "chosen")
    if PartialState().is_main_process:
        print(f"chosen by {folds} folds, and trained on all labels: {_words(rows[best], values)}")
    _train(chosen, resume)
    return folder / "chosen"


def _combine(
    config: FinetuneConfig, values: Mapping[str, Sequence[float]], folds: int | None
) -> list[_Combination]:
    folder, combinations = Path(config.run.output_dir), []
    for name, numbers in values.items():
        check(
            len(set(numbers)) == len(numbers), f"--sweep.{name}", list(numbers), "distinct numbers"
        )
    for numbers in itertools.product(*values.values()):
        settings = dict(zip(values, numbers, strict=True))
        place = folder / "_".join(f"{name}_{number:g}" for name, number in settings.items())
        if folds is None:
            runs = [_with(config, settings, place)]
        else:
            runs = [
                _with(config, settings, place / f"fold_{number}", (number, folds))
                for number in range(1, folds + 1)
            ]
        combinations.append(_Combination(settings, runs))
    return combinations


def _with(
    config: FinetuneConfig,
    settings: Mapping[str, float],
    folder: Path,
    fold: tuple[int, int] | None = None,
) -> FinetuneConfig:
    changes: dict[str, Any] = dict(settings)
    if "epochs" in changes:  # the warm-up keeps its share of them
        share = config.optim.warmup_epochs / config.optim.epochs
        changes["warmup_epochs"] = share * changes["epochs"]
    return replace(
        config,
        data=replace(config.data, fold=fold),
        optim=replace(config.optim, **changes),
        run=replace(config.run, output_dir=str(folder)),
    )


def _train(config: FinetuneConfig, resume: Resume) -> None:
    finetune(config, resume="auto" if resume else False)
    gc.collect()  # accelerate and its models refer to each other; free the device's memory


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


def _words(row: Mapping[str, float], values: Mapping[str, Sequence[float]]) -> str:
    return ", ".join(f"optim.{name} {row[name]:g}" for name in values)
