"""The figures of a report: accuracy against cost, losses, stages. An arm has one colour in all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ..runs import RunHistory
from .arms import Arm, Task, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure


PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, told apart by the colour-blind; yellow is too pale for a line."""


MARKERS, DASHES = "osD^vPX", ("-", "--", ":", "-.")


WIDTH = 9.0
"""Inches."""


def style(index: int) -> tuple[str, str, str]:
    """(colour, marker, dashes) of an arm; no two of 28 arms have the same."""
    lap = index // len(PALETTE)
    return PALETTE[index % len(PALETTE)], MARKERS[(index + lap) % len(MARKERS)], DASHES[lap % 4]


def accuracy_against_cost(arms: Sequence[Arm], tasks: Mapping[Task, str]) -> Figure | None:
    """A row per task: top-1 accuracy against FLOPs and against seconds of pretraining.

    Means over the runs, with a standard deviation each way. Networks from scratch are lines; in a
    task without any others, points at the seconds of their own training. None if there is no cost.
    """
    pretrained = {task for arm in arms if arm.seconds for task in arm.scores}
    scratch = {task for arm in arms if arm.kind == "scratch" for task in arm.scores}
    rows = [task for task in tasks if task in pretrained | scratch]
    if not rows:
        return None
    unit, unit_name = flops_unit(arms)
    figure, axes = _grid(len(rows), "row")
    for task, (left, right) in zip(rows, axes, strict=True):
        for index, arm in enumerate(arms):
            for variant in arm.scores.get(task, {}).values():
                accuracy = spread([100 * run.top1[task.kind] for run in variant])
                if arm.kind == "scratch" and task in pretrained:
                    _level(left, index, arm.name, *accuracy)
                    _level(right, index, arm.name, *accuracy)
                elif arm.kind == "scratch":
                    seconds = [run.seconds for run in variant]
                    _point(left, index, arm.name, spread(seconds), accuracy)
                if arm.flops:
                    flops = spread([value / unit for value in arm.flops])
                    _point(left, index, arm.name, flops, accuracy)
                if arm.seconds:
                    _point(right, index, arm.name, spread(arm.seconds), accuracy)
        left.set_title(tasks[task], fontsize=9, loc="left", parse_math=False)
        left.set_ylabel("top-1 accuracy, %")
        left.set_xlabel(f"pretraining, {unit_name}" if task in pretrained else "training, seconds")
        right.set_xlabel("pretraining, seconds of training")
        right.set_visible(task in pretrained)
        for axis in (left, right):
            axis.set_xlim(0, 1.1 * axis.get_xlim()[1])
    _legend(figure, axes, arms)
    return figure


def flops_unit(arms: Sequence[Arm]) -> tuple[float, str]:
    """The unit in which the dearest pretraining is a number above 1, in FLOPs, and its name."""
    most = max((flops for arm in arms for flops in arm.flops), default=1e18)
    units = ((1e21, "ZFLOPs"), (1e18, "EFLOPs"), (1e15, "PFLOPs"), (1e12, "TFLOPs"))
    return next((unit for unit in units if most >= unit[0]), (1e9, "GFLOPs"))


def _grid(rows: int, sharey: Literal["all", "row", "none"]) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 2.5 * rows), layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False, sharey=sharey)
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _point(
    axis: Any, index: int, name: str, cost: tuple[float, float], accuracy: tuple[float, float]
) -> None:
    color, marker, _ = style(index)
    axis.errorbar(
        cost[0],
        accuracy[0],
        xerr=cost[1],
        yerr=accuracy[1],
        fmt=marker,
        color=color,
        capsize=3,
        label=name,
    )


def _level(axis: Any, index: int, name: str, accuracy: float, deviation: float) -> None:
    color, _, _ = style(index)
    axis.axhline(accuracy, color=color, linestyle="--", linewidth=1, label=name)
    axis.axhspan(accuracy - deviation, accuracy + deviation, color=color, alpha=0.12, linewidth=0)


def _legend(figure: Figure, axes: Any, arms: Sequence[Arm]) -> None:
    """Names below the panels, each once."""
    pairs = [axis.get_legend_handles_labels() for axis in axes.flat]
    entries = {
        label: handle
        for handles, labels in pairs
        for handle, label in zip(handles, labels, strict=True)
    }
    entries = {arm.name: entries[arm.name] for arm in arms if arm.name in entries}
    longest = max(map(len, entries), default=1)
    columns = max(1, min(4, 110 // (longest + 8)))
    figure.set_figheight(figure.get_figheight() + 0.2 * math.ceil(len(entries) / columns))
    legend = figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        frameon=False,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def losses(arms: Sequence[Arm], groups: Mapping[str, Sequence[RunHistory]]) -> Figure:
    """A row per kind of loss: in training and of held-out images, against seconds of training."""
    index_of = {
        run.folder: index
        for index, arm in enumerate(arms)
        for run in [
            *arm.runs,
            *(run for part in arm.scores.values() for r in part.values() for run in r),
        ]
    }
    figure, axes = _grid(len(groups), "none")
    for (title, runs), (left, right) in zip(groups.items(), axes, strict=True):
        for run in runs:
            color, marker, dashes = style(index_of[run.folder])
            look = {"color": color, "linestyle": dashes, "linewidth": 1, "alpha": 0.8}
            look["label"] = arms[index_of[run.folder]].name
            left.plot(
                [window.ended for window in run.windows],
                [window.loss for window in run.windows],
                marker="." if len(run.windows) == 1 else None,
                **look,
            )
            seconds, values = zip(*run.eval_losses, strict=True) if run.eval_losses else ((), ())
            right.plot(seconds, values, marker=marker, markersize=3, **look)
        left.set_title(title, fontsize=9, loc="left", parse_math=False)
        left.set_ylabel("training loss")
        right.set_ylabel("loss of held-out images")
        for axis in (left, right):
            axis.set_xlim(left=0)
    for axis in axes[-1]:
        axis.set_xlabel("seconds of training")
    _legend(figure, axes, arms)
    return figure


def timeline(arms: Sequence[tuple[str, RunHistory]]) -> Figure:
    """A bar per arm: its input sizes over the seconds of training of one of its runs."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    stages = [stage for _, run in arms for stage in run.stages]
    sizes = sorted({stage.size for stage in stages}, key=lambda s: tuple(map(int, s.split("×"))))
    shade = {
        size: colormaps["cividis"](0.9 - 0.8 * i / max(1, len(sizes) - 1))
        for i, size in enumerate(sizes)
    }
    longest = max(run.seconds for _, run in arms)
    figure = Figure(figsize=(WIDTH, 0.5 * len(arms) + 1), layout="constrained")
    axis = figure.subplots()
    for row, (_, run) in enumerate(arms):
        start = 0.0
        for stage in run.stages:
            color = shade[stage.size]
            axis.barh(row, stage.seconds, 0.7, start, color=color, edgecolor="white")
            is_dark = sum(color[:3]) < 1.5
            share = stage.seconds / longest
            texts = [f"{stage.size} px, {stage.images_per_s:.3g} images/s", f"{stage.size} px", ""]
            text = texts[0] if share > 0.25 else texts[1] if share > 0.06 else texts[2]
            axis.text(
                start + stage.seconds / 2,
                row,
                text,
                ha="center",
                va="center",
                fontsize=7,
                color="white" if is_dark else "black",
            )
            start += stage.seconds
    axis.set_yticks(range(len(arms)), [name for name, _ in arms], fontsize=8, parse_math=False)
    axis.invert_yaxis()
    axis.set_xlabel("seconds of training; the colour is the input size")
    axis.spines[["top", "right", "left"]].set_visible(False)
    return figure
