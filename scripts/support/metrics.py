"""Where the steps of a run spent their time, by its metrics.jsonl."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mae_et.runs import read_metrics


@dataclass
class SizeTotal:
    """Training at one input size, without evaluations and checkpoints."""

    images: int = 0
    seconds: float = 0.0


def totals_by_size(run: Path) -> dict[int, SizeTotal]:
    """Input size in pixels -> what its training steps came to, in order of training."""
    totals: dict[int, SizeTotal] = {}
    for line in read_metrics(run):
        if "loss" in line:
            total = totals.setdefault(line["size"], SizeTotal())
            total.images += line["images"]
            total.seconds += line["seconds"]
    return totals
