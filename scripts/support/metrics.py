"""Read from a run's metrics where its steps spent their time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mae_et.runs import Run


@dataclass
class SizeTotal:
    """Training at one input size, without evaluations and checkpoints."""

    images: int = 0
    seconds: float = 0.0


def totals_by_size(folder: Path) -> dict[int, SizeTotal]:
    """Return input size in pixels -> totals of its training steps, in order of training."""
    totals: dict[int, SizeTotal] = {}
    for line in Run(folder).read_metrics():
        if "loss" in line:
            total = totals.setdefault(line["size"], SizeTotal())
            total.images += line["images"]
            total.seconds += line["seconds"]
    return totals
