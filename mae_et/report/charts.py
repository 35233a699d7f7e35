"""Draw the figures of a report: accuracy against cost, losses and stages.

An arm has the same colour, marker and dashes in all of them, and one list of names below them. Each
figure is a panel that can be read on a telephone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..runs import RunHistory
from .arms import Arm, Task, spread
from .html import Bars, Mark, Name, Part
from .palette import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


DASH_LENGTHS = {"-": "", "--": "0.55 0.2", ":": "0.16 0.2", "-.": "0.45 0.15 0.16 0.15"}
"""The dashes of the line of a mark, which is 3 long and 0.16 wide."""


SIZE = (4.8, 2.9)
"""Width and height of a panel in inches."""


NARROW = 330
"""The width in pixels of the longest bar on a telephone, where its labels have to fit."""


CHARACTER = 7.5
"""The width in pixels of a character of a bar's label."""


def mark(index: int) -> Mark:
    """Return what the page shows beside the name of an arm."""
    from matplotlib.markers import MarkerStyle

    color, marker, dashes = style(index)
    look = MarkerStyle(marker)
    commands = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
    outline = look.get_path().transformed(look.get_transform()).iter_segments()
    parts = [
        commands[int(code)] + " ".join(f"{value:.2f}" for value in vertices if code != 79)
        for vertices, code in outline
    ]
    return Mark(color, "".join(parts), DASH_LENGTHS[dashes])


def names(arms: Sequence[Arm], figures: Sequence[Figure]) -> list[Name]:
    """Return the names and marks of the arms that figures show, in order."""
    axes: list[Any] = [axis for figure in figures for axis in figure.axes]
    shown = {artist.get_label() for axis in axes for artist in [*axis.lines, *axis.containers]}
    return [Name(arm.name, mark(index)) for index, arm in enumerate(arms) if arm.name in shown]


def accuracy_against_cost(arms: Sequence[Arm], task: Task) -> list[Figure]:
    """Draw a task's top-1 accuracy against FLOPs and against seconds of pretraining.

    Points are means over the runs, with bars of one standard deviation each way. Networks from
    scratch are horizontal lines, or, in a task without any pretrained ones, points at the seconds
    of their own training.

    Returns:
        Two panels, or the one of networks from scratch; none if there is no cost to plot against,
        or nothing to compare.
    """
    scored = [(index, arm) for index, arm in enumerate(arms) if task in arm.scores]
    with_pretrained = any(arm.seconds for _, arm in scored)
    has_costs = with_pretrained or any(arm.is_scratch for _, arm in scored)
    if len(scored) < 2 or not has_costs:
        return []
    unit, unit_name = flops_unit(arms)
    costs = ["training, seconds"]
    if with_pretrained:
        costs = [f"pretraining, {unit_name}", "pretraining, seconds of training"]
    figures = [_panel(cost, "top-1 accuracy, %") for cost in costs]
    axes = [figure.axes[0] for figure in figures]
    for index, arm in scored:
        _plot_accuracies((axes[0], axes[-1]), index, arm, task, unit, with_pretrained)
    limits = [limit for axis in axes for limit in axis.get_ylim()]
    for axis in axes:
        axis.set_xlim(0, 1.1 * axis.get_xlim()[1])
        axis.set_ylim(min(limits), max(limits))
    return figures


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


def _panel(x: str, y: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axis = figure.subplots()
    axis.grid(color="#808080", alpha=0.25)  # on a light and on a dark page
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    return figure


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


def losses(arms: Sequence[Arm], runs: Sequence[RunHistory]) -> list[Figure]:
    """Draw training losses, and held-out losses if there are any, against seconds of training.

    Args:
        arms: All arms, whose order determines their colours.
        runs: Runs whose losses are comparable.
    """
    index_of = {run.folder: index for index, arm in enumerate(arms) for run in arm.all_runs}
    figures = [_panel("seconds of training", "training loss")]
    if any(run.eval_losses for run in runs):
        figures.append(_panel("seconds of training", "loss of held-out images"))
    axes = [figure.axes[0] for figure in figures]
    for run in runs:
        color, marker, dashes = style(index_of[run.folder])
        look: dict[str, Any] = {"color": color, "linestyle": dashes, "linewidth": 1.2}
        look |= {"alpha": 0.85, "label": arms[index_of[run.folder]].name}
        axes[0].plot(
            [window.ended for window in run.windows],
            [window.loss for window in run.windows],
            marker="." if len(run.windows) == 1 else None,
            **look,
        )
        if run.eval_losses:
            seconds, values = zip(*run.eval_losses, strict=True)
            axes[1].plot(seconds, values, marker=marker, markersize=3.5, **look)
    for axis in axes:
        axis.set_xlim(left=0)
    return figures


def timeline(runs: Mapping[Name, RunHistory], caption: str) -> Bars:
    """Draw a bar per run: its input sizes over the seconds of training, on one scale."""
    shades = _shades({stage.size for run in runs.values() for stage in run.stages})
    longest = max(run.seconds for run in runs.values())
    rows = []
    for name, run in runs.items():
        parts = []
        for stage in run.stages:
            shade, share = shades[stage.size], stage.seconds / longest
            is_dark = sum(shade[:3]) < 1.5
            color = "#" + "".join(f"{round(255 * value):02x}" for value in shade[:3])
            fits = share * NARROW > CHARACTER * len(stage.size) + 4
            what = f"{stage.size} px: {stage.seconds:.4g} s, {stage.images_per_s:.4g} images/s"
            parts.append(Part(stage.size if fits else "", share, color, is_dark, what))
        rows.append((name, parts, f"{run.seconds:,.4g} s"))
    return Bars(rows, caption)


def _shades(sizes: Iterable[str]) -> dict[str, tuple[float, ...]]:
    """Return a colour for each input size, darker for larger sizes."""
    from matplotlib import colormaps

    ordered = sorted(sizes, key=lambda size: tuple(map(int, size.split("×"))))
    last = max(1, len(ordered) - 1)
    return {size: colormaps["cividis"](0.9 - 0.8 * i / last) for i, size in enumerate(ordered)}
