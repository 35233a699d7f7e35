"""The table of `study.py`, from its results file alone: lines per arm, then per difference."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from .arms import ARMS
from .seeds import paired_difference, spread

METRICS = ("fine-tuned", "linear", "knn")
PAIRS = (
    ("constant", "none"),
    ("control", "constant"),
    ("et", "constant"),
    ("et", "control"),
    ("etpp", "constant"),
    ("etpp", "control"),
    ("etpp_hog", "constant"),
    ("etpp_hog", "etpp"),
    ("etpp_hog", "low"),
    ("low", "constant"),
    ("low", "control"),
    ("et", "low"),
    ("etpp", "low"),
    ("fast", "constant"),
)
COSTS = """\
FLOPs and seconds: of pretraining, relative to constant (seconds: of the same seed and machine).
Top-1 in %, mean ± standard deviation over the seeds."""
INTERVALS = """\
Differences in points, paired by seed, with 95 % intervals (Student's t). They are about other
seeds, not about other test images. About one interval in 20 misses by chance. "No difference shown"
does not say that arms are equal: nothing within an interval is excluded."""


def table(results: Mapping[str, Any]) -> str:
    """Return the table as text.

    Args:
        results: What `study.Study.report` returns.
    """
    lines = [COSTS, f"{'':<10}{'FLOPs':>7}{'seconds':>9}" + "".join(f"{m:>16}" for m in METRICS)]
    for arm in ARMS:
        ratios = seconds_ratios(results, arm)
        flops, seconds = 0.0, f"{median(ratios):.2f}" if ratios else "-"
        if arm != "none":
            exaflops = [results["arms"][name]["plan"]["exaflops"] for name in (arm, "constant")]
            flops = exaflops[0] / exaflops[1]
        scores = [spread([*scores_by_seed(results, arm, metric).values()]) for metric in METRICS]
        cells = "".join(f"{score:>16}" for score in scores)
        lines.append(f"{arm:<10}{flops:>7.2f}{seconds:>9}{cells}")
    lines += ["", INTERVALS]
    for first, second in PAIRS:
        for metric in METRICS:
            found = paired_difference(
                scores_by_seed(results, first, metric), scores_by_seed(results, second, metric)
            )
            if found:
                lines.append(
                    f"{f'{first} - {second}, {metric}':<32} {found.mean:+6.2f} "
                    f"[{found.low:+.2f}, {found.high:+.2f}], {found.seeds} seeds: {found.verdict}"
                )
    return "\n".join(lines)


def scores_by_seed(results: Mapping[str, Any], arm: str, metric: str) -> dict[int, float]:
    """Return seed -> accuracy in [0, 1]."""
    rows = (row for row in results["runs"] if row["arm"] == arm and metric in row)
    return {row["seed"]: row[metric] for row in rows}


def seconds_ratios(results: Mapping[str, Any], arm: str) -> list[float]:
    """Return the ratios to constant, over seeds that one machine trained in both arms."""
    rows = [row for row in results["runs"] if "pretraining" in row]
    seconds = {
        (row["arm"], row["seed"], row["machine"]): row["pretraining"]["seconds"] for row in rows
    }
    return [
        value / seconds["constant", seed, machine]
        for (name, seed, machine), value in seconds.items()
        if name == arm and ("constant", seed, machine) in seconds
    ]
