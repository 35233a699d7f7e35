"""The sections of a report: tables, pictures and the notes on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean
from typing import NamedTuple

from ..errors import first_line
from ..runs import RunHistory
from . import charts
from .arms import Arm, Task, describe, differences, spread
from .html import Block, Cell, Name, Pictures, Table, Value, embed
from .reconstruct import picture

NOT_ASKED = (
    "Not drawn: no images and no checkpoints are opened. --reconstructions draws the runs' own "
    "held-out images, if they are on this machine, and --data.path PATH draws others."
)


SEEN = (
    ": a held-out image, and at each input size its low frequencies, the patches that the model "
    "sees, and what it makes of the others."
)


def name_tasks(arms: Sequence[Arm]) -> dict[Task, str]:
    """Name each column of accuracies, in order of kind and number of labels."""
    tasks = sorted(
        {task for arm in arms for task in arm.scores},
        key=lambda task: (task.kind, task.train_images or 0, str(task)),
    )
    sources = {task.data for task in tasks} - {None}
    names = {}
    for task in tasks:
        name = task.kind if task.kind == "fine-tuned" else f"{task.kind} probe"
        if task.is_while_pretraining:
            name += " while pretraining"
        elif task.train_images is not None:
            name += f", {task.train_images:,} labels"
        source = "/".join((task.data or "").split("/")[-2:]) if len(sources) > 1 else ""
        names[task] = f"{name}, {source}" if source else name
    return names


def arm_table(arms: Sequence[Arm], tasks: dict[Task, str]) -> list[Block]:
    """List the arms with their costs and accuracies."""
    unit, unit_name = charts.flops_unit(arms)
    header = ["arm", "target", "runs", f"pretraining, {unit_name}", "pretraining, s"]
    flops = [[value / unit for value in arm.flops] for arm in arms]
    columns = [flops, [arm.seconds for arm in arms], [arm.eval_losses for arm in arms]]
    digits = [decimals(values) for values in columns]
    rows: list[list[Cell]] = []
    for index, arm in enumerate(arms):
        unfinished = len(arm.runs) - len(arm.complete)
        count = Value(f"{len(arm.complete)}", note=f"+ {unfinished} unfinished" * (unfinished > 0))
        measured: list[Cell] = [
            [value(column[index], number)] for column, number in zip(columns, digits, strict=True)
        ]
        if arm.is_scratch:
            measured[:2] = [[Value("0")], [Value("0")]]
        target = target_of(arm.runs[0]) if arm.is_pretrained else "–"
        scores = [accuracies(arm, task) for task in tasks]
        rows.append([Name(arm.name, charts.mark(index)), target, [count], *measured, *scores])
    note = (
        "Mean ± standard deviation over the runs of an arm (their number in brackets): runs that "
        "differ in nothing but seeds, folders and logging. Accuracies are top-1, in %, of the last "
        "evaluation. FLOPs are those of matrix products and convolutions, forward and backward. "
        "Losses of different targets are not comparable."
    )
    table = Table([*header, "held-out loss", *tasks.values()], rows)
    return [*highest(arms, tasks), table, note]


def highest(arms: Sequence[Arm], tasks: dict[Task, str]) -> list[Block]:
    """Say which arm has the highest mean accuracy in each task that has several."""
    lines: list[Block] = []
    for task, title in tasks.items():
        scored = [(arm, runs) for arm in arms for runs in arm.scores.get(task, {}).values()]
        if len({arm.name for arm, _ in scored}) > 1:
            means = [mean(run.top1[task.kind] for run in runs) for _, runs in scored]
            arm, runs = scored[means.index(max(means))]
            runs_of = f"{len(runs)} runs" if len(runs) > 1 else "one run"
            lines.append(
                f"{title[0].upper()}{title[1:]}: {arm.name} has the highest mean, "
                f"{100 * max(means):.2f} % ({runs_of})."
            )
    return lines


def accuracies(arm: Arm, task: Task) -> list[Value]:
    """Return an arm's top-1 accuracies in per cent, one for each configuration of a task."""
    variants = list(arm.scores.get(task, {}).values())
    labels = [describe(fields) for fields in differences([runs[0].fields for runs in variants])]
    values = [
        value([100 * run.top1[task.kind] for run in runs], 2)._replace(note=label)
        for runs, label in zip(variants, labels, strict=True)
    ]
    return values or [Value("–")]


def decimals(column: Sequence[Sequence[float]]) -> int:
    """Return the decimals with which the largest number of a column has four digits or more."""
    most = max((abs(number) for values in column for number in values), default=0)
    return 0 if most >= 1000 else 3 - math.floor(math.log10(most)) if most >= 1e-4 else 7


def value(values: Sequence[float], digits: int) -> Value:
    """Return the mean and deviation of values: '1.00 ± 0.10 (3)', '1.00 (1)', or a dash for none.

    Args:
        values: The values.
        digits: The decimals.
    """
    if not values:
        return Value("–")
    average, deviation = (f"{number:,.{digits}f}" for number in spread(values))
    count = f" ({len(values)})"
    return Value(average, f" ± {deviation}{count}" if len(values) > 1 else count)


def target_of(run: RunHistory) -> str:
    """Return the name of what a pretraining run predicts."""
    return str(run.fields.get("model.target"))


def costs(arms: Sequence[Arm], tasks: dict[Task, str]) -> list[Block]:
    """Plot accuracy against cost."""
    note = (
        "Higher is more accurate, further left is cheaper. Bars and bands: one standard deviation. "
        "Dashed lines: networks without pretraining."
    )
    blocks: list[Block] = []
    for task, title in tasks.items():
        figures = charts.accuracy_against_cost(arms, task)
        if figures:
            pictures = [
                embed(figure, f"{title}: top-1 accuracy against {figure.axes[0].get_xlabel()}")
                for figure in figures
            ]
            blocks.append(Pictures(pictures, note, title, charts.names(arms, figures)))
    return blocks or ["No finished run has an accuracy."]


def losses(arms: Sequence[Arm], tasks: dict[Task, str]) -> list[Block]:
    """Plot the losses of the runs that trained, including unfinished pretraining."""
    groups: dict[str, list[RunHistory]] = {}
    for arm in arms:
        for run in arm.runs if arm.is_pretrained else ():
            groups.setdefault(f"pretraining, target {target_of(run)}", []).append(run)
    for task, title in tasks.items():
        if task.kind == "fine-tuned":
            scored = [runs for arm in arms for runs in arm.scores.get(task, {}).values()]
            groups[title] = [run for runs in scored for run in runs]
    note = (
        "A line per run. Losses of different targets, and training losses at different input "
        "sizes, are not comparable. Between arms of one target, compare those of held-out images."
    )
    tuned = "A line per run. A loss of held-out images that rises again is overfitting."
    blocks: list[Block] = []
    for title, runs in groups.items():
        trained = [run for run in runs if run.windows]
        if trained:
            figures = charts.losses(arms, trained)
            pictures = [
                embed(figure, f"{title}: {figure.axes[0].get_ylabel()} against seconds")
                for figure in figures
            ]
            caption = tuned if trained[0].kind == "fine-tuned" else note
            blocks.append(Pictures(pictures, caption, title, charts.names(arms, figures)))
    return blocks


def stages(arms: Sequence[Arm]) -> list[Block]:
    """Show the stages of one run of each arm that trained."""
    shown: dict[Name, RunHistory] = {}
    header = ["arm", "size, px", "steps", "seconds", "images/s", "waiting for data"]
    rows: list[list[Cell]] = []
    for index, arm in enumerate(arms):
        run = next(iter([*arm.complete, *arm.runs]), None)
        if run is None or not run.windows:
            continue
        folder = run.folder.name.encode(errors="replace").decode()
        text = folder if arm.name in folder else f"{arm.name}: {folder}"
        shown[Name(text, charts.mark(index))] = run
        name = Name(arm.name, charts.mark(index), len(run.stages))
        for number, stage in enumerate(run.stages):
            texts = [stage.size, f"{stage.steps:,}", f"{stage.seconds:,.1f}"]
            texts += [f"{stage.images_per_s:,.0f}", f"{stage.data_wait:.1%}"]
            rows.append([*([] if number else [name]), *([Value(text)] for text in texts)])
    if not shown:
        return []
    caption = (
        "One run of each arm: its seconds of training, without evaluations and checkpoints. "
        "The numbers and the colour are the input size in pixels: the larger, the darker."
    )
    return [charts.timeline(shown, caption), Table(header, rows)]


class Drawing(NamedTuple):
    """Whether reconstructions are drawn, and of which images.

    Nobody's images are opened, and no checkpoint, unless the user has asked for it: the
    configuration of a run may be a stranger's.
    """

    wanted: bool | None = None
    """None to show how to ask for them instead."""
    path: str | None = None
    """The images, as in data.path; None for those that the runs name."""
    split: str | None = None


def reconstructions(arms: Sequence[Arm], drawing: Drawing) -> list[Block]:
    """Show what one run of each pretraining arm reconstructs, or say why it can't be drawn."""
    pretrained = [arm for arm in arms if arm.is_pretrained]
    if not pretrained or drawing.wanted is False:
        return []
    if drawing.wanted is None:
        return [NOT_ASKED]
    blocks: list[Block] = []
    for arm in pretrained:
        run = next(iter([*arm.complete, *arm.runs]))
        folder = run.folder.name.encode(errors="replace").decode()
        caption = f"{arm.name}, run {folder}, target {target_of(run)}"
        try:
            figure = picture(
                run.folder,
                path=drawing.path,
                split=drawing.split,
                num_images=4,
                with_losses=False,
            )
        except Exception as error:  # whatever is wrong with one run, the page shows the others
            blocks.append(f"{caption}: not drawn, {first_line(error)}")
        else:
            blocks.append(Pictures([embed(figure, caption, "png")], caption + SEEN, is_wide=True))
    blocks.append(
        "Normalised pixels are shown with the statistics of the true patches, "
        "which the model never sees: a visual aid, no measure of quality."
    )
    return blocks


def configurations(arms: Sequence[Arm], tasks: dict[Task, str]) -> list[Block]:
    """List the fields in which pretraining arms differ, and those in which a task's runs do."""
    compared = {"pretraining": [(arm.name, arm.runs[0]) for arm in arms if arm.is_pretrained]}
    for task, title in tasks.items():
        scored = [(arm.name, arm.scores.get(task, {}).values()) for arm in arms]
        compared[title] = [(name, runs[0]) for name, variants in scored for runs in variants]
    tables: list[Block] = []
    for title, entries in compared.items():
        fields = differences([run.fields for _, run in entries])
        if fields and fields[0]:
            arm_names = [name for name, _ in entries]
            columns = [[str(part[field]) for part in fields] for field in fields[0]]
            rows: list[list[Cell]]
            if len(arm_names) > len(columns):  # a page is longer than it is wide
                cells = [_aligned(column) for column in columns]
                rows = [[name, *row] for name, *row in zip(arm_names, *cells, strict=True)]
                tables.append(Table([title, *fields[0]], rows))
            else:
                rows = [[field, *row] for field, row in zip(fields[0], columns, strict=True)]
                tables.append(Table([title, *arm_names], rows))
    return tables


def _aligned(column: Sequence[str]) -> Sequence[Cell]:
    """Return the cells of a column, which are numbers if all of its texts are."""
    are_numbers = all(text.replace(".", "").isdecimal() for text in column)
    return [[Value(text)] for text in column] if are_numbers else column
