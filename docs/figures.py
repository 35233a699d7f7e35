"""The figures of the site, drawn by the code that they explain, for light pages and dark ones.

Colours are Okabe and Ito's, as in the report's page: colour-blind readers can tell them apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from skimage import data, transform

from mae_et import Curriculum, low_frequency_crop
from mae_et.curriculum import area

SIZES = (96, 160, 192, 224)
"""Input sizes of the papers' stages in pixels."""


RESULTS = Path(__file__).parents[1] / "scripts" / "results"

STUDY = RESULTS / "study.json"

LONGER = {1: STUDY, 4: RESULTS / "study_x4.json", 16: RESULTS / "study_x16.json"}
"""The study for more passes: how many times as many -> its results."""

FRONTIER = RESULTS / "frontier.json"

SCORES = {"fine-tuned": "fine-tuned", "linear": "linear probe", "knn": "neighbours"}
"""Scores of the studies, with their names."""

ARMS = {
    "constant": "constant size",
    "control": "constant, fewer epochs",
    "et": "EfficientTrain",
    "etpp": "EfficientTrain++",
    "etpp_hog": "EfficientTrain++, HOG",
    "low": "20 pixels throughout",
    "fast": "our fast recipe",
}
"""Arms of the study, in the order of the figure and of the page's table, with their names."""

ONE_SIZE = ("constant", "control", "low")
"""Those of them without a curriculum."""


@dataclass(frozen=True)
class Look:
    """The colours of a figure: of its text, and of sizes or curricula, in order."""

    text: str
    colours: tuple[str, str, str, str]


LOOKS = {
    "light": Look(text="#333333", colours=("#D55E00", "#009E73", "#0072B2", "#CC79A7")),
    "dark": Look(text="#DDDDDD", colours=("#E69F00", "#2BC49A", "#56B4E9", "#CC79A7")),
}


def draw_all(folder: Path) -> None:
    """Draw every figure once for light and once for dark pages, if it is not there yet.

    Figures of results that are not there yet are left out.

    Args:
        folder: Where they are written.
    """
    folder.mkdir(exist_ok=True)
    figures: dict[str, tuple[Callable[[Look], Figure], list[Path]]] = {
        "crops.png": (crops, []),
        "schedule.svg": (schedule, []),
        "study.svg": (study, [STUDY]),
        "longer.svg": (longer, [*LONGER.values()]),
        "frontier.svg": (frontier, [FRONTIER]),
    }
    for name, (draw, results) in figures.items():
        if not all(file.exists() for file in results):
            continue
        changed = max(file.stat().st_mtime for file in (Path(__file__), *results))
        for look_name, look in LOOKS.items():
            stem, _, ending = name.partition(".")
            file = folder / f"{stem}-{look_name}.{ending}"
            if file.exists() and file.stat().st_mtime > changed:
                continue
            with mpl.rc_context(_style(look)):
                figure = draw(look)
                figure.savefig(file, transparent=True, dpi=200, bbox_inches="tight")


def crops(look: Look) -> Figure:
    """Draw the spectrum of a photo with what each size keeps, and the photo at these sizes."""
    photo = transform.resize(data.astronaut(), (SIZES[-1],) * 2, anti_aliasing=True)
    figure = Figure(figsize=(9, 3.1))
    spectrum, images = figure.subplots(1, 2, width_ratios=(1, 3.2))  # of equal height
    _draw_spectrum(spectrum, photo, look)
    pixels = torch.as_tensor(photo, dtype=torch.float32).movedim(-1, 0)
    left = 0
    for size, colour in zip(SIZES, look.colours, strict=True):
        small = low_frequency_crop(pixels, size).movedim(0, -1).clamp(0, 1).numpy()
        images.imshow(small, extent=(left, left + size, 0, size))
        frame = Rectangle((left, 0), size, size, fill=False, edgecolor=colour, linewidth=2.5)
        images.add_patch(frame)
        label = f"{size} pixels\n{(size // 16) ** 2} tokens"
        images.text(left + size / 2, -10, label, ha="center", va="top")
        left += size + 16
    images.set(xlim=(-2, left - 14), ylim=(-2, SIZES[-1] + 2), title="The images that result")
    images.axis("off")
    return figure


def _draw_spectrum(axes: Axes, photo: np.ndarray, look: Look) -> None:
    """Draw the logarithm of a spectrum's magnitude, and the square that each size keeps."""
    spectrum = np.fft.fftshift(np.fft.fft2(photo.mean(-1)))
    half = SIZES[-1] / 2
    axes.imshow(np.log1p(np.abs(spectrum)), cmap="gray", extent=(-half, half, -half, half))
    for size, colour in zip(SIZES, look.colours, strict=True):
        corner = (-size / 2, -size / 2)
        axes.add_patch(Rectangle(corner, size, size, fill=False, edgecolor=colour, linewidth=2))
    axes.set(title="What each size keeps")
    axes.axis("off")
    axes.text(0, -half - 10, "spectrum: low frequencies\nare in the middle", ha="center", va="top")


def schedule(look: Look) -> Figure:
    """Draw input sizes over the steps of a run, and over the pixels that it is trained on."""
    steps, full = 1000, SIZES[-1]
    curricula = {
        "EfficientTrain": Curriculum.efficienttrain(full_size=full, patch_size=16, num_steps=steps),
        "EfficientTrain++": Curriculum.efficienttrain_plus(
            full_size=full, patch_size=16, budget=steps
        ),
        "constant size": Curriculum.constant(full_size=full, num_steps=steps),
    }
    figure = Figure(figsize=(9, 3.2))
    panels = figure.subplots(1, 2, sharey=True)
    for number, (name, curriculum) in enumerate(curricula.items()):
        sizes = [stage.size for stage in curriculum.stages]
        lengths = np.array([stage.num_steps for stage in curriculum.stages])
        costs = lengths * [area(size) / area(full) for size in sizes]
        line = {"color": look.colours[number], "linestyle": ("-", "--", ":")[number]}
        for axes, shares in zip(panels, (lengths / steps, costs / steps), strict=True):
            edges = np.concatenate([[0], np.cumsum(shares)])
            lift = (number - 1) * 1.8  # so that no line hides another one
            axes.stairs(np.array(sizes) + lift, edges, baseline=None, linewidth=2.5, **line)
            axes.plot(edges[-1], full + lift, "o", color=line["color"], markersize=6)
        panels[0].plot([], [], label=name, linewidth=2.5, **line)
    titles = ("Most steps are small…", "…and the small ones cost little")
    labels = ("optimizer steps (constant size: 1)", "pixels trained on (constant size: 1)")
    for axes, title, label in zip(panels, titles, labels, strict=True):
        axes.set(title=title, xlabel=label, xlim=(0, None))
    panels[0].set(ylabel="input size in pixels", yticks=SIZES, ylim=(85, 234))
    panels[0].legend(loc="lower right", frameon=False)
    figure.subplots_adjust(wspace=0.08)
    return figure


def study(look: Look) -> Figure:
    """Draw the scores of every run of the study of accuracy, by curriculum and cost."""
    results = json.loads(STUDY.read_text())
    full = results["arms"]["constant"]["plan"]["exaflops"]
    figure = Figure(figsize=(9, 3.2))
    panels = figure.subplots(1, 3, sharey=True)
    for axes, (score, title) in zip(panels, SCORES.items(), strict=True):
        for row, arm in enumerate(ARMS):
            top1 = [100 * run[score] for run in results["runs"] if run["arm"] == arm]
            colour = look.colours[2 if arm in ONE_SIZE else 0]
            axes.plot(top1, [row] * len(top1), "o", color=colour, alpha=0.45, markersize=5)
            axes.plot(np.mean(top1), row, "|", color=colour, markersize=18, markeredgewidth=3)
        axes.set(title=title, xlabel="top-1 in %")
        axes.grid(axis="x", alpha=0.25)
    costs = (results["arms"][arm]["plan"]["exaflops"] / full for arm in ARMS)
    labels = [f"{name}, {cost:.2f}" for name, cost in zip(ARMS.values(), costs, strict=True)]
    panels[0].set(yticks=range(len(ARMS)), yticklabels=labels)
    panels[0].invert_yaxis()
    figure.subplots_adjust(wspace=0.1)
    return figure


def longer(look: Look) -> Figure:
    """Draw the scores of the study's curricula for more and more passes."""
    arms = {"constant": 2, "low": 1, "etpp_hog": 0}  # and their colours
    studies = {times: json.loads(file.read_text())["runs"] for times, file in LONGER.items()}
    figure = Figure(figsize=(9, 3.2))
    panels = figure.subplots(1, 3)
    for axes, (score, title) in zip(panels, SCORES.items(), strict=True):
        for arm, colour in arms.items():
            found = {
                times: [100 * run[score] for run in runs if run["arm"] == arm and score in run]
                for times, runs in studies.items()
            }
            means = {times: np.mean(top1) for times, top1 in found.items() if top1}
            shade = look.colours[colour]
            axes.plot([*means], [*means.values()], color=shade, linewidth=2, label=ARMS[arm])
            for times, top1 in found.items():
                axes.plot([times] * len(top1), top1, "o", color=shade, alpha=0.45)
        axes.set(title=title, xlabel="times as many passes", xscale="log")
        axes.set_xticks([*LONGER], labels=[f"{times}" for times in LONGER])
        axes.minorticks_off()
        axes.grid(alpha=0.25)
    panels[0].set(ylabel="top-1 in %")
    panels[0].legend(loc="lower right", frameon=False, fontsize=8)
    return figure


def frontier(look: Look) -> Figure:
    """Draw what each recipe of the search gains against constant size, over its seconds."""
    results = json.loads(FRONTIER.read_text())
    runs = {(run["arm"], run["seed"]): run for run in results["runs"]}
    figure = Figure(figsize=(9, 3.8))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, score in zip(panels, ("fine-tuned", "linear"), strict=True):
        axes.axhline(0, color=look.text, linewidth=1)
        for seeds, arms, colour in (
            ("search_seeds", [*results["recipes"]], look.colours[2]),
            ("seeds", results["finalists"], look.colours[0]),
        ):
            for arm in arms:
                pairs = [
                    (runs[arm, seed], runs["constant", seed])
                    for seed in results[seeds]
                    if (arm, seed) in runs and ("constant", seed) in runs
                ]
                if pairs:
                    _draw_recipe(axes, pairs, score, colour, [*results["recipes"]].index(arm) + 1)
        axes.set(title=SCORES[score], xlabel="seconds of pretraining (constant size: 1)")
        axes.set(xlim=(0, None))
        axes.grid(alpha=0.25)
    panels[0].set(ylabel="top-1 above constant size in points")
    for name, number in (("search", 2), ("found, new seeds", 0)):
        panels[0].plot([], [], "o", color=look.colours[number], label=name)
    panels[0].legend(loc="best", frameon=False, fontsize=8)
    figure.subplots_adjust(wspace=0.08)
    return figure


def _draw_recipe(
    axes: Axes,
    pairs: list[tuple[dict[str, Any], dict[str, Any]]],
    score: str,
    colour: str,
    number: int,
) -> None:
    """Draw the mean of a recipe's runs beside those of constant size, and the range of many."""
    gains = [100 * (run[score] - constant[score]) for run, constant in pairs]
    times = [run["pretraining"]["seconds"] / c["pretraining"]["seconds"] for run, c in pairs]
    place = float(np.median(times)), float(np.mean(gains))
    if len(pairs) > 2:
        axes.vlines(place[0], min(gains), max(gains), color=colour, alpha=0.35)
    axes.plot(*place, "o", color=colour, markersize=5)
    axes.annotate(str(number), place, xytext=(4, 3), textcoords="offset points", fontsize=8)


def _style(look: Look) -> dict[str, object]:
    """Return the settings of matplotlib for a look."""
    names = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    return {
        **dict.fromkeys(names, look.text),
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.fonttype": "path",
        "svg.hashsalt": "mae-et",
    }
