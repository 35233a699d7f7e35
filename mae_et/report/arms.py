"""Runs grouped into arms: what differs in nothing but seeds and book-keeping is one arm."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import torch

from ..config import BOOK_KEEPING
from ..model import MaskedAutoencoder, training_flops
from ..runs import Kind, RunHistory

NOT_COMPARED = BOOK_KEEPING | {"run.seed", "data.label_seed"}
"""Fields in which runs of one arm may differ."""


LONGEST_NAME = 60
"""Characters that charts have space for."""


Fields = Mapping[str, Any]
"""A configuration by dotted names."""


class Task(NamedTuple):
    """What an accuracy is measured on: the columns of a report."""

    kind: Kind
    data: str | None
    train_images: int | None
    test_images: int | None
    is_while_pretraining: bool = False


@dataclass(kw_only=True)
class Arm:
    """Pretraining runs, or runs from scratch of one network, and the accuracies that followed.

    Args:
        kind: of what the arm is.
        runs: its own; none if the pretraining is not among the folders.
        checkpoint: the weights that others started from, of an arm without runs.
        scores: per task and configuration (as JSON), the runs that measured it.
    """

    kind: str
    runs: list[RunHistory] = field(default_factory=list)
    checkpoint: str = ""
    name: str = ""
    scores: dict[Task, dict[str, list[RunHistory]]] = field(default_factory=dict)

    @property
    def is_pretrained(self) -> bool:
        return self.kind == "pretraining"

    @property
    def complete(self) -> list[RunHistory]:
        """Its own runs that are finished."""
        return [run for run in self.runs if run.is_complete]

    @property
    def seconds(self) -> list[float]:
        """Of each finished pretraining."""
        return [run.seconds for run in self.complete if self.is_pretrained]

    @property
    def eval_losses(self) -> list[float]:
        """The last of each finished pretraining."""
        finished = (run.eval_losses for run in self.complete if self.is_pretrained)
        return [losses[-1][1] for losses in finished if losses]

    @property
    def flops(self) -> list[float]:
        """Of each finished pretraining whose model can be built; see `mae_et.model.flops`."""
        counted = (pretraining_flops(run) for run in self.complete if self.is_pretrained)
        return [flops for flops in counted if flops is not None]

    def add_score(self, task: Task, run: RunHistory) -> None:
        """Count a finished run's accuracy."""
        self.scores.setdefault(task, {}).setdefault(settings(run), []).append(run)


def group_into_arms(runs: Sequence[RunHistory]) -> list[Arm]:
    """The arms, named: pretraining first, and what follows it by the path of its checkpoint."""
    arms: dict[tuple[str, str], Arm] = {}
    arm_of: dict[Path, Arm] = {}

    def arm(kind: str, key: str) -> Arm:
        return arms.setdefault((kind, key), Arm(kind=kind))

    for run in runs:
        if run.kind == "pretraining":
            arm_of[run.folder] = arm("pretraining", settings(run))
            arm_of[run.folder].runs.append(run)
            for kind in run.top1 if run.is_complete else ():
                source = run.fields.get("eval.path") or run.fields.get("data.path")
                task = Task(kind, source, run.fields.get("eval.images"), None, True)
                arm_of[run.folder].add_score(task, run)
    for run in runs:
        if run.kind == "pretraining":
            continue
        if run.checkpoint in (None, "none"):
            network = {name: run.config.get(name) for name in ("model", "curriculum")}
            its_arm = arm("scratch", json.dumps(network, sort_keys=True))
            its_arm.runs.append(run)
        else:
            folder = pretraining_folder(run, arm_of)
            its_arm = arm_of[folder] if folder else arm("unknown", str(run.checkpoint))
            its_arm.checkpoint = str(run.checkpoint)
        if run.is_complete and run.top1:
            task = Task(run.kind, run.fields.get("data.path"), *run.images)
            its_arm.add_score(task, run)
    name_arms(list(arms.values()))
    return list(arms.values())


def settings(run: RunHistory) -> str:
    """The configuration, as JSON, without what is not compared."""
    fields = {name: run.fields[name] for name in run.fields.keys() - NOT_COMPARED}
    return json.dumps(fields, sort_keys=True, default=str)


def pretraining_folder(run: RunHistory, known: Mapping[Path, object]) -> Path | None:
    """The run that a checkpoint belongs to, of those known; None if it is none of them.

    If the checkpoint is gone, the tree may have been moved: then it is the run of the same path
    from a folder that is above both, and of several such runs that of the longest path.
    """
    checkpoint = Path(str(run.checkpoint))
    for folder in (checkpoint, *checkpoint.parents):
        if folder.resolve() in known:
            return folder.resolve()
    if checkpoint.exists():
        return None
    parts = checkpoint.relative_to(checkpoint.anchor).parts
    folders = (
        above.joinpath(*parts[first:last])
        for first in range(len(parts))
        for last in range(len(parts), first, -1)
        for above in run.folder.parents
    )
    return next((folder for folder in folders if folder in known), None)


@cache
def _flops_per_image(model: str, size: str) -> int:
    with torch.device("meta"):
        built = MaskedAutoencoder(**json.loads(model))
    height, _, width = size.partition("×")
    return training_flops(built, (int(height), int(width or height)))


def pretraining_flops(run: RunHistory) -> float | None:
    """FLOPs of the steps that a run has taken; None if its model can't be built any more."""
    model = json.dumps(run.config["model"])
    try:
        flops = sum(stage.steps * _flops_per_image(model, stage.size) for stage in run.stages)
        return float(run.config["optim"]["batch_size"] * flops)
    except (KeyError, TypeError, ValueError):  # of another version
        return None


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (of a sample; 0 of one value)."""
    return mean(values), stdev(values) if len(values) > 1 else 0.0


def differences(configs: Sequence[Fields]) -> list[Fields]:
    """Of each configuration, the fields in which any two of them differ."""
    names = sorted({name for config in configs for name in config} - NOT_COMPARED)
    differing = [name for name in names if len({str(config.get(name)) for config in configs}) > 1]
    return [{name: config.get(name) for name in differing} for config in configs]


def describe(fields: Fields) -> str:
    """Fields and their values, in a line."""
    return ", ".join(f"{name} {value}" for name, value in fields.items())


def name_arms(arms: Sequence[Arm]) -> None:
    """Give each arm the first name that tells all of them apart and fits a chart.

    That is: what the names of its folders have in common, without seeds; the same of whole paths;
    the fields in which arms differ; a number.
    """
    own = [arm for arm in arms if arm.runs]
    for arm in arms:
        arm.name = f"from {arm.checkpoint} (its pretraining is not given)"
    fields = differences([arm.runs[0].fields for arm in own])
    described = {id(arm): describe(part) for arm, part in zip(own, fields, strict=True)}
    schemes: tuple[Callable[[Arm], str], ...] = (
        lambda arm: _common(arm, lambda run: run.folder.name),
        lambda arm: _common(arm, lambda run: os.path.join(*run.folder.parts[-2:])),  # noqa: PTH118
        lambda arm: described[id(arm)],
        lambda arm: f"arm {own.index(arm) + 1}",
    )
    for scheme in schemes:
        names = [scheme(arm) for arm in own]
        fit = all(0 < len(name) <= LONGEST_NAME for name in names)
        if fit and len(set(names)) == len(names):
            break
    for arm, name in zip(own, names, strict=True):
        arm.name = name


def _common(arm: Arm, text: Callable[[RunHistory], str]) -> str:
    """What the runs of an arm are called without the number of the seed."""
    names = []
    for run in arm.runs:
        seed = run.fields.get("run.seed", 0)
        names.append(re.sub(rf"[-_./]?(seed|s)?[-_]?(?<!\d){seed}$", "", text(run)))
    return os.path.commonprefix(names).rstrip("-_./")  # noqa: RUF071 (letters are meant)
