"""Images per second and core of the data path, against what other MAE code does.

    python scripts/bench_loader.py --photos DIR [--json FILE]

The photos are re-encoded to about 500 × 375 pixels (the area of 500 × 375, their own shape) at
quality 90, as in ImageNet. Seconds are those of the CPU, over all processes, so that other jobs on
the machine disturb little; the pipelines alternate in one run, and medians are printed.

- torchvision: the reference implementations' pipeline, on torchvision's ImageFolder
- transformers: set_transform as in run_mae.py
- ours: uint8 for the device to normalise, at 224, and at 96 with data.downsample loader; each also
  with Pillow alone, as without the extra `fast`
- timm, and ours in fine-tuning: RandomResizedCrop from 8 %, RandAug and random erasing
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, cast

import datasets
import torch
from PIL import Image
from support.pipelines import (
    BATCH_SIZE,
    CROP_SCALE,
    ENCODED,
    PIPELINES,
    SIMPLEJPEG,
    our_samples,
    pretraining,
)
from support.runs import write_json

from mae_et import data

OTHERS = ("torchvision", "transformers", "timm")


class Seconds(NamedTuple):
    """What a pass over a loader takes: seconds of the CPU, over all processes, and of the clock."""

    cpu: float
    wall: float


def make_photos(source: Path, target: Path) -> int:
    """Re-encode the photos of a folder; return how many there are."""
    files = [f for f in sorted(source.rglob("*.jpg")) if "segmented" not in f.name]
    (target / "photos").mkdir()
    for index, file in enumerate(files):
        with Image.open(file) as image:
            scale = (500 * 375 / (image.width * image.height)) ** 0.5
            size = (round(image.width * scale), round(image.height * scale))
            photo = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        photo.save(target / "photos" / f"{index:04d}.jpg", quality=90)
    return len(files)


def cpu_seconds() -> float:
    """CPU seconds of this process, and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def seconds_of(loader: Iterable[Any]) -> Seconds:
    """A pass over a loader, with its workers, but without opening the data set.

    A run opens it only once.
    """
    start, wall = cpu_seconds(), time.perf_counter()
    for _ in loader:
        pass
    return Seconds(cpu_seconds() - start, time.perf_counter() - wall)


def measure(folder: Path, number: int, workers: int, rounds: int) -> dict[str, list[Seconds]]:
    """The seconds of each pipeline in each round, after one round to warm up."""
    times: dict[str, list[Seconds]] = {name: [] for name in PIPELINES}
    for round_number in range(rounds + 1):
        for pipeline, load in PIPELINES.items():
            measured = seconds_of(load(folder, number, workers))
            if round_number:
                times[pipeline].append(measured)
    return times


def summarise(times: dict[str, list[Seconds]], number: int, workers: int) -> list[dict[str, Any]]:
    """A row per pipeline: images per second, and the median ratios to others within a round."""
    rows = []
    for pipeline, own in times.items():
        row: dict[str, Any] = {"pipeline": pipeline, "workers": workers}
        row["images_per_core_second"] = number / statistics.median(each.cpu for each in own)
        row["images_per_second"] = number / statistics.median(each.wall for each in own)
        for other in OTHERS:
            row[f"times_{other}"] = statistics.median(
                theirs.cpu / ours.cpu
                for theirs, ours in zip(times[f"{other} 224"], own, strict=True)
            )
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]], workers: int) -> str:
    """The rows as text."""
    header = f"{f'{workers} workers':<20}{'images/s/core':>14}{'÷ torchvision':>15}"
    lines = [f"{header}{'÷ transformers':>16}{'÷ timm':>8}{'images/s (wall)':>17}"]
    lines += [
        f"{row['pipeline']:<20}{row['images_per_core_second']:>14.0f}"
        f"{row['times_torchvision']:>15.2f}{row['times_transformers']:>16.2f}"
        f"{row['times_timm']:>8.2f}{row['images_per_second']:>17.0f}"
        for row in rows
    ]
    return "\n".join(lines)


def profile(folder: Path, size: int, rounds: int) -> dict[str, float]:
    """CPU milliseconds per image of the parts of one of our samples."""
    ENCODED.simplejpeg = SIMPLEJPEG
    samples = our_samples(folder, pretraining(size))
    images = samples.images
    rows = range(len(images))
    files = [cast(data.EncodedImage, images[row]) for row in rows]
    target, boxes = (size, size), []
    for row, file in enumerate(files):
        data.seed_generators(0, row)
        boxes.append(data.random_box(*file.size, CROP_SCALE))

    def draw(row: int) -> None:
        data.seed_generators(0, row)
        torch.rand(196)
        data.random_box(*files[row].size, CROP_SCALE)
        torch.rand(())

    def decode(row: int) -> None:
        file, box = files[row], boxes[row]
        file._decode_region(box, file._factor(box, target))

    parts: dict[str, Callable[[int], object]] = {
        "row and header": images.__getitem__,
        "seeds, noise, box": draw,
        "decode": decode,
        "decode and resize": lambda row: files[row].crop(boxes[row], target),
        "whole sample": samples.__getitem__,
    }
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, part in parts.items():
            start = time.process_time()
            for row in rows:
                part(row)
            times[name].append(1e3 * (time.process_time() - start) / len(rows))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Measure the pipelines and the parts of ours, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="a folder of .jpg files")
    parser.add_argument("--images", type=int, default=500, help="of each pipeline in each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    number = options.images // BATCH_SIZE * BATCH_SIZE

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        num_photos = make_photos(options.photos, folder)
        print(
            f"torch {torch.__version__}, simplejpeg {'yes' if SIMPLEJPEG else 'no'}, "
            f"{platform.machine()}, {num_photos} photos, median of {options.rounds} rounds of "
            f"{number} images"
        )
        results: list[dict[str, Any]] = []
        for workers in options.workers:
            times = measure(folder, number, workers, options.rounds)
            rows = summarise(times, number, workers)
            results += rows
            print(f"\n{table(rows, workers)}")
        profiles = {size: profile(folder, size, options.rounds) for size in (224, 96)}
    print("\nCPU ms per image    " + "".join(f"{size:>8}" for size in profiles))
    for part in profiles[224]:
        print(f"{part:<20}" + "".join(f"{p[part]:>8.3f}" for p in profiles.values()))
    if options.json:
        write_json(options.json, {"pipelines": results, "profile": profiles})


if __name__ == "__main__":
    main()
