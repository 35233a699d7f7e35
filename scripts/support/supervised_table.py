"""The tables of `scripts/study_supervised.py`, from its results alone, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean, median
from typing import Any

from .markdown import markdown
from .seeds import paired_difference, spread
from .supervised import ALL_ARMS

Cells = Mapping[int, Mapping[str, Any]]
"""Seed -> what is kept of a run."""

Found = Mapping[str, Mapping[str, Cells]]
"""Family -> arm -> cells."""

TITLES = {
    "top1": "Top-1 in %, mean ± standard deviation over the seeds",
    "recalibrated": "The same after the batch norms have taken their statistics from training "
    "images at full size that are not augmented",
    "difference": "Difference to constant in points (of et_still and et_long, to constant_still "
    "and constant_long), paired by seed, with 95 % intervals (Student's t). They are about other "
    "seeds, not about other test images; about one in 20 misses by chance",
    "saving": "What constant costs ÷ what the arm costs: FLOPs, as planned / CPU seconds of the "
    "training steps, as measured / the same with loading and augmentation (medians over the seeds)",
    "times": "CPU milliseconds per image of a training step by size, and of loading, in all runs",
    "curve": "Top-1 in % of constant after each tenth of its steps (means over the seeds)",
    "tuned": "What was tuned, for constant, on a fifth of the training images of the first seed",
}


def tables(results: Mapping[str, Any]) -> str:
    """Return all tables as text.

    Args:
        results: What `study_supervised.Study.report` returns.
    """
    found = {
        family: {
            arm: {int(seed): cell for seed, cell in cells.items()} for arm, cells in arms.items()
        }
        for family, arms in results["cells"].items()
    }
    used = [arm for arm in ALL_ARMS if any(arm in arms for arms in found.values())]
    others = [arm for arm in used if arm != "constant"]
    shown = {
        "top1": _grid(found, used, lambda arms, arm: _spread(arms[arm], "top1")),
        "recalibrated": _grid(
            {family: arms for family, arms in found.items() if _has(arms, "recalibrated")},
            used,
            lambda arms, arm: _spread(arms[arm], "recalibrated"),
        ),
        "difference": _grid(found, others, _difference),
        "saving": _grid(found, others, _saving),
        "times": _times(found),
        "curve": _curves(found),
        "tuned": _tuned(results["tuned"]),
    }
    return "\n\n".join(f"{TITLES[name]}:\n\n{table}" for name, table in shown.items() if table)


def _grid(
    found: Found, arms: Sequence[str], show: Callable[[Mapping[str, Cells], str], str]
) -> str:
    """Return a table of families by arms; nothing without families."""
    rows = [
        [family, *(show(of_family, arm) if arm in of_family else "-" for arm in arms)]
        for family, of_family in found.items()
    ]
    return markdown(["", *arms], rows) if rows else ""


def _has(arms: Mapping[str, Cells], key: str) -> bool:
    return any(key in cell for cells in arms.values() for cell in cells.values())


def _spread(cells: Cells, key: str) -> str:
    return spread([cell[key] for cell in cells.values() if key in cell])


def _difference(arms: Mapping[str, Cells], arm: str) -> str:
    first, second = (
        {seed: cell["top1"] for seed, cell in arms.get(name, {}).items()}
        for name in (arm, ALL_ARMS[arm].against)
    )
    found = paired_difference(first, second)
    if found:
        return f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"
    seeds = first.keys() & second.keys()
    return "".join(f"{100 * (first[seed] - second[seed]):+.2f}" for seed in seeds) or "-"


def _saving(arms: Mapping[str, Cells], arm: str) -> str:
    cells, others = arms[arm], arms.get(ALL_ARMS[arm].against, {})
    seeds = cells.keys() & others.keys()
    costs: list[Callable[[Mapping[str, Any]], float]] = [
        lambda cell: float(cell["exaflops"]),
        lambda cell: sum(part["step_seconds"] for part in cell["sizes"].values()),
        lambda cell: float(cell["cpu_seconds"]),
    ]
    ratios = [[cost(others[seed]) / cost(cells[seed]) for seed in seeds] for cost in costs]
    return " / ".join(f"{median(values):.2f}" for values in ratios) if seeds else "-"


def _times(found: Found) -> str:
    """Return times over images, those of all runs together."""
    columns: dict[str, dict[str, list[float]]] = {}
    for family, arms in found.items():
        totals = columns.setdefault(family, {})
        cells = [cell["sizes"] for of_arm in arms.values() for cell in of_arm.values()]
        for size, part in (item for sizes in cells for item in sizes.items()):
            for name, key in ((f"{size} px", "step_seconds"), ("loading", "loading_seconds")):
                total = totals.setdefault(name, [0.0, 0.0])
                total[0] += 1000 * part[key]
                total[1] += part["images"]
    heads = sorted({name for totals in columns.values() for name in totals})
    rows = [
        [family, *(f"{t[h][0] / t[h][1]:.2f}" if h in t else "-" for h in heads)]
        for family, t in columns.items()
    ]
    return markdown(["", *heads], rows)


def _curves(found: Found) -> str:
    rows = []
    for family, arms in found.items():
        curves = [cell["curve"] for cell in arms.get("constant", {}).values()]
        if curves:
            points = zip(*curves, strict=True)
            rows.append([family, *(f"{100 * mean(point):.2f}" for point in points)])
    return markdown(["", *map(str, range(1, len(rows[0])))], rows) if rows else ""


def _tuned(tuned: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [
            family,
            f"{found['rate']:g}",
            f"{found['drop_path']:g}",
            ", ".join(
                f"{rate:g} and {drop_path:g}: {100 * top1:.2f}"
                for rate, drop_path, top1 in found["trials"]
            ),
        ]
        for family, found in tuned.items()
    ]
    return markdown(["", "peak rate", "drop path", "top-1 in % by rate and drop path"], rows)
