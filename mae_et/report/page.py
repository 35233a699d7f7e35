"""Build the page of a report from its sections and the facts about it.

Costs are those of pretraining; seconds are those of training alone, as the runs measured them,
without evaluations and checkpoints.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import torch

from ..runs import RunHistory
from . import sections
from .arms import group_into_arms, pretraining_flops
from .html import Block, Section, Table, render

VERSIONS = ("torch", "timm", "accelerate", "datasets")


def build(
    runs: Sequence[RunHistory],
    skipped: Sequence[tuple[Path, str]],
    title: str,
    command: str,
    drawing: sections.Drawing,
) -> str:
    """Compare runs on one page of HTML.

    Args:
        runs: The runs that are compared.
        skipped: Folders that are left out, and why.
        title: Heading of the page.
        command: The command line that makes the page.
        drawing: Whether reconstructions are drawn, and of which images.
    """
    arms = group_into_arms(runs)
    tasks = sections.name_tasks(arms)
    blocks: dict[str, Sequence[Block]] = {
        "What did each arm cost, and what did it score?": sections.arm_table(arms, tasks),
        "Is a higher cost worth it?": sections.costs(arms, tasks),
        "How did the losses fall?": sections.losses(arms, tasks),
        "Where did the time go?": sections.stages(arms),
        "What do the models reconstruct?": sections.reconstructions(arms, drawing),
        "In which settings do the arms differ?": sections.configurations(arms, tasks),
        "Where do these numbers come from?": [facts(runs, skipped, command)],
    }
    return render(title, [Section(heading, part) for heading, part in blocks.items() if part])


def facts(runs: Sequence[RunHistory], skipped: Sequence[tuple[Path, str]], command: str) -> Table:
    """Say when and with what the page was made, and what is missing from it.

    Args:
        runs: The runs that are compared.
        skipped: Folders that are left out, and why.
        command: The command line that makes the page.
    """
    lines = [line for run in runs for line in run.metrics]
    times = sorted(line["time"] for line in lines if line.get("time") is not None)
    days = [f"{datetime.fromtimestamp(time):%Y-%m-%d}" for time in times[:1] + times[-1:]]
    rows = [
        ["made", f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}"],
        ["command", command],
        ["versions, of this page", ", ".join(f"{name} {version(name)}" for name in VERSIONS)],
        ["machine, of this page", f"{platform.machine()}, CPU threads: {torch.get_num_threads()}"],
        ["runs", f"{len(runs)}, of {' to '.join(dict.fromkeys(days)) or 'unknown date'}"],
    ]
    rows += [
        ["unfinished", f"{run.folder}: {sum(w.steps for w in run.windows)} steps so far"]
        for run in runs
        if not run.is_complete
    ]
    rows += [
        ["FLOPs unknown", f"{run.folder}: its model is too deep to count, or can't be built"]
        for run in runs
        if run.kind == "pretraining" and pretraining_flops(run) is None
    ]
    rows += [
        ["cost not counted", f"{run.folder}: what its weights cost before, {run.checkpoint}"]
        for run in runs
        if run.kind == "pretraining" and run.checkpoint is not None
    ]
    rows += [["skipped", f"{folder}: {reason}"] for folder, reason in skipped]
    return Table((), rows)
