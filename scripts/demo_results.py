"""Summarise the demo's three runs: a table on the screen, and results.json beside them.

python scripts/demo_results.py runs/demo
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch
from support.metrics import totals_by_size

from mae_et.runs import Run


def stages(run: Path) -> list[dict[str, Any]]:
    """Images, seconds and images per second at each input size, in order."""
    return [
        {
            "size": size,
            "images": total.images,
            "seconds": total.seconds,
            "images_per_s": total.images / total.seconds,
        }
        for size, total in totals_by_size(run).items()
    ]


def classification(run: Path) -> dict[str, float]:
    """Top-1 accuracy after the last step (the best was chosen by looking at these images)."""
    seconds = sum(total.seconds for total in totals_by_size(run).values())
    return {"top1": Run(run).top1_history()[-1], "seconds": seconds}


def summarise(folder: Path) -> dict[str, Any]:
    """What results.json holds."""
    pretraining = stages(folder / "pretrain")
    seconds = sum(stage["seconds"] for stage in pretraining)
    images = sum(stage["images"] for stage in pretraining)
    at_full_size = images / pretraining[-1]["images_per_s"]
    return {
        "pretraining": {
            "stages": pretraining,
            "seconds": seconds,
            "seconds_at_full_size_estimated": at_full_size,
            "time_saved": at_full_size / seconds,
        },
        "finetuned": classification(folder / "finetuned"),
        "from_scratch": classification(folder / "scratch"),
        "machine": f"{platform.machine()}, torch {torch.__version__}, "
        f"{'cuda' if torch.cuda.is_available() else f'{torch.get_num_threads()} CPU threads'}",
    }


def table(results: dict[str, Any]) -> str:
    """The results as text."""
    pretraining = results["pretraining"]
    images = sum(stage["images"] for stage in pretraining["stages"])
    seconds, at_full_size = pretraining["seconds"], pretraining["seconds_at_full_size_estimated"]
    lines = ["pretraining      images   seconds   images/s"]
    lines += [
        f"  size {stage['size']:<8} {stage['images']:>8} {stage['seconds']:>9.1f} "
        f"{stage['images_per_s']:>10.0f}"
        for stage in pretraining["stages"]
    ]
    lines += [
        f"  all stages    {images:>8} {seconds:>9.1f} {images / seconds:>10.0f}",
        f"  at full size  {images:>8} {at_full_size:>9.1f} {images / at_full_size:>10.0f}   "
        f"(estimated: the curriculum is {at_full_size / seconds:.2f}x faster)",
        "",
        "classification, 100 labels per class    top-1   seconds",
    ]
    for title, name in (("pretrained, fine-tuned", "finetuned"), ("from scratch", "from_scratch")):
        run = results[name]
        lines.append(f"  {title:<35} {run['top1']:>8.2%} {run['seconds']:>9.1f}")
    return "\n".join(lines)


def main() -> None:
    """Write results.json, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds pretrain, finetuned and scratch")
    folder = parser.parse_args().folder
    results = summarise(folder)
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"\n{table(results)}")
    print(f"\nresults:  {folder / 'results.json'}\npictures: {folder / 'reconstructions.png'}")


if __name__ == "__main__":
    main()
