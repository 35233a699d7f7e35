"""Draw the figures of a report: accuracy against cost, losses and stages.

An arm has the same colour in all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ..runs import RunHistory
from .arms import Arm, Task, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure


PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, which colour-blind readers can distinguish, without the pale yellow."""


MARKERS, DASHES = "osD^vPX", ("-", "--", ":", "-.")


WIDTH = 9.0
"""The width of a figure in inches."""


def style(index: int) -> tuple[str, str, str]:
    """Return the colour, marker and dashes of an arm; no two of 28 arms share all three."""
    lap = index // len(PALETTE)
    return PALETTE[index % len(PALETTE)], MARKERS[(index + lap) % len(MARKERS)], DASHES[lap % 4]


def accuracy_against_cost(arms: Sequence[Arm], tasks: Mapping[Task, str]) -> Figure | None:
    """Draw a row per task: top-1 accuracy against FLOPs and against seconds of pretraining.

    Points are means over the runs, with bars of one standard deviation each way. Networks from
    scratch are horizontal lines, or, in a task without any pretrained ones, points at the seconds
    of their own training.

    Returns:
        The figure; None if no task has a cost to plot against.
    """
    pretrained = {task for arm in arms if arm.seconds for task in arm.scores}
    scratch = {task for arm in arms if arm.is_scratch for task in arm.scores}
    rows = [task for task in tasks if task in pretrained | scratch]
    if not rows:
        return None
    unit, unit_name = flops_unit(arms)
    figure, axes = _grid(len(rows), "row")
    for task, (left, right) in zip(rows, axes, strict=True):
        for index, arm in enumerate(arms):
            _plot_accuracies((left, right), index, arm, task, unit, task in pretrained)
        left.set_title(tasks[task], fontsize=9, loc="left", parse_math=False)
        left.set_ylabel("top-1 accuracy, %")
        left.set_xlabel(f"pretraining, {unit_name}" if task in pretrained else "training, seconds")
        right.set_xlabel("pretraining, seconds of training")
        right.set_visible(task in pretrained)
        for axis in (left, right):
            axis.set_xlim(0, 1.1 * axis.get_xlim()[1])
    _legend(figure, axes, arms)
    return figure


def _plot_accuracies(
    axes: tuple[Any, Any], index: int, arm: Arm, task: Task, unit: float, with_pretrained: bool
) -> None:
    """Plot an arm's accuracies in a task: against FLOPs (left) and against seconds (right)."""
    left, right = axes
    for variant in arm.scores.get(task, {}).values():
        accuracy = spread([100 * run.top1[task.kind] for run in variant])
        if arm.is_scratch and with_pretrained:
            _level(left, index, arm.name, *accuracy)
            _level(right, index, arm.name, *accuracy)
        elif arm.is_scratch:
            seconds = [run.seconds for run in variant]
            _point(left, index, arm.name, spread(seconds), accuracy)
        if arm.flops:
            flops = spread([value / unit for value in arm.flops])
            _point(left, index, arm.name, flops, accuracy)
        if arm.seconds:
            _point(right, index, arm.name, spread(arm.seconds), accuracy)


def flops_unit(arms: Sequence[Arm]) -> tuple[float, str]:
    """Choose the unit of FLOPs, and its name, in which the costliest pretraining exceeds 1."""
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
    """List the arms' names below the panels, each once."""
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
        text.set_parse_math(False)  # names may have dollars in them


def losses(arms: Sequence[Arm], groups: Mapping[str, Sequence[RunHistory]]) -> Figure:
    """Draw a row per group: training and held-out losses, against seconds of training.

    Args:
        arms: All arms, whose order determines their colours.
        groups: Runs whose losses are comparable, by title.
    """
    index_of = {run.folder: index for index, arm in enumerate(arms) for run in arm.all_runs}
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
    """Draw a bar per arm: the input sizes over the seconds of training of one of its runs."""
    from matplotlib.figure import Figure

    shades = _shades({stage.size for _, run in arms for stage in run.stages})
    longest = max(run.seconds for _, run in arms)
    figure = Figure(figsize=(WIDTH, 0.5 * len(arms) + 1), layout="constrained")
    axis = figure.subplots()
    for row, (_, run) in enumerate(arms):
        start = 0.0
        for stage in run.stages:
            color = shades[stage.size]
            axis.barh(row, stage.seconds, 0.7, start, color=color, edgecolor="white")
            axis.text(
                start + stage.seconds / 2,
                row,
                _bar_label(stage.size, stage.images_per_s, stage.seconds / longest),
                ha="center",
                va="center",
                fontsize=7,
                color="white" if sum(color[:3]) < 1.5 else "black",
            )
            start += stage.seconds
    axis.set_yticks(range(len(arms)), [name for name, _ in arms], fontsize=8, parse_math=False)
    axis.invert_yaxis()
    axis.set_xlabel("seconds of training; the colour is the input size")
    axis.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _shades(sizes: Iterable[str]) -> dict[str, tuple[float, ...]]:
    """Return a colour for each input size, darker for larger sizes."""
    from matplotlib import colormaps

    ordered = sorted(sizes, key=lambda size: tuple(map(int, size.split("×"))))
    last = max(1, len(ordered) - 1)
    return {size: colormaps["cividis"](0.9 - 0.8 * i / last) for i, size in enumerate(ordered)}


def _bar_label(size: str, images_per_s: float, share: float) -> str:
    """Return as much about a stage as fits into a bar that takes a share of the width."""
    if share > 0.25:
        return f"{size} px, {images_per_s:.3g} images/s"
    return f"{size} px" if share > 0.06 else ""
