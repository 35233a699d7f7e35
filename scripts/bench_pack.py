"""Images per second of training's loader on photos of 12 megapixels, and after `pack`.

    python scripts/bench_pack.py --photos DIR [--json FILE]

The photos are enlarged to 12 megapixels, in their own shape, and saved as JPEG of quality 92. The
loader is measured by turns before and after, on images from a folder and on those of
`parquet:DIR` as a run opens them. For packed pixels, the reference is decoding and resizing at full
resolution (Pillow, bicubic).
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from support.runs import write_json

from mae_et.data import ImageTable, load_splits, shrink
from mae_et.packing import PackSummary, pack
from mae_et.packing.speed import loader_speed

PIXELS = 12e6

SHRINKING: Any = import_module("mae_et.data.images.shrink")
"""The module, for what happens before JPEG."""


def enlarge_photos(source: Path, target: Path, number: int) -> None:
    """Enlarge some photos of a folder, evenly spaced in it."""
    files = [f for f in sorted(source.rglob("*.jpg")) if "segmented" not in f.name]
    for index, file in enumerate(files[:: max(1, len(files) // number)][:number]):
        with Image.open(file) as image:
            scale = (PIXELS / (image.width * image.height)) ** 0.5
            size = (round(image.width * scale), round(image.height * scale))
            photo = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        photo.save(target / f"{index:03d}.jpg", quality=92)


def speeds(folder: Path, summary: PackSummary, workers: int, rounds: int) -> dict[str, list[float]]:
    """Images per second of the loader before and after, in each round."""
    tables = {
        "before": ImageTable(load_splits(str(folder))["train"], None, 3),
        "after": ImageTable(load_splits(summary.path)["train"], None, 3),
    }
    found: dict[str, list[float]] = {name: [] for name in tables}
    for _ in range(rounds):
        for name, table in tables.items():
            found[name].append(loader_speed(table, 224, workers))
    return found


def differences(files: list[Path], short_side: int = 256, quality: int = 92) -> dict[str, float]:
    """Mean differences in grey levels to a resize at full resolution, and seconds of either."""
    found: dict[str, list[float]] = {}
    for file in files:
        content, start = file.read_bytes(), time.process_time()
        packed = shrink(content, file.name, short_side=short_side, quality=quality)
        middle = time.process_time()
        image = Image.open(io.BytesIO(content))
        scale = short_side / min(image.size)
        whole = image.resize(
            (round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC
        )
        end, reference = time.process_time(), np.asarray(whole, float)
        drafted = np.asarray(SHRINKING._resized(Image.open(io.BytesIO(content)), scale))
        pixels = np.asarray(Image.open(io.BytesIO(packed.content)))
        for name, value in {
            "ms of shrink": 1e3 * (middle - start),
            "ms at full resolution": 1e3 * (end - middle),
            "levels from the reference": np.abs(pixels - reference).mean(),
            "levels before JPEG": np.abs(drafted - reference).mean(),
        }.items():
            found.setdefault(name, []).append(float(value))
    return {name: statistics.mean(values) for name, values in found.items()}


def main() -> None:
    """Measure, and print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="a folder of .jpg files")
    parser.add_argument("--number", type=int, default=60, help="of photos")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    result: dict[str, Any] = {"load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "photos")
        folder.mkdir()
        enlarge_photos(options.photos, folder, options.number)
        start = time.perf_counter()
        summary = pack(str(folder), Path(name, "packed"), measure=False)
        result["pack seconds"] = time.perf_counter() - start
        print("\n".join(summary.lines()))
        result |= {"bytes before": summary.bytes_before, "bytes after": summary.bytes_after}
        result |= differences(sorted(folder.iterdir()))
        for workers in options.workers:
            found = speeds(folder, summary, workers, options.rounds)
            medians = {name: statistics.median(values) for name, values in found.items()}
            result |= {f"{name}, {workers} workers": value for name, value in medians.items()}
    for name, value in result.items():
        print(f"{name:<32}{value:>14,.2f}")
    if options.json:
        write_json(options.json, result)


if __name__ == "__main__":
    main()
