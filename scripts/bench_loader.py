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
import json
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import datasets
import torch
from PIL import Image
from timm.data import create_transform
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from finetune import config as sections
from finetune.data import Augmentation, mend_posterize
from mae_et import data
from mae_et.config.data import IMAGENET_MEAN, IMAGENET_STD
from mae_et.data.images import encoded

BATCH_SIZE = 50
CROP_SCALE = (0.2, 1.0)
SIMPLEJPEG = encoded.simplejpeg


def make_photos(source: Path, target: Path) -> int:
    """Re-encode the photos of a folder; how many there are."""
    files = [f for f in sorted(source.rglob("*.jpg")) if "segmented" not in f.name]
    (target / "photos").mkdir()
    for index, file in enumerate(files):
        with Image.open(file) as image:
            scale = (500 * 375 / (image.width * image.height)) ** 0.5
            size = (round(image.width * scale), round(image.height * scale))
            photo = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        photo.save(target / "photos" / f"{index:04d}.jpg", quality=90)
    return len(files)


def torchvision_transform() -> transforms.Compose:
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(
                224, CROP_SCALE, interpolation=transforms.InterpolationMode.BICUBIC
            ),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )


class Repeated(torch.utils.data.Dataset[Any]):
    """A data set, as often as it takes to have `length` samples."""

    def __init__(self, samples: Any, length: int) -> None:
        self.samples, self.length = samples, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.samples[index % len(self.samples)]


def with_torchvision(folder: Path, number: int, workers: int) -> Iterable[Any]:
    samples = ImageFolder(str(folder), torchvision_transform())
    return DataLoader(Repeated(samples, number), BATCH_SIZE, num_workers=workers)


def with_transformers(folder: Path, number: int, workers: int) -> Iterable[Any]:
    rows = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train")
    transform = torchvision_transform()

    def preprocess(examples: dict[str, Any]) -> dict[str, Any]:
        images = [image.convert("RGB") for image in examples["image"]]
        return {"pixel_values": [transform(image) for image in images]}

    rows.set_transform(preprocess)
    return DataLoader(
        Repeated(rows, number),
        BATCH_SIZE,
        num_workers=workers,
        collate_fn=lambda samples: torch.stack([sample["pixel_values"] for sample in samples]),
    )


def pretraining(size: int) -> data.Transform:
    return data.PretrainTransform((size, size), 196, CROP_SCALE)


def make_stream(folder: Path, transform: data.Transform) -> data.Samples:
    images = data.ImageTable(data.load_splits(f"imagefolder:{folder}")["train"], None, 3)
    return data.Samples(images, transform, seed=0)


def ours(
    transform: data.Transform, decoder: Any = SIMPLEJPEG
) -> Callable[[Path, int, int], Iterable[dict[str, Any]]]:
    def load(folder: Path, number: int, workers: int) -> Iterable[dict[str, Any]]:
        batches = data.StepBatches(
            0,
            number // BATCH_SIZE,
            clock=data.SampleClock(BATCH_SIZE),
            chunk_size=BATCH_SIZE,
            rank=0,
            world=1,
        )
        stream = make_stream(folder, transform)
        encoded.simplejpeg = decoder
        loader = data.make_loader(stream, batches, workers, pin_memory=False)
        if workers:  # forked as those of the others are: with the decoder, and their time counts
            loader.multiprocessing_context = "fork"
        return loader

    return load


AUGMENT = sections.AugmentConfig()


def with_timm(folder: Path, number: int, workers: int) -> Iterable[Any]:
    transform = create_transform(
        (3, 224, 224),
        is_training=True,
        scale=AUGMENT.crop_scale,
        color_jitter=None,
        auto_augment=AUGMENT.randaug,
        interpolation="bicubic",
        re_prob=AUGMENT.erase,
        re_mode="pixel",
    )
    mend_posterize(transform.transforms)
    samples = Repeated(ImageFolder(str(folder), transform), number)
    return DataLoader(samples, BATCH_SIZE, num_workers=workers)


def fine_tuning(size: int) -> data.Transform:
    config = sections.FinetuneConfig(
        checkpoint="none",
        model=sections.ClassifierConfig(),
        curriculum=sections.SupervisedCurriculumConfig(),
        data=sections.DataConfig(path="imagefolder:photos"),
        augment=AUGMENT,
        optim=sections.FinetuneOptimConfig(),
        probe=sections.ProbeConfig(),
        run=sections.FinetuneRunConfig(),
    )
    augment = Augmentation(config, size, AUGMENT.randaug)
    return lambda image, index, number: {**augment(image)}


PIPELINES: dict[str, Callable[[Path, int, int], Iterable[Any]]] = {
    "torchvision 224": with_torchvision,
    "transformers 224": with_transformers,
    "ours 224": ours(pretraining(224)),
    "ours 224, Pillow": ours(pretraining(224), None),
    "ours 96": ours(pretraining(96)),
    "ours 96, Pillow": ours(pretraining(96), None),
    "timm 224": with_timm,
    "fine-tuning 224": ours(fine_tuning(224)),
    "fine-tuning 96": ours(fine_tuning(96)),
}


def cpu_seconds() -> float:
    """Of this process, and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def seconds(loader: Iterable[Any]) -> tuple[float, float]:
    """CPU and wall seconds of a pass over a loader, with its workers, but without opening the data
    set, which a run does once.
    """
    start, wall = cpu_seconds(), time.perf_counter()
    for _ in loader:
        pass
    return cpu_seconds() - start, time.perf_counter() - wall


def profile(folder: Path, size: int, rounds: int) -> dict[str, float]:
    """CPU milliseconds per image of the parts of one of our samples."""
    encoded.simplejpeg = SIMPLEJPEG
    stream = make_stream(folder, pretraining(size))
    images = stream.images
    files = [images[row] for row in range(len(images))]
    boxes = []
    for row, file in enumerate(files):
        data.seed_generators(0, row)
        boxes.append(data.random_box(*file.size, CROP_SCALE))
    target = (size, size)
    rows = range(len(images))

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
        "whole sample": stream.__getitem__,
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
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in PIPELINES}
            for round_number in range(options.rounds + 1):
                for pipeline, load in PIPELINES.items():
                    measured = seconds(load(folder, number, workers))
                    if round_number:  # the first warms up
                        times[pipeline].append(measured)
            print(f"\n{f'{workers} workers':<20}{'images/s/core':>14}{'÷ torchvision':>15}", end="")
            print(f"{'÷ transformers':>16}{'÷ timm':>8}{'images/s (wall)':>17}")
            for pipeline, pairs in times.items():
                line: dict[str, Any] = {"pipeline": pipeline, "workers": workers}
                line["images_per_core_second"] = number / statistics.median(c for c, _ in pairs)
                line["images_per_second"] = number / statistics.median(w for _, w in pairs)
                for other in ("torchvision", "transformers", "timm"):
                    line[f"times_{other}"] = statistics.median(
                        theirs / mine
                        for (theirs, _), (mine, _) in zip(times[f"{other} 224"], pairs, strict=True)
                    )
                results.append(line)
                print(
                    f"{pipeline:<20}{line['images_per_core_second']:>14.0f}"
                    f"{line['times_torchvision']:>15.2f}{line['times_transformers']:>16.2f}"
                    f"{line['times_timm']:>8.2f}"
                    f"{line['images_per_second']:>17.0f}"
                )
        profiles = {size: profile(folder, size, options.rounds) for size in (224, 96)}
        print("\nCPU ms per image    " + "".join(f"{size:>8}" for size in profiles))
        for part in profiles[224]:
            print(f"{part:<20}" + "".join(f"{p[part]:>8.3f}" for p in profiles.values()))
    if options.json:
        options.json.write_text(json.dumps({"pipelines": results, "profile": profiles}, indent=2))


if __name__ == "__main__":
    main()
