"""Seconds and memory to open a folder of images, beside torchvision and `datasets`.

    python scripts/bench_folders.py [--files 20000 200000] [--rounds 5] [--json FILE]

The files are empty, in 1,000 folders of classes in a temporary folder. Each opening is a process of
its own, after its imports and a folder of one image; the readers alternate, and medians are
printed. Memory is what the peak of the process grows by. "To a worker" is what a loader worker is
sent. `datasets` takes minutes for the larger folder: it runs once (--datasets no leaves it out).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from support.runs import write_json
from support.timing import rotated

NUM_CLASSES = 1000

OPEN = """
import json, os, pickle, resource, sys, time
{imports}

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def open_images(root):
    return {call}

open_images(sys.argv[1])  # a folder of one image
before = peak()
start, cpu = time.perf_counter(), time.process_time()
images = open_images(sys.argv[2])
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
assert len(images) == int(sys.argv[3]), len(images)
sent = len(pickle.dumps(images)) / 2**20
print(json.dumps({{"s": seconds, "CPU s": cpu, "MiB": peak() - before, "MiB to a worker": sent}}))
"""

READERS = {
    "mae_et": (
        "from mae_et.data import ImageTable, load_splits",
        "ImageTable(load_splits(root)['train'], None, 3)",
    ),
    "mae_et, with digest": (
        "from mae_et.data import ImageTable, digest_images, load_splits",
        "(images := ImageTable(load_splits(root)['train'], None, 3), digest_images(images))[0]",
    ),
    "torchvision": ("from torchvision.datasets import ImageFolder", "ImageFolder(root)"),
    "datasets": (
        "import datasets",
        "datasets.load_dataset('imagefolder', data_dir=root, split='train', cache_dir=root + '-c')",
    ),
}
"""Reader -> its imports, and the expression that opens a folder."""


def make_folder(root: Path, number: int, num_classes: int = NUM_CLASSES) -> None:
    for label in range(num_classes):
        folder = root / f"class_{label:04d}"
        folder.mkdir(parents=True)
        for index in range(number // num_classes):
            (folder / f"n{label:08d}_{index:06d}.JPEG").touch()


def open_once(reader: str, root: Path, number: int) -> dict[str, float]:
    imports, call = READERS[reader]
    script = OPEN.format(imports=imports, call=call)
    command = [sys.executable, "-c", script, str(root / "tiny"), str(root / "images"), str(number)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(number: int, rounds: int, with_datasets: bool) -> dict[str, dict[str, float]]:
    """Return the medians of each reader."""
    results: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_folder(root / "tiny", 1, num_classes=1)
        make_folder(root / "images", number)
        readers = [name for name in READERS if name != "datasets"]
        for turn in range(-1, rounds):  # one round to warm up
            for reader in rotated(readers, turn):
                result = open_once(reader, root, number)
                if turn >= 0:
                    results.setdefault(reader, []).append(result)
        if with_datasets:
            results["datasets"] = [open_once("datasets", root, number)]
    return {
        reader: {key: statistics.median(one[key] for one in several) for key in several[0]}
        for reader, several in results.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--datasets", choices=("yes", "no"), default="yes")
    parser.add_argument("--json", type=Path, help="write the medians to this file")
    options = parser.parse_args()
    results = {}
    for number in options.files:
        results[str(number)] = measure(number, options.rounds, options.datasets == "yes")
        for reader, values in results[str(number)].items():
            shown = ", ".join(f"{value:.3g} {key}" for key, value in values.items())
            print(f"{number:,} files, {reader}: {shown}")
    if options.json:
        write_json(options.json, results)


if __name__ == "__main__":
    main()
