"""``python -m mae_et report``: what any set of runs cost and scored, on one page of HTML.

The page needs no other file and no network. Costs are those of pretraining; seconds are of training
alone, as the runs measured them, without evaluations and checkpoints.
"""

from __future__ import annotations

import platform
import shlex
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import torch

from . import charts, page
from .arms import Arm, Task, describe, differences, group_into_arms, pretraining_flops, spread
from .checks import check, first_line
from .cli import LineParser
from .page import Cell, figure, paragraph, table
from .reconstruct import picture
from .runs import Run, find_runs

VERSIONS = ("torch", "timm", "accelerate", "datasets")


def main(arguments: Sequence[str]) -> None:
    """The command ``mae_et report``.

    Raises:
        ValueError: a folder holds no runs or does not exist, or matplotlib is missing.
    """
    parser = LineParser(prog="mae_et report", description=__doc__)
    parser.add_argument("runs", type=str, nargs="+", help="run folders, or folders that hold them")
    parser.add_argument("--out", type=str, default="report.html", help="the page")
    parser.add_argument("--title", type=str, default="Runs", help="its heading")
    parser.add_argument(
        "--no_reconstructions", action="store_true", help="open no images and no checkpoints"
    )
    options = parser.parse_args(list(arguments))
    out = Path(options.out)
    ok = out.suffix == ".html" and out.parent.is_dir() and not out.is_dir()
    check(ok, "--out", options.out, "an .html file in a folder that exists")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ValueError("report needs matplotlib: pip install 'mae-et[report]'") from error
    runs, skipped = find_runs(options.runs)
    command = shlex.join(["python", "-m", "mae_et", "report", *arguments])
    text = build(runs, skipped, options.title, command, not options.no_reconstructions)
    out.write_text(text, encoding="utf-8")
    print(f"report: {options.out}")


def build(
    runs: Sequence[Run],
    skipped: Sequence[tuple[Path, str]],
    title: str,
    command: str,
    with_reconstructions: bool,
) -> str:
    """The page of runs; `skipped` are folders and why they are none."""
    arms = group_into_arms(runs)
    tasks = name_tasks(arms)
    sections = [
        ("Arms", arms_section(arms, tasks)),
        ("Accuracy against cost", cost_section(arms, tasks)),
        ("Loss against time", loss_section(arms, tasks)),
        ("Stages", stage_section(arms)),
        ("Reconstructions", reconstructions(arms) if with_reconstructions else ""),
        ("Configurations", configurations(arms, tasks)),
        ("Facts", facts(runs, skipped, command)),
    ]
    return page.document(title, [(heading, body) for heading, body in sections if body])


def name_tasks(arms: Sequence[Arm]) -> dict[Task, str]:
    """What each column of accuracies is called, in order of kind and number of labels."""
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


def arms_section(arms: Sequence[Arm], tasks: dict[Task, str]) -> str:
    """The table of arms."""
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
        if arm.kind == "scratch":
            costs = ["0", "0"]
        loss = mean_and_deviation(arm.eval_losses, "{:.4f}")
        if arm.eval_losses:
            loss += f"\n{target_of(arm.runs[0])}"
        name = Cell(arm.name, color=charts.style(index)[0])
        scores = [accuracies(arm, task) for task in tasks]
        rows.append([name, count, *costs, loss, *scores])
    note = (
        "Mean ± standard deviation over the runs of an arm (their number in brackets): runs that "
        "differ in nothing but seeds and folders. Accuracies are top-1, in %, of the last "
        "evaluation. FLOPs are those of matrix products and convolutions, forward and backward. "
        "Losses of different targets are not comparable."
    )
    return table([*header, *tasks.values()], rows) + paragraph(note)


def accuracies(arm: Arm, task: Task) -> str:
    """Top-1 accuracies of an arm, in per cent; a line per configuration, if there are several."""
    variants = list(arm.scores.get(task, {}).values())
    labels = [describe(fields) for fields in differences([runs[0].fields for runs in variants])]
    lines = []
    for runs, label in zip(variants, labels, strict=True):
        text = mean_and_deviation([100 * run.top1[task.kind] for run in runs], "{:.2f}")
        lines.append(f"{text}\n{label}" if label else text)
    return "\n".join(lines)


def mean_and_deviation(values: Sequence[float], form: str) -> str:
    """'1.00 ± 0.10 (3)', of a single value '1.00 (1)', of none a dash."""
    if not values:
        return "–"
    mean, deviation = map(form.format, spread(values))
    return f"{mean} ± {deviation} ({len(values)})" if len(values) > 1 else f"{mean} (1)"


def target_of(run: Run) -> str:
    """What a pretraining run predicts."""
    return str(run.fields.get("model.target"))


def cost_section(arms: Sequence[Arm], tasks: dict[Task, str]) -> str:
    """Accuracy against cost."""
    drawn = charts.accuracy_against_cost(arms, tasks)
    if drawn is None:
        return paragraph("No finished pretraining run has an accuracy.")
    note = "Bars and bands: one standard deviation. Dashed lines: networks without pretraining."
    return figure(drawn, "top-1 accuracy against FLOPs and seconds of pretraining") + paragraph(
        note
    )


def loss_section(arms: Sequence[Arm], tasks: dict[Task, str]) -> str:
    """The losses of the runs that trained, also of unfinished pretraining."""
    groups: dict[str, list[Run]] = {}
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
        return ""
    note = (
        "A line per run. Losses of different targets, and training losses at different input "
        "sizes, are not comparable. Between arms of one target, compare those of held-out images."
    )
    return figure(charts.losses(arms, groups), "loss against seconds of training") + paragraph(note)


def stage_section(arms: Sequence[Arm]) -> str:
    """The stages of a run of each arm that trained."""
    shown = [
        (arm.name, next(iter([*arm.complete, *arm.runs])))
        for arm in arms
        if any(run.windows for run in arm.runs)
    ]
    shown = [(name, run) for name, run in shown if run.windows]
    if not shown:
        return ""
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
    return figure(charts.timeline(shown), "input size over the time of a run") + table(header, rows)


def reconstructions(arms: Sequence[Arm]) -> str:
    """What a run of each pretraining arm reconstructs, or why it can't be drawn."""
    parts = []
    for arm in arms:
        if not arm.is_pretrained:
            continue
        run = next(iter([*arm.complete, *arm.runs]))
        caption = f"{arm.name}: {run.folder.name}, target {target_of(run)}"
        try:
            drawn = picture(run.folder, num_images=4, with_losses=False)
        except Exception as error:  # whatever is wrong with a run, the others have their page
            parts.append(paragraph(f"{caption}: not drawn, {first_line(error)}"))
        else:
            parts.append(figure(drawn, caption, kind="png") + paragraph(caption))
    if parts:
        parts.append(
            paragraph(
                "Held-out images. Normalised pixels are shown with the statistics of the true "
                "patches, which the model never sees: a visual aid, no measure of quality."
            )
        )
    return "".join(parts)


def configurations(arms: Sequence[Arm], tasks: dict[Task, str]) -> str:
    """The fields in which pretraining arms differ, and those in which the runs of a task do."""
    compared = {"pretraining": [(arm.name, arm.runs[0]) for arm in arms if arm.is_pretrained]}
    for task, title in tasks.items():
        scored = [(arm.name, arm.scores.get(task, {}).values()) for arm in arms]
        compared[title] = [(name, runs[0]) for name, variants in scored for runs in variants]
    parts = []
    for title, entries in compared.items():
        fields = differences([run.fields for _, run in entries])
        if fields and fields[0]:
            rows = [[name, *(str(part[name]) for part in fields)] for name in fields[0]]
            parts.append(table([title, *(name for name, _ in entries)], rows))
    return "".join(parts)


def facts(runs: Sequence[Run], skipped: Sequence[tuple[Path, str]], command: str) -> str:
    """When and with what the page was made, and what is not on it."""
    times = [line["time"] for run in runs for line in run.metrics if "time" in line]
    days = (
        [f"{datetime.fromtimestamp(end):%Y-%m-%d}" for end in (min(times), max(times))]
        if times
        else []
    )
    rows = [
        ["made", f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}"],
        ["command", command],
        ["versions, of this page", ", ".join(f"{name} {version(name)}" for name in VERSIONS)],
        ["machine, of this page", f"{platform.machine()}, {torch.get_num_threads()} CPU threads"],
        ["runs", f"{len(runs)}, of {' to '.join(dict.fromkeys(days)) or 'unknown date'}"],
    ]
    rows += [
        ["unfinished", f"{run.folder}: {sum(w.steps for w in run.windows)} steps so far"]
        for run in runs
        if not run.is_complete
    ]
    rows += [
        ["FLOPs unknown", f"{run.folder}: its model can't be built as its configuration says"]
        for run in runs
        if run.kind == "pretraining" and pretraining_flops(run) is None
    ]
    rows += [["skipped", f"{folder}: {reason}"] for folder, reason in skipped]
    return table(["", ""], rows)
