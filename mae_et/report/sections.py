"""The sections of a report: tables, pictures and the notes on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import first_line
from ..runs import RunHistory
from . import charts
from .arms import Arm, Task, describe, differences, spread
from .html import Block, Cell, Table, embed
from .reconstruct import picture

NOT_ASKED = (
    "Not drawn: no images and no checkpoints are opened. --reconstructions draws the runs' own "
    "held-out images, if they are on this machine, and --data.path PATH draws others."
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
    header = ["arm", "runs", f"pretraining, {unit_name}", "pretraining, s", "held-out loss"]
    rows: list[list[str | Cell]] = []
    for index, arm in enumerate(arms):
        unfinished = len(arm.runs) - len(arm.complete)
        count = f"{len(arm.complete)}" + (f" + {unfinished} unfinished" if unfinished else "")
        costs = [
            mean_and_deviation([flops / unit for flops in arm.flops], "{:.4g}"),
            mean_and_deviation(arm.seconds, "{:.4g}"),
        ]
        if arm.is_scratch:
            costs = ["0", "0"]
        loss = mean_and_deviation(arm.eval_losses, "{:.4f}")
        if arm.eval_losses:
            loss += f"\n{target_of(arm.runs[0])}"
        name = Cell(arm.name, color=charts.style(index)[0])
        scores = [accuracies(arm, task) for task in tasks]
        rows.append([name, count, *costs, loss, *scores])
    note = (
        "Mean ± standard deviation over the runs of an arm (their number in brackets): runs that "
        "differ in nothing but seeds, folders and logging. Accuracies are top-1, in %, of the last "
        "evaluation. FLOPs are those of matrix products and convolutions, forward and backward. "
        "Losses of different targets are not comparable."
    )
    return [Table([*header, *tasks.values()], rows), note]


def accuracies(arm: Arm, task: Task) -> str:
    """Format an arm's top-1 accuracies in per cent, with a line per configuration of a task."""
    variants = list(arm.scores.get(task, {}).values())
    labels = [describe(fields) for fields in differences([runs[0].fields for runs in variants])]
    lines = []
    for runs, label in zip(variants, labels, strict=True):
        text = mean_and_deviation([100 * run.top1[task.kind] for run in runs], "{:.2f}")
        lines.append(f"{text}\n{label}" if label else text)
    return "\n".join(lines)


def mean_and_deviation(values: Sequence[float], form: str) -> str:
    """Format values as '1.00 ± 0.10 (3)', a single value as '1.00 (1)', none as a dash.

    Args:
        values: The values.
        form: The format of a number, such as '{:.2f}'.
    """
    if not values:
        return "–"
    mean, deviation = map(form.format, spread(values))
    return f"{mean} ± {deviation} ({len(values)})" if len(values) > 1 else f"{mean} (1)"


def target_of(run: RunHistory) -> str:
    """Return the name of what a pretraining run predicts."""
    return str(run.fields.get("model.target"))


def costs(arms: Sequence[Arm], tasks: dict[Task, str]) -> list[Block]:
    """Plot accuracy against cost."""
    figure = charts.accuracy_against_cost(arms, tasks)
    if figure is None:
        return ["No finished run has an accuracy."]
    what = "top-1 accuracy against FLOPs and seconds of pretraining"
    note = "Bars and bands: one standard deviation. Dashed lines: networks without pretraining."
    return [embed(figure, what), note]


def losses(arms: Sequence[Arm], tasks: dict[Task, str]) -> list[Block]:
    """Plot the losses of the runs that trained, including unfinished pretraining."""
    groups: dict[str, list[RunHistory]] = {}
    for arm in arms:
        for run in arm.runs if arm.is_pretrained else ():
            groups.setdefault(f"target {target_of(run)}", []).append(run)
    for task, title in tasks.items():
        if task.kind == "fine-tuned":
            scored = [runs for arm in arms for runs in arm.scores.get(task, {}).values()]
            groups[title] = [run for runs in scored for run in runs]
    groups = {title: [run for run in runs if run.windows] for title, runs in groups.items()}
    groups = {title: runs for title, runs in groups.items() if runs}
    if not groups:
        return []
    note = (
        "A line per run. Losses of different targets, and training losses at different input "
        "sizes, are not comparable. Between arms of one target, compare those of held-out images."
    )
    return [embed(charts.losses(arms, groups), "loss against seconds of training"), note]


def stages(arms: Sequence[Arm]) -> list[Block]:
    """Show the stages of one run of each arm that trained."""
    shown = [
        (arm.name, next(iter([*arm.complete, *arm.runs])))
        for arm in arms
        if any(run.windows for run in arm.runs)
    ]
    shown = [(name, run) for name, run in shown if run.windows]
    if not shown:
        return []
    header = ["arm", "run", "size, px", "steps", "seconds", "images/s", "waiting for data"]
    rows = [
        [
            name,
            run.folder.name,
            stage.size,
            f"{stage.steps:,}",
            f"{stage.seconds:.4g}",
            f"{stage.images_per_s:.4g}",
            f"{stage.data_wait:.1%}",
        ]
        for name, run in shown
        for stage in run.stages
    ]
    figure = charts.timeline(shown)
    return [embed(figure, "input size over the time of a run"), Table(header, rows)]


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
        caption = f"{arm.name}: {run.folder.name}, target {target_of(run)}"
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
            blocks += [embed(figure, caption, kind="png"), caption]
    blocks.append(
        "Held-out images. Normalised pixels are shown with the statistics of the true patches, "
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
            rows = [[name, *(str(part[name]) for part in fields)] for name in fields[0]]
            tables.append(Table([title, *(name for name, _ in entries)], rows))
    return tables
