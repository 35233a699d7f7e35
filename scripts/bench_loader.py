"""Images per second and core of the data path, against what other MAE code and fast loaders do.

    python scripts/bench_loader.py --photos DIR [--whole] [--json FILE]

The photos are re-encoded to about 500 × 375 pixels (the area of 500 × 375, their own shape) at
quality 90, as in ImageNet, or stay as they are with --whole. Seconds are those of the CPU, over all
processes, so that other jobs on the machine disturb little; the pipelines alternate in one run, and
medians are printed, also of the ratios to ours within a round.

- torchvision: the reference implementations' pipeline, on torchvision's ImageFolder
- transformers: set_transform as in run_mae.py
- ours: uint8 for the device to normalise, at 224, and at 96 with data.downsample loader; each also
  with Pillow alone, as without the extra `fast`
- timm, and ours in fine-tuning: RandomResizedCrop from 8 %, RandAug and random erasing
- what is installed of the loaders in `support/fast_peers.py`: uint8 as ours
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import datasets
import torch
from PIL import Image
from support.fast_peers import fast_pipelines
from support.pipelines import (
    BATCH_SIZE,
    CROP_SCALE,
    ENCODED,
    PIPELINES,
    SIMPLEJPEG,
    Pipeline,
    our_samples,
    pretraining,
)
from support.runs import write_json
from support.timing import rotated

from mae_et import data


class Seconds(NamedTuple):
    """What a pass over a loader takes: seconds of the CPU, over all processes, and of the clock."""

    cpu: float
    wall: float


def make_photos(source: Path, target: Path, whole: bool = False) -> int:
    """Re-encode the photos of a folder, or copy them whole; return how many there are."""
    files = [f for f in sorted(source.rglob("*.jpg")) if "segmented" not in f.name]
    (target / "photos").mkdir(parents=True)
    for index, file in enumerate(files):
        if whole:
            shutil.copy(file, target / "photos" / f"{index:04d}.jpg")
            continue
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


def measure(
    pipelines: Mapping[str, Pipeline], folder: Path, number: int, workers: int, rounds: int
) -> dict[str, list[Seconds]]:
    """The seconds of each pipeline in each round, after one round to warm up."""
    times: dict[str, list[Seconds]] = {name: [] for name in pipelines}
    for round_number in range(-1, rounds):
        for name in rotated(list(pipelines), round_number):
            measured = seconds_of(pipelines[name](folder, number, workers))
            if round_number >= 0:
                times[name].append(measured)
    return times


def summarise(times: dict[str, list[Seconds]], number: int, workers: int) -> list[dict[str, Any]]:
    """A row per pipeline: images per second, and the median ratio of ours to it within a round."""
    rows = []
    for pipeline, seconds in times.items():
        row: dict[str, Any] = {"pipeline": pipeline, "workers": workers}
        row["images_per_core_second"] = number / statistics.median(each.cpu for each in seconds)
        row["images_per_second"] = number / statistics.median(each.wall for each in seconds)
        own = times.get(counterpart(pipeline))
        if own:
            pairs = list(zip(seconds, own, strict=True))
            row["ours_over_it"] = statistics.median(it.cpu / ours.cpu for it, ours in pairs)
            row["ours_over_it_wall"] = statistics.median(it.wall / ours.wall for it, ours in pairs)
        rows.append(row)
    return rows


def counterpart(pipeline: str) -> str:
    """The name of our pipeline that does the same work as one."""
    size = pipeline.partition(",")[0].rpartition(" ")[2]
    return f"{'fine-tuning' if pipeline.startswith(('timm', 'fine')) else 'ours'} {size}"


def table(rows: list[dict[str, Any]], workers: int) -> str:
    """The rows as text."""
    header = f"{f'{workers} workers':<20}{'images/s/core':>14}{'ours ÷ it':>11}"
    lines = [f"{header}{'images/s (wall)':>17}{'ours ÷ it (wall)':>18}"]
    lines += [
        f"{row['pipeline']:<20}{row['images_per_core_second']:>14.0f}"
        f"{row.get('ours_over_it', math.nan):>11.2f}{row['images_per_second']:>17.0f}"
        f"{row.get('ours_over_it_wall', math.nan):>18.2f}"
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
        data.seed_generators(0, row, torch_alone=True)
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
    parser.add_argument("--whole", action="store_true", help="do not make them smaller")
    parser.add_argument("--only", nargs="+", default=[""], help="what their names begin with")
    parser.add_argument("--images", type=int, default=500, help="of each pipeline in each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    number = options.images // BATCH_SIZE * BATCH_SIZE
    peers, lines = fast_pipelines((224, 96))
    chosen = {
        name: pipeline
        for name, pipeline in {**PIPELINES, **peers}.items()
        if name.startswith(tuple(options.only))
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "images"
        num_photos = make_photos(options.photos, folder, options.whole)
        print("\n".join(lines))
        print(
            f"torch {torch.__version__}, simplejpeg {'yes' if SIMPLEJPEG else 'no'}, "
            f"{platform.machine()}, {num_photos} photos, median of {options.rounds} rounds of "
            f"{number} images"
        )
        results: list[dict[str, Any]] = []
        for workers in options.workers:
            times = measure(chosen, folder, number, workers, options.rounds)
            rows = summarise(times, number, workers)
            results += rows
            print(f"\n{table(rows, workers)}", flush=True)
        profiles = {size: profile(folder, size, options.rounds) for size in (224, 96)}
    print("\nCPU ms per image    " + "".join(f"{size:>8}" for size in profiles))
    for part in profiles[224]:
        print(f"{part:<20}" + "".join(f"{p[part]:>8.3f}" for p in profiles.values()))
    if options.json:
        write_json(options.json, {"pipelines": results, "profile": profiles})


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # threads of FFCV may never end
