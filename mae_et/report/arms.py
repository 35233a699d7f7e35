"""Group runs into arms: runs that differ only in seeds and book-keeping are one arm."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal, NamedTuple

import torch

from ..config import BOOK_KEEPING
from ..model import create_masked, training_flops
from ..runs import Kind, RunHistory

NOT_COMPARED = BOOK_KEEPING | {"run.seed", "data.label_seed"}
"""Fields in which the runs of an arm may differ."""


LONGEST_NAME = 60
"""The most characters of a name that charts have space for."""


MOST_BLOCKS = 1024
"""The most blocks, over all input sizes of a run, whose FLOPs are counted; each takes 0.05 s."""


MOST_PARTS = 64
"""The most folders of a path that are compared with those of runs."""


Fields = Mapping[str, Any]
"""A configuration by dotted names."""


ArmKind = Literal["pretraining", "scratch", "unknown"]


class Task(NamedTuple):
    """What an accuracy is measured on; a column of the report."""

    kind: Kind
    data: str | None
    train_images: int | None
    test_images: int | None
    is_while_pretraining: bool = False


@dataclass(kw_only=True)
class Arm:
    """Pretraining runs, or runs of one network from scratch, and the accuracies that followed.

    Args:
        kind: "pretraining", "scratch", or "unknown" if the pretraining is not among the folders.
        runs: The runs of the arm; empty if unknown.
        checkpoint: The weights that the runs of `scores` started from; empty if from scratch.
        name: A name that no other arm has.
        scores: Runs that measured an accuracy, by task and configuration (as JSON).
    """

    kind: ArmKind
    runs: list[RunHistory] = field(default_factory=list)
    checkpoint: str = ""
    name: str = ""
    scores: dict[Task, dict[str, list[RunHistory]]] = field(default_factory=dict)

    @property
    def is_pretrained(self) -> bool:
        """Whether the runs of the arm are pretraining."""
        return self.kind == "pretraining"

    @property
    def is_scratch(self) -> bool:
        """Whether the runs of the arm train on labels from scratch."""
        return self.kind == "scratch"

    @property
    def complete(self) -> list[RunHistory]:
        """The runs of the arm that are finished."""
        return [run for run in self.runs if run.is_complete]

    @property
    def all_runs(self) -> list[RunHistory]:
        """The runs of the arm, and those that measured its accuracies."""
        variants = [runs for by_setting in self.scores.values() for runs in by_setting.values()]
        return [*self.runs, *(run for runs in variants for run in runs)]

    @property
    def seconds(self) -> list[float]:
        """The seconds of training of each finished pretraining run."""
        return [run.seconds for run in self.complete if self.is_pretrained]

    @property
    def eval_losses(self) -> list[float]:
        """The last held-out loss of each finished pretraining run."""
        finished = (run.eval_losses for run in self.complete if self.is_pretrained)
        return [losses[-1][1] for losses in finished if losses]

    @property
    def flops(self) -> list[float]:
        """The FLOPs of each finished pretraining run whose model can be built."""
        counted = (pretraining_flops(run) for run in self.complete if self.is_pretrained)
        return [flops for flops in counted if flops is not None]

    def add_score(self, task: Task, run: RunHistory) -> None:
        """Add a finished run that has measured an accuracy.

        Args:
            task: What the accuracy is measured on.
            run: The run.
        """
        self.scores.setdefault(task, {}).setdefault(settings(run), []).append(run)


def group_into_arms(runs: Sequence[RunHistory]) -> list[Arm]:
    """Group runs into named arms, pretraining first.

    A run that starts from a checkpoint belongs to the arm of the pretraining that wrote it.
    """
    arms: dict[tuple[str, str], Arm] = {}
    arm_of: dict[Path, Arm] = {}

    def arm(kind: ArmKind, key: str) -> Arm:
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
    """Return, as JSON, the fields in which runs of different arms differ."""
    fields = {name: run.fields[name] for name in run.fields.keys() - NOT_COMPARED}
    return json.dumps(fields, sort_keys=True, default=str)


def pretraining_folder(run: RunHistory, known: Mapping[Path, object]) -> Path | None:
    """Find the run that wrote the checkpoint from which another run started.

    If the checkpoint is gone, the tree may have been moved. Then it is the run at the same path
    below some folder that also contains `run`; of several such runs, the one with the longest path.

    Args:
        run: The run that started from the checkpoint.
        known: The folders of the runs to choose from.

    Returns:
        The folder; None if it is not among the known ones.
    """
    checkpoint = Path(str(run.checkpoint))
    parts = checkpoint.relative_to(checkpoint.anchor).parts
    if len(parts) > MOST_PARTS:
        return None
    for folder in (checkpoint, *checkpoint.parents):
        resolved = Path(os.path.realpath(folder))
        if resolved in known:
            return resolved
    if os.path.exists(checkpoint):  # noqa: PTH110 (Path.exists raises where it may not look)
        return None
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
        built = create_masked(json.loads(model))
    height, _, width = size.partition("×")
    return training_flops(built, (int(height), int(width or height)))


def pretraining_flops(run: RunHistory) -> float | None:
    """Count the FLOPs of the steps that a run has taken; see `mae_et.model.flops`.

    Returns:
        The FLOPs; None if this version cannot build the model of the run, or would take minutes.
    """
    model = json.dumps(run.config["model"])
    try:
        sizes = {stage.size for stage in run.stages}
        depths = [run.config["model"].get("encoder_args", {}).get("depth", 0)]
        depths += [run.config["model"].get("decoder_depth", 0)]
        if len(sizes) * sum(depths) > MOST_BLOCKS:
            return None
        flops = sum(stage.steps * _flops_per_image(model, stage.size) for stage in run.stages)
        return float(run.config["optim"]["batch_size"] * flops)
    except Exception:  # from a different version, or of numbers that make no model
        return None


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the sample standard deviation, which is 0 for a single value."""
    return mean(values), stdev(values) if len(values) > 1 else 0.0


def differences(configs: Sequence[Fields]) -> list[Fields]:
    """Return, for each configuration, the fields in which any two of them differ."""
    names = sorted({name for config in configs for name in config} - NOT_COMPARED)
    differing = [name for name in names if len({str(config.get(name)) for config in configs}) > 1]
    return [{name: config.get(name) for name in differing} for config in configs]


def describe(fields: Fields) -> str:
    """List fields and their values in one line."""
    return ", ".join(f"{name} {value}" for name, value in fields.items())


def name_arms(arms: Sequence[Arm]) -> None:
    """Name the arms by the first scheme whose names differ and fit into a chart.

    The schemes are: what the names of an arm's folders have in common, without seeds; the same
    with the folders above them; the fields in which the arms differ; a number.
    """
    own = [arm for arm in arms if arm.runs]
    for arm in arms:
        folder = arm.checkpoint[-4 * LONGEST_NAME :]
        shown = folder if folder == arm.checkpoint else f"…{folder}"
        arm.name = f"from {shown} (its pretraining is not given)"
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
        # The name of a folder may have bytes that no encoding knows, and no picture can show.
        arm.name = name.encode(errors="replace").decode()


def _common(arm: Arm, text: Callable[[RunHistory], str]) -> str:
    """Return what the texts of an arm's runs have in common, without the seed number."""
    names = []
    for run in arm.runs:
        seed = run.fields.get("run.seed", 0)
        names.append(re.sub(rf"[-_./]?(seed|s)?[-_]?(?<!\d){seed}$", "", text(run)))
    return os.path.commonprefix(names).rstrip("-_./")  # noqa: RUF071 (letters are meant)
