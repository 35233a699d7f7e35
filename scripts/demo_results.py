"""Summarise the demo's three runs: a table on the screen, and results.json beside them.

python scripts/demo_results.py runs/demo
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from mae_et.runs import Run


def stages(run: Path) -> list[dict[str, Any]]:
    """Images, seconds and images per second at each input size, in order."""
    by_size: dict[int, dict[str, Any]] = {}
    for line in Run(run).read_metrics():
        if "loss" in line:
            empty = {"size": line["size"], "images": 0, "seconds": 0}
            stage = by_size.setdefault(line["size"], empty)
            stage["images"] += line["images"]
            stage["seconds"] += line["seconds"]
    for stage in by_size.values():
        stage["images_per_s"] = stage["images"] / stage["seconds"]
    return list(by_size.values())


def accuracy(run: Path) -> float:
    """Top-1 accuracy after the last step. (The best step was chosen by looking at these images.)"""
    return Run(run).top1_history()[-1]


def training_seconds(run: Path) -> float:
    return sum(line["seconds"] for line in Run(run).read_metrics() if "loss" in line)


def main(folder: Path) -> None:
    pretraining = stages(folder / "pretrain")
    seconds = sum(stage["seconds"] for stage in pretraining)
    images = sum(stage["images"] for stage in pretraining)
    at_full_size = images / pretraining[-1]["images_per_s"]
    results = {
        "pretraining": {
            "stages": pretraining,
            "seconds": seconds,
            "seconds_at_full_size_estimated": at_full_size,
            "time_saved": at_full_size / seconds,
        },
        "finetuned": {
            "top1": accuracy(folder / "finetuned"),
            "seconds": training_seconds(folder / "finetuned"),
        },
        "from_scratch": {
            "top1": accuracy(folder / "scratch"),
            "seconds": training_seconds(folder / "scratch"),
        },
        "machine": f"{platform.machine()}, torch {torch.__version__}, "
        f"{'cuda' if torch.cuda.is_available() else f'{torch.get_num_threads()} CPU threads'}",
    }
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")

    print("\npretraining      images   seconds   images/s")
    for stage in pretraining:
        print(
            f"  size {stage['size']:<8} {stage['images']:>8} {stage['seconds']:>9.1f} "
            f"{stage['images_per_s']:>10.0f}"
        )
    print(f"  all stages    {images:>8} {seconds:>9.1f} {images / seconds:>10.0f}")
    print(
        f"  at full size  {images:>8} {at_full_size:>9.1f} {images / at_full_size:>10.0f}   "
        f"(estimated: the curriculum is {at_full_size / seconds:.2f}x faster)"
    )
    print("\nclassification, 100 labels per class    top-1   seconds")
    for title, name in (("pretrained, fine-tuned", "finetuned"), ("from scratch", "from_scratch")):
        run: Any = results[name]
        print(f"  {title:<35} {run['top1']:>8.2%} {run['seconds']:>9.1f}")
    print(f"\nresults:  {folder / 'results.json'}\npictures: {folder / 'reconstructions.png'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
