"""The tables of `scripts/study_frontier.py`, from its results alone, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean, median
from typing import Any

from .frontier import CHOSEN_BY, shown
from .markdown import markdown
from .seeds import paired_difference, spread
from .table import METRICS, scores_by_seed, seconds_ratios

LOSS = 0.5
"""The loss in points that the intervals of a recipe that reaches constant size leave out."""

SEARCH = """\
The search, in its order: FLOPs and seconds of pretraining relative to constant, and the means over
its seeds of top-1 in % on other training images; what it came to is bold"""
FOUND = """\
What it found, with new seeds: FLOPs, how many times fewer seconds than constant (the median and the
range over the seeds), and top-1 in % on the test images, mean ± standard deviation"""
GAINS = """\
Differences to constant in points, paired by seed, with 95 % intervals (Student's t). They are about
other seeds, not about other test images; about one in 20 misses by chance"""


def tables(results: Mapping[str, Any]) -> str:
    """Return all tables as text.

    Args:
        results: What `study_frontier.Frontier.report` returns.
    """
    shown = {SEARCH: _search(results), FOUND: _found(results), GAINS: _gains(results)}
    waiting = len(results["still to be tried"])
    end = [f"Still to be tried before the search goes on: {waiting} recipes."] if waiting else []
    return "\n\n".join([*(f"{title}:\n\n{table}" for title, table in shown.items()), *end])


def part(results: Mapping[str, Any], seeds: str) -> dict[str, Any]:
    """Return the results of some seeds alone: of `search_seeds`, or of `seeds`."""
    return {**results, "runs": [run for run in results["runs"] if run["seed"] in results[seeds]]}


def _search(results: Mapping[str, Any]) -> str:
    searched = part(results, "search_seeds")
    settings = next(iter(results["recipes"].values()))["settings"]
    rows = []
    for number, arm in enumerate(["constant", *results["recipes"]]):
        own = results["recipes"].get(arm)
        values = [""] * len(settings) if own is None else [*map(_plain, own["settings"].values())]
        scores = {metric: [*scores_by_seed(searched, arm, metric).values()] for metric in METRICS}
        if all(scores.values()):
            means = [f"{100 * mean(scores[metric]):.2f}" for metric in METRICS]
            both = f"{100 * mean([mean(scores[metric]) for metric in CHOSEN_BY]):.2f}"
            ratios = seconds_ratios(searched, arm)
            costs = [
                f"{own['flops']:.2f}" if own else "1",
                f"{median(ratios):.2f}" if ratios else "-",
            ]
            name = "constant" if own is None else str(number)
            row = [name, *values, *costs, *means, both]
            rows.append(
                [f"**{cell}**" if arm == results["best"] and cell else cell for cell in row]
            )
    header = ["", *settings, "FLOPs", "seconds", *METRICS, f"mean of {' and '.join(CHOSEN_BY)}"]
    return markdown(header, rows)


def _plain(value: Any) -> str:
    """Return the value of a setting, in which JSON has lists for tuples."""
    return shown(tuple(value) if isinstance(value, list) else value)


def _found(results: Mapping[str, Any]) -> str:
    found = part(results, "seeds")
    rows = []
    for arm in ("constant", *results["finalists"]):
        flops = results["recipes"][arm]["flops"] if arm in results["recipes"] else 1
        times = sorted(1 / ratio for ratio in seconds_ratios(found, arm))
        fewer = f"{median(times):.1f} ({times[0]:.1f} to {times[-1]:.1f})" if times else "-"
        scores = [spread([*scores_by_seed(found, arm, metric).values()]) for metric in METRICS]
        rows.append([number(results, arm), f"{flops:.2f}", fewer, *scores])
    return markdown(["", "FLOPs", "times fewer seconds", *METRICS], rows)


def _gains(results: Mapping[str, Any]) -> str:
    found = part(results, "seeds")
    rows = []
    for arm in results["finalists"]:
        gains = {
            metric: paired_difference(
                *(scores_by_seed(found, name, metric) for name in (arm, "constant"))
            )
            for metric in METRICS
        }
        cells = [
            f"{g.mean:+.2f} [{g.low:+.2f}, {g.high:+.2f}]" if g else "-" for g in gains.values()
        ]
        needed = [gains[metric] for metric in CHOSEN_BY]
        is_reached = all(gain is not None and gain.low > -LOSS for gain in needed)
        rows.append([number(results, arm), *cells, "yes" if is_reached else "not shown"])
    return markdown(["", *METRICS, f"loses less than {LOSS} in {' and '.join(CHOSEN_BY)}"], rows)


def number(results: Mapping[str, Any], arm: str) -> str:
    """Return the number of a recipe in the order of the search; constant has its name."""
    return "constant" if arm == "constant" else str([*results["recipes"]].index(arm) + 1)
